"""A folder of images by class: ROOT/CLASS/*.png, or ROOT/{train,val,test}/CLASS/*.png."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quatrain.core.errors import BadDataError, UsageError
from quatrain.core.images import read_images
from quatrain.healthcare.data.labelled import SPLITS, Kind, Labelled, Part, check_part
from quatrain.healthcare.features import fit_square

# Share of each class that becomes the test split where the folder has none.
_TEST_SHARE = 0.2


def read_folder(
    root: Path, *, side: int, kind: Kind | None = None, max_bad_ratio: float = 0.05, seed: int = 0
) -> Labelled:
    """Return the images of a folder, each cut to its middle square and reduced to `side` pixels.

    Without folders train, val and test a fifth of each class becomes the test split; images of one patient are kept
    together if their names begin with the same letters before the first "_". Unreadable files are left out and
    named; BadDataError above `max_bad_ratio` of them.
    """
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    splits = [split for split in SPLITS if split in names]
    if splits and set(names) - set(splits):
        raise UsageError(f"{root} holds splits and {sorted(set(names) - set(splits))}; expected splits or classes only")
    homes = [root / split for split in splits] or [root]
    classes = tuple(sorted({path.name for home in homes for path in home.iterdir() if path.is_dir()}))
    if len(classes) < 2:  # noqa: PLR2004 - a choice needs two
        raise UsageError(f"{root} holds folders {list(classes)}; expected one folder for each of two classes or more")
    chosen: Kind = kind or ("binary" if len(classes) == 2 else "multiclass")  # noqa: PLR2004
    if chosen == "multilabel":
        raise UsageError("a folder of classes gives each image one class; several findings need a table of labels")
    refused: list[str] = []
    parts = {}
    n_good = 0
    digest = hashlib.sha256()
    for home, split in zip(homes, splits or ["train"], strict=True):
        part = _read_split(home, classes, side=side, refused=refused)
        if part is not None:
            parts[split] = part
            n_good += len(part)
            digest.update(part.images.tobytes() + part.labels.tobytes())
            check_part(part, kind=chosen, n_classes=len(classes), where=f"{root.name}, {split}")
    n_seen = n_good + len(refused)
    if not n_good or len(refused) > max_bad_ratio * n_seen:
        first = f"; the first: {refused[0]}" if refused else ""
        raise BadDataError(f"{root}: {len(refused)} of {n_seen} images cannot be read{first}")
    if not splits:
        parts = _split_by_patient(parts["train"], seed=seed)
    return Labelled(
        name=root.name, kind=chosen, classes=classes, parts=parts, sha256=digest.hexdigest(), refused=tuple(refused)
    )


def _read_split(home: Path, classes: Sequence[str], *, side: int, refused: list[str]) -> Part | None:
    images, labels, patients = [], [], []
    for label, name in enumerate(classes):
        for read in read_images(home / name) if (home / name).is_dir() else ():
            if read.pixels is None:
                refused.append(str(read.reason))
                continue
            images.append(fit_square(read.pixels, side))
            labels.append(label)
            patients.append(read.path.stem.partition("_")[0])
    return _stacked(images, labels, patients) if images else None


def _stacked(images: Sequence[np.ndarray], labels: Sequence[int], patients: Sequence[str]) -> Part:
    is_colour = any(image.ndim == 3 for image in images)  # noqa: PLR2004 - (H, W, 3)
    same = [np.repeat(image[..., None], 3, 2) if is_colour and image.ndim == 2 else image for image in images]  # noqa: PLR2004
    return Part(images=np.stack(same), labels=np.array(labels, dtype=np.int64), groups={"patient": np.array(patients)})


def _split_by_patient(part: Part, *, seed: int) -> dict[str, Part]:
    rng = np.random.default_rng(seed)
    is_test = np.zeros(len(part), dtype=np.bool_)
    for label in np.unique(part.labels):
        patients = np.unique(part.groups["patient"][(part.labels == label)])
        chosen = rng.permutation(patients)[: max(1, round(_TEST_SHARE * len(patients)))]
        is_test |= np.isin(part.groups["patient"], chosen)
    return {"train": part.rows(np.flatnonzero(~is_test)), "test": part.rows(np.flatnonzero(is_test))}
