"""DICOM files as the grey image that a radiologist would see: modality LUT, then VOI LUT, then MONOCHROME1."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.errors import BadDataError
from quatrain.core.images import MAX_BYTES, MAX_PIXELS

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SUFFIXES = (".dcm", ".dicom", ".ima")
Floats = NDArray[np.float64]
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")
# ITU-R BT.601.
_LUMA = (0.299, 0.587, 0.114)
# Where neither window nor table is given: what lies between these shares of the pixels.
_SHOWN = (0.5, 99.5)
_N_COLOURS = 3


class DicomError(BadDataError):
    """A DICOM file that is not read: its text says why, and names no patient."""


@dataclass(frozen=True, kw_only=True)
class DicomImage:
    """One image without a word about whose it is: uint8 (H, W), dense bright."""

    pixels: NDArray[np.uint8]
    modality: str
    photometric: str
    # Rows per column as a share of 1: what is not square on film is not square here.
    pixel_aspect: float
    has_window: bool


def read_dicom(path: Path, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES) -> DicomImage:
    """Return the image in a DICOM file; raises DicomError for what is none, or holds several.

    Only what pixels need is read: no name, number or date leaves the file. Colours become luma.
    """
    size = path.stat().st_size
    if size > max_bytes:
        raise DicomError(f"{path.name} takes {size} bytes, at most {max_bytes} are read")
    dataset = _dataset(path)
    _require_one_image(dataset, path.name, max_pixels)
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    stored = _stored(dataset, path.name)
    if photometric in _COLOURS:
        shown = _luma(stored, dataset, photometric, path.name)
        has_window = True
    else:
        values = modality_values(stored, dataset)
        has_window = "WindowWidth" in dataset or "VOILUTSequence" in dataset
        shown = display_values(values, dataset) if has_window else _stretched(values, dataset)
    if not np.isfinite(shown).all():
        raise DicomError(f"{path.name} gives values that are not finite; its rescale slope or window is wrong")
    if photometric == "MONOCHROME1":
        # After the VOI LUT: a window is given in values, not in what is bright.
        shown = 1 - shown
    aspect = dataset.get("PixelAspectRatio") or (1, 1)
    return DicomImage(
        pixels=np.rint(np.clip(shown, 0, 1) * 255).astype(np.uint8),
        modality=str(dataset.get("Modality", ""))[:16],
        photometric=photometric,
        pixel_aspect=float(aspect[0]) / max(float(aspect[1]), 1e-9),
        has_window=has_window,
    )


def modality_values(stored: NDArray[Any], dataset: Dataset) -> Floats:
    """Return stored values in the machine's units (PS3.3, C.11.1): by a table, else by slope and intercept."""
    if dataset.get("ModalityLUTSequence"):
        return _looked_up(stored, dataset.ModalityLUTSequence[0])
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    return stored.astype(np.float64) * slope + intercept


def display_values(values: Floats, dataset: Dataset) -> Floats:
    """Return values on a scale of 0 to 1 (PS3.3, C.11.2): by the first VOI table, else by the first window."""
    if dataset.get("VOILUTSequence"):
        item = dataset.VOILUTSequence[0]
        return _looked_up(values, item) / ((1 << int(item.LUTDescriptor[2])) - 1)
    centre, width = _first(dataset.WindowCenter), _first(dataset.WindowWidth)
    return windowed(values, centre=centre, width=width, function=str(dataset.get("VOILUTFunction", "LINEAR")))


def windowed(values: Floats, *, centre: float, width: float, function: str = "LINEAR") -> Floats:
    """Return values through a window, 0 to 1: LINEAR, LINEAR_EXACT or SIGMOID (PS3.3, C.11.2.1.2 and C.11.2.1.3)."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        if width <= 0:
            raise DicomError(f"a window of function LINEAR_EXACT is wider than 0, got {width}")
        return np.clip((values - centre) / width + 0.5, 0, 1)
    if width < 1:
        raise DicomError(f"a linear window is at least 1 wide, got {width}")
    if width == 1:
        return (values > centre - 0.5).astype(np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


def is_dicom(path: Path) -> bool:
    """Return whether a file's name or preamble says DICOM."""
    if path.suffix.lower() in SUFFIXES:
        return True
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _dataset(path: Path) -> Dataset:
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        with _quiet():
            return pydicom.dcmread(path)
    except InvalidDicomError as error:
        raise DicomError(f"{path.name} is no DICOM file: the mark DICM after 128 bytes is missing") from error
    except Exception as error:
        raise DicomError(f"{path.name} is damaged: its DICOM header cannot be read ({type(error).__name__})") from error


def _require_one_image(dataset: Dataset, name: str, max_pixels: int) -> None:
    with _quiet():
        if "PixelData" not in dataset:
            raise DicomError(f"{name} holds no pixels; expected one image")
        try:
            rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
            frames, samples = int(dataset.get("NumberOfFrames") or 1), int(dataset.get("SamplesPerPixel") or 1)
        except (TypeError, ValueError) as error:
            raise DicomError(f"{name} says no size that can be read") from error
        photometric = str(dataset.get("PhotometricInterpretation", ""))
    if rows < 1 or columns < 1:
        raise DicomError(f"{name} is {columns} x {rows} pixels; expected at least one")
    if rows * columns * samples > max_pixels:
        raise DicomError(f"{name} is {columns} x {rows} pixels, at most {max_pixels} in all are decoded")
    if frames != 1:
        raise DicomError(f"{name} holds {frames} frames, expected one image; split it first")
    if photometric not in (*_GREY, *_COLOURS):
        known = ", ".join((*_GREY, *_COLOURS))
        raise DicomError(f"{name} has photometric interpretation {photometric[:20]!r}, expected one of {known}")
    expected = 1 if photometric in (*_GREY, "PALETTE COLOR") else _N_COLOURS
    if samples != expected:
        raise DicomError(f"{name} has {samples} samples per pixel, {photometric} has {expected}")


def _stored(dataset: Dataset, name: str) -> NDArray[Any]:
    try:
        with _quiet():
            stored = np.asarray(dataset.pixel_array)
    except Exception as error:
        raise DicomError(
            f"{name} cannot be decoded: its pixels are damaged, cut off, or of a transfer syntax without a decoder "
            f"({type(error).__name__})"
        ) from error
    if stored.ndim not in {2, 3} or not stored.size:
        raise DicomError(f"{name} decodes to shape {stored.shape}, expected one image")
    return stored


def _luma(stored: NDArray[Any], dataset: Dataset, photometric: str, name: str) -> Floats:
    from pydicom.pixels.processing import apply_color_lut

    try:
        rgb = np.asarray(apply_color_lut(stored, dataset) if photometric == "PALETTE COLOR" else stored, np.float64)
    except Exception as error:
        raise DicomError(f"{name} has a palette that cannot be applied ({type(error).__name__})") from error
    top = np.iinfo(stored.dtype).max if photometric != "PALETTE COLOR" else max(float(rgb.max()), 1.0)
    return np.asarray(rgb[..., :_N_COLOURS] @ np.array(_LUMA) / float(top))


def _looked_up(values: NDArray[Any], item: Dataset) -> Floats:
    """Return a LUT's entries: below its first and above its last input its ends hold (PS3.3, C.11.1.1)."""
    n_entries, first, bits = (int(value) for value in item.LUTDescriptor)
    n_entries = n_entries or 1 << 16
    raw = item.LUTData
    table = np.frombuffer(raw, dtype="<u2") if isinstance(raw, bytes) else np.asarray(raw)
    if len(table) < n_entries:
        # Entries of 8 bits may be packed two by two.
        table = np.frombuffer(table.astype("<u2").tobytes(), dtype=np.uint8)
    if len(table) < n_entries:
        raise DicomError(f"a look-up table promises {n_entries} entries and has {len(table)}")
    if first >= 1 << 15 and float(values.min()) < 0:
        first -= 1 << 16
    place = np.clip(np.rint(values).astype(np.int64) - first, 0, n_entries - 1)
    return np.asarray(table[:n_entries][place], np.float64) % (1 << max(bits, 1))


def _stretched(values: Floats, dataset: Dataset) -> Floats:
    """Return values between two percentiles of what is not padding."""
    padding = dataset.get("PixelPaddingValue")
    kept = values if padding is None else values[values != float(padding)]
    low, high = np.percentile(kept if kept.size else values, _SHOWN)
    if high <= low:
        low, high = float(values.min()), float(values.max())
    return np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)


def _first(value: Any) -> float:
    return float(value[0]) if hasattr(value, "__len__") and not isinstance(value, str) else float(value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep pydicom from writing values of the header, which may name a patient, into logs and warnings."""
    logger = logging.getLogger("pydicom")
    was_disabled = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = was_disabled
