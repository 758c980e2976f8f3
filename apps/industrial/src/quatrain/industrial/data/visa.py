"""VisA (Zou et al., "SPot-the-Difference", ECCV 2022): one category, split as its authors did where they say how."""

from __future__ import annotations

import csv
from pathlib import Path

from quatrain.core.errors import BadDataError
from quatrain.core.images import image_files
from quatrain.industrial.data.samples import GOOD, Sample, Split

_NORMAL, _ANOMALY = "Normal", "Anomaly"
# Beside the categories, in the authors' repository and download.
_SPLIT_FILE = Path("split_csv") / "1cls.csv"
_SPLITS: dict[str, Split] = {"train": "train", "test": "test"}


def is_visa(root: Path) -> bool:
    """Return whether this is a category of VisA."""
    return (root / "Data" / "Images" / _NORMAL).is_dir()


def read_visa(root: Path) -> list[Sample]:
    """Return the category's images; without split_csv/1cls.csv beside it, all are for testing."""
    images = root / "Data" / "Images"
    kinds = _kinds(root)
    splits = _splits(root)
    samples = [
        Sample(path=path, split=splits.get(_key(root, path), "test"), kind=GOOD)
        for path in image_files(images / _NORMAL)
    ]
    for path in image_files(images / _ANOMALY) if (images / _ANOMALY).is_dir() else []:
        mask = root / "Data" / "Masks" / _ANOMALY / f"{path.stem}.png"
        kind = kinds.get(_key(root, path), _ANOMALY.lower())
        samples.append(Sample(path=path, split="test", kind=kind, masks=(mask,) if mask.is_file() else ()))
    return samples


def _kinds(root: Path) -> dict[str, str]:
    """Return what image_anno.csv calls each image's defects; several are joined by commas there."""
    rows = _rows(root / "image_anno.csv", ("image", "label"))
    return {row["image"]: row["label"] for row in rows if row["label"] != "normal"}


def _splits(root: Path) -> dict[str, Split]:
    rows = _rows(root.parent / _SPLIT_FILE, ("object", "split", "image"))
    return {
        row["image"]: _SPLITS[row["split"]] for row in rows if row["object"] == root.name and row["split"] in _SPLITS
    }


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        missing = set(columns) - set(reader.fieldnames or ())
        if missing:
            raise BadDataError(f"{path} lacks the columns {', '.join(sorted(missing))}; copy it again from VisA")
        return list(reader)


def _key(root: Path, path: Path) -> str:
    return path.relative_to(root.parent).as_posix()
