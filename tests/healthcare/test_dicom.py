"""The pixel path against pydicom's own, over its test files; refusals with a reason and without a name."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from quatrain.healthcare.dicom import DicomError, display_values, modality_values, read_dicom, windowed

GREY = [
    "CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_jpeg_ls_lossless.dcm", "693_J2KR.dcm",
    "RG1_UNCR.dcm", "RG3_J2KI.dcm", "JPEG-LL.dcm", "mlut_18.dcm", "vlut_04.dcm",
]  # fmt: skip


def file(name: str) -> Path:
    """Return a file of pydicom or of pydicom-data, none of which is fetched."""
    found = get_testdata_file(name, download=False)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return Path(str(found))


def made(path: Path, pixels: np.ndarray, **attributes: object) -> Path:
    """Write a DICOM file that names a patient."""
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.PatientName, dataset.PatientID, dataset.Modality = "Secret^Name", "ID-4711", "CR"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.PixelData = pixels.astype("<u2").tobytes()
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("name", GREY)
def test_values_are_pydicoms(name: str) -> None:
    """Modality LUT and VOI LUT give what pydicom's functions give, on every kind of file."""
    dataset = pydicom.dcmread(file(name))
    stored = dataset.pixel_array
    values = modality_values(stored, dataset)
    theirs = np.asarray(apply_modality_lut(stored, dataset), dtype=np.float64)
    np.testing.assert_allclose(values, theirs, rtol=0, atol=1e-6)
    if not ("WindowWidth" in dataset or dataset.get("VOILUTSequence")):
        return
    shown = np.asarray(apply_voi_lut(theirs.astype(np.int64) if "VOILUTSequence" in dataset else theirs, dataset))
    ours = display_values(values, dataset)
    # pydicom scales windows to the range of the stored type, tables to their own bits: only the scale differs.
    low, high = (
        (0.0, 0.0 + (1 << int(dataset.VOILUTSequence[0].LUTDescriptor[2])) - 1)
        if "VOILUTSequence" in dataset
        else _range(dataset)
    )
    np.testing.assert_allclose(ours, (shown - low) / (high - low), rtol=0, atol=1e-6)


def _range(dataset: pydicom.Dataset) -> tuple[float, float]:
    """Return the output range that pydicom's windowing uses: that of the stored type after rescaling."""
    bits, signed = int(dataset.BitsStored), bool(dataset.PixelRepresentation)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    return low * slope + intercept, high * slope + intercept


@pytest.mark.parametrize(("function", "expected"), [("LINEAR", 0.5019608), ("LINEAR_EXACT", 0.5), ("SIGMOID", 0.5)])
def test_windows_are_the_standards(function: str, expected: float) -> None:
    """At its centre a window is half open; the linear one is half a value off, as C.11.2.1.2 has it."""
    assert windowed(np.array([128.0]), centre=128, width=256, function=function)[0] == pytest.approx(expected, abs=1e-6)
    assert windowed(np.array([-1e6]), centre=128, width=256, function=function)[0] == pytest.approx(0, abs=1e-6)
    assert windowed(np.array([1e6]), centre=128, width=256, function=function)[0] == pytest.approx(1, abs=1e-6)


def test_monochrome1_is_inverted_after_the_window(tmp_path: Path) -> None:
    """The same values with the same window, seen as the negative."""
    pixels = np.arange(256).reshape(16, 16) * 16
    window = {"WindowCenter": 1500, "WindowWidth": 1000}
    plain = read_dicom(made(tmp_path / "a.dcm", pixels, **window)).pixels
    negative = read_dicom(made(tmp_path / "b.dcm", pixels, PhotometricInterpretation="MONOCHROME1", **window)).pixels
    assert np.array_equal(negative, 255 - plain)
    assert plain[0, 0] == 0
    assert plain[-1, -1] == 255


@pytest.mark.parametrize("name", ["color-px.dcm", "US1_UNCR.dcm", "SC_rgb.dcm", "SC_rgb_16bit.dcm"])
def test_colours_become_luma(name: str) -> None:
    """Ultrasound, palettes and captures are read as one grey image."""
    image = read_dicom(file(name))
    assert image.pixels.ndim == 2
    assert image.pixels.std() > 5


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"PhotometricInterpretation": "CIELAB"}, "expected one of MONOCHROME1"),
        ({"NumberOfFrames": 2}, "holds 2 frames"),
        ({"Rows": 0}, "expected at least one"),
        ({"Rows": 60000, "Columns": 60000}, "at most"),
        ({"PixelData": b"\0\0" * 7}, "cannot be decoded"),
        ({"SamplesPerPixel": 3}, "3 samples per pixel, MONOCHROME2 has 1"),
        ({"WindowCenter": 1, "WindowWidth": 0}, "at least 1 wide"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    tmp_path: Path, attributes: dict[str, object], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With the reason, and without a word about the patient in message or log."""
    path = made(tmp_path / "x.dcm", np.arange(64).reshape(8, 8), **attributes)
    with caplog.at_level(logging.DEBUG), pytest.raises(DicomError, match=words) as caught:
        read_dicom(path)
    assert "Secret" not in str(caught.value) + caplog.text
    assert "4711" not in str(caught.value) + caplog.text


def test_no_dicom_and_ruins_are_refused(tmp_path: Path) -> None:
    """Text, an empty file and a cut one each say what is wrong."""
    (tmp_path / "text.dcm").write_text("hello")
    (tmp_path / "empty.dcm").write_bytes(b"")
    whole = made(tmp_path / "whole.dcm", np.zeros((64, 64)))
    (tmp_path / "cut.dcm").write_bytes(whole.read_bytes()[:-3000])
    for name in ("text.dcm", "empty.dcm"):
        with pytest.raises(DicomError, match="is no DICOM file"):
            read_dicom(tmp_path / name)
    with pytest.raises(DicomError, match=r"cannot be decoded|cannot be read"):
        read_dicom(tmp_path / "cut.dcm")
