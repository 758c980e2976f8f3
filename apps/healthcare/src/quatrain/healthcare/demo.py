"""The medical app on invented radiographs, for `quatrain demo`: a site change breaks coverage, 50 labels repair it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.demo import DemoRow
from quatrain.core.errors import UserError
from quatrain.core.store import Store
from quatrain.healthcare.score.run import ScoreConfig, score
from quatrain.healthcare.simulation.phantom import draw_phantoms, write_chest_phantoms

if TYPE_CHECKING:
    from quatrain.healthcare.train.config import TrainConfig

_LOG = logging.getLogger(__name__)
_SEED = 7
_SIDE = 48
_SIZES = {"n_train": 1200, "n_val": 400, "n_test": 1400, "side": _SIDE}
_MODEL = "healthcare/chest-phantoms"
# New images of the night, of both sites, and what hands and machines do to some of them.
_N_NEW = 12
_NEW_SIDE = 4 * _SIDE
# One file is cut off on purpose, so that the quarantine has something to show.
_MAX_BAD_RATIO = 0.3
_SHOWN = ("auc", "acc", "ece", "coverage_normal", "coverage_opacity")
_RESULTS = "results.json"


def demo(folder: Path) -> list[DemoRow]:
    """Return how a model does at its own site, at another one, and there after a repair with 50 labels.

    Leaves a published model, findings and a quarantine in the configured home. A second call in the same folder
    trains and scores nothing again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data, incoming, results = folder / "chest-phantoms.npz", folder / "incoming", folder / _RESULTS
    if not data.exists():
        part = data.with_name(data.name + ".part")
        write_chest_phantoms(part, seed=_SEED, **_SIZES)
        # Renamed last: a demo that was cut short draws again.
        part.replace(data)
    if not incoming.exists():
        _write_incoming(incoming)
    if not _is_current(results):
        results.write_text(json.dumps(_train(data)), encoding="utf-8")
    report = score(ScoreConfig(inputs=(incoming,), bundle=f"{_MODEL}@prod", max_bad_ratio=_MAX_BAD_RATIO))
    if report.exit_code:
        raise UserError(f"scoring the demo's images ended as {report.status}: {report.error}")
    document = json.loads(results.read_text(encoding="utf-8"))
    return [_row(row) for row in document["rows"]]


def _train(data: Path) -> dict[str, Any]:
    from quatrain.healthcare.evaluate.adapt import adapt
    from quatrain.healthcare.evaluate.config import AdaptConfig
    from quatrain.healthcare.train.run import train

    result = train(_train_config(data))
    own = next(row for row in result.rows if row.split == "val")
    repaired = adapt(AdaptConfig(data=str(data), bundle=f"{_MODEL}@prod", labels=50, repeats=50))
    after, before = repaired["rows"]
    alarm = repaired["site_shift"]
    _LOG.info("site b: alarm %s before any label, p = %.3f", alarm["is_alarm"], alarm["p_value"])
    told = "site alarm" if alarm["is_alarm"] else "no alarm"
    return {
        "version": result.version.reference if result.version else None,
        "site_shift": alarm,
        "rows": [
            {"name": "own site", "metrics": own.metrics, "intervals": own.intervals},
            {"name": f"other site, {told}", **_parts(before)},
            {"name": "other site, 50 labels", **_parts(after)},
        ],
    }


def _train_config(data: Path) -> TrainConfig:
    from quatrain.healthcare.models.settings import ModelSettings
    from quatrain.healthcare.train.config import TrainConfig

    usual = ModelSettings()
    fit = usual.fit.model_copy(update={"epochs": 5, "batch_size": 32})
    return TrainConfig(
        data=str(data),
        name=_MODEL,
        promote="yes",
        seed=_SEED,
        model=usual.model_copy(update={"members": 1, "width": 12, "fit": fit}),
        n_resamples=100,
    )


def _write_incoming(folder: Path) -> None:
    """Write a night's images: most as they should be, one negative, one turned, one as DICOM, one cut off."""
    from PIL import Image

    part = folder.with_name(folder.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    for site in ("a", "b"):
        drawn = draw_phantoms(_N_NEW, side=_NEW_SIDE, seed=_SEED + 100, site=site)
        for number, image in enumerate(drawn.images):
            Image.fromarray(image).save(part / f"site-{site}-{number:02d}.png")
    first, second = drawn.images[:2]
    Image.fromarray(255 - first).save(part / "negative.png")
    Image.fromarray(np.ascontiguousarray(np.rot90(second))).save(part / "turned.png")
    _write_dicom(part / "portable.dcm", drawn.images[2])
    (part / "upload-broken-off.png").write_bytes((part / "site-a-00.png").read_bytes()[:2000])
    part.replace(folder)


def _write_dicom(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an image as a MONOCHROME1 radiograph of nobody."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = ComputedRadiographyImageStorage
    # From the bytes, so that a second demo writes the same file.
    uid = generate_uid(entropy_srcs=[image.tobytes().hex()])
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = uid
    dataset.PatientName, dataset.PatientID, dataset.Modality = "SYNTHETIC", "SYNTHETIC", "CR"
    dataset.Rows, dataset.Columns = image.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME1"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.WindowCenter, dataset.WindowWidth = 128, 256
    dataset.PixelData = np.ascontiguousarray(255 - image).tobytes()
    dataset.save_as(path, enforce_file_format=True)


def _is_current(results: Path) -> bool:
    """Return whether the demo's model is already in the store and in production."""
    if not results.exists():
        return False
    version = json.loads(results.read_text(encoding="utf-8"))["version"]
    store = Store()
    return _MODEL in store.names() and f"{_MODEL}:{store.aliases(_MODEL).get('prod')}" == version


def _parts(row: dict[str, Any]) -> dict[str, Any]:
    return {"metrics": row["metrics"], "intervals": row["intervals"]}


def _row(row: dict[str, Any]) -> DemoRow:
    return DemoRow(
        app="healthcare",
        data="chest-phantoms",
        model=row["name"],
        metrics={name: row["metrics"][name] for name in _SHOWN if name in row["metrics"]},
        intervals={name: tuple(row["intervals"][name]) for name in _SHOWN if name in row["intervals"]},
    )
