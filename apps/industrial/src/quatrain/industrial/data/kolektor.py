"""KolektorSDD (Tabernik et al., 2020), KolektorSDD2 (Bozic et al., 2021): a mask beside each image, black or not."""

from __future__ import annotations

from pathlib import Path

from quatrain.core.images import SUFFIXES, image_files, read_image
from quatrain.industrial.data.samples import GOOD, Sample, Split

_DEFECT = "defect"
# A mask is called after its image: Part0_label.bmp in the first set, 10000_GT.png in the second.
_MARKS = ("_label", "_GT")


def is_kolektor(root: Path) -> bool:
    """Return whether masks lie beside images here or one folder below."""
    return any(path.stem.endswith(_MARKS) for path in [*root.glob("*.*"), *root.glob("*/*.*")] if _is_image(path))


def read_kolektor(root: Path) -> list[Sample]:
    """Return the images; the second set's folders train and test are its split, defects in train are left out."""
    samples = []
    for path in image_files(root):
        if path.stem.endswith(_MARKS):
            continue
        mask = next((found for found in _masks_of(path) if found.is_file()), None)
        is_bad = mask is not None and bool(read_image(mask).any())
        split: Split = "train" if path.parent.name == "train" else "test"
        if is_bad and split == "train":
            continue
        kind = _DEFECT if is_bad else GOOD
        samples.append(Sample(path=path, split=split, kind=kind, masks=(mask,) if mask is not None and is_bad else ()))
    return samples


def _masks_of(path: Path) -> list[Path]:
    return [path.with_name(f"{path.stem}{mark}{suffix}") for mark in _MARKS for suffix in (".bmp", ".png")]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES
