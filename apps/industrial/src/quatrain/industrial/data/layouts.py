"""Folders of parts as one list of samples: which public layout a folder has, and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from quatrain.core.errors import BadDataError, UsageError
from quatrain.core.images import SUFFIXES, image_files
from quatrain.industrial.data.boxes import is_deep_pcb, is_voc, is_yolo, read_deep_pcb, read_voc, read_yolo
from quatrain.industrial.data.kolektor import is_kolektor, read_kolektor
from quatrain.industrial.data.samples import GOOD, Sample, Split, hold_back, select
from quatrain.industrial.data.visa import is_visa, read_visa

# What people call folders of good and of bad parts.
_GOOD_NAMES = frozenset({"good", "ok", "normal", "pass", "positive"})
_BAD_NAMES = frozenset(
    {"bad", "nok", "ng", "defect", "defects", "defective", "anomaly", "anomalous", "fail", "negative"}
)
# Of a set without a split, the share of good parts that is held back to measure overkill.
_TEST_SHARE = 0.3


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A data set on disk: its samples and the name of its layout."""

    path: Path
    layout: str
    samples: tuple[Sample, ...]

    def describe(self) -> dict[str, object]:
        """Return counts as JSON values."""
        kinds = sorted({sample.kind for sample in self.samples if sample.kind is not None})
        return {
            "data": self.path.name,
            "layout": self.layout,
            "n": len(self.samples),
            "train_good": len(select(self.samples, split="train", is_defective=False)),
            "test_good": len(select(self.samples, split="test", is_defective=False)),
            "test_bad": len(select(self.samples, split="test", is_defective=True)),
            "kinds": kinds,
            "with_masks": sum(bool(sample.masks) for sample in self.samples),
            "with_boxes": sum(bool(sample.boxes) for sample in self.samples),
        }


def read_folder(path: Path, *, seed: int = 0) -> Folder:
    """Return the samples under a folder, its layout recognised by what lies in it.

    MVTec AD, MVTec AD 2, LOCO, VisA (one category), KolektorSDD and SDD2, DeepPCB, NEU-DET or any
    VOC or YOLO export, folders of good and bad parts, or one folder of good parts alone. Sets
    without a split keep 30 % of their good parts for testing, drawn by `seed`. Raises UsageError for no
    folder, BadDataError for one without images.
    """
    if not path.is_dir():
        raise UsageError(f"{path} is not a folder; name one that holds images of parts ({', '.join(SUFFIXES)})")
    for layout, (is_layout, read) in _LAYOUTS.items():
        if is_layout(path):
            samples = read(path)
            if not samples:
                raise BadDataError(f"{path} looks like {layout}, but holds no image ({', '.join(SUFFIXES)})")
            if not any(sample.split == "train" for sample in samples):
                samples = hold_back(samples, share=_TEST_SHARE, seed=seed)
            return Folder(path=path, layout=layout, samples=tuple(samples))
    raise BadDataError(
        f"{path} has no layout known here; expected train/good and test/<kind> (MVTec AD), or folders good and bad, "
        f"or images ({', '.join(SUFFIXES)})"
    )


def _is_mvtec(root: Path) -> bool:
    return (root / "train" / GOOD).is_dir() and not (root / "test_public").is_dir()


def _read_mvtec(root: Path) -> list[Sample]:
    """MVTec AD and MVTec LOCO: masks are ground_truth/<kind>/<stem>_mask.png, or a folder <stem> of them."""
    samples = _of_kinds(root / "train", "train", root / "ground_truth")
    samples += _of_kinds(root / "validation", "valid", root / "ground_truth")
    return samples + _of_kinds(root / "test", "test", root / "ground_truth")


def _is_mvtec2(root: Path) -> bool:
    return (root / "train" / GOOD).is_dir() and (root / "test_public").is_dir()


def _read_mvtec2(root: Path) -> list[Sample]:
    """MVTec AD 2: the public test has masks; the private ones have no labels, and are left out."""
    public = root / "test_public"
    samples = _of_kinds(root / "train", "train", public / "ground_truth")
    samples += _of_kinds(root / "validation", "valid", public / "ground_truth")
    return samples + _of_kinds(public, "test", public / "ground_truth")


def _of_kinds(folder: Path, split: Split, truth: Path) -> list[Sample]:
    kinds = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return [
        Sample(path=image, split=split, kind=kind.name, masks=_masks(truth / kind.name, image.stem))
        for kind in kinds
        if kind.name != truth.name
        for image in image_files(kind)
    ]


def _masks(folder: Path, stem: str) -> tuple[Path, ...]:
    several = folder / stem
    if several.is_dir():
        return tuple(image_files(several))
    named = (folder / f"{name}{suffix}" for name in (f"{stem}_mask", stem) for suffix in (".png", ".bmp", ".tif"))
    return tuple(path for path in named if path.is_file())[:1]


def _is_good_and_bad(root: Path) -> bool:
    return any(path.is_dir() and path.name.lower() in _GOOD_NAMES for path in root.iterdir())


def _read_good_and_bad(root: Path) -> list[Sample]:
    """Folders named after good and bad; what lies in folders below a bad one is of that kind of defect."""
    samples = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        name = folder.name.lower()
        if name in _GOOD_NAMES:
            samples += [Sample(path=image, split="test", kind=GOOD) for image in image_files(folder)]
        elif name in _BAD_NAMES:
            for image in image_files(folder):
                below = image.relative_to(folder).parts
                kind = below[0] if len(below) > 1 else name
                samples.append(Sample(path=image, split="test", kind=kind))
    return samples


def _holds_images(root: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in root.iterdir())


def _read_good_alone(root: Path) -> list[Sample]:
    """Images that nobody sorted: taken for good, all of them to train on."""
    return [Sample(path=image, split="train", kind=GOOD) for image in image_files(root)]


_LAYOUTS: dict[str, tuple[Callable[[Path], bool], Callable[[Path], Sequence[Sample]]]] = {
    "MVTec AD 2": (_is_mvtec2, _read_mvtec2),
    "MVTec AD": (_is_mvtec, _read_mvtec),
    "VisA": (is_visa, read_visa),
    "DeepPCB": (is_deep_pcb, read_deep_pcb),
    "KolektorSDD": (is_kolektor, read_kolektor),
    "VOC": (is_voc, read_voc),
    "YOLO": (is_yolo, read_yolo),
    "good and bad": (_is_good_and_bad, _read_good_and_bad),
    "good alone": (_holds_images, _read_good_alone),
}
