"""MedMNIST files: `{train,val,test}_images` and `_labels` in one .npz, any of the splits absent."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from quatrain.core.data.digest import digest_of
from quatrain.core.errors import BadDataError
from quatrain.healthcare.data.known_sets import known_set
from quatrain.healthcare.data.labelled import SPLITS, Kind, Labelled, Labels, Part, check_part, kind_of

# The largest public file, 224 px in colour, unpacks to under 30 GB.
MAX_BYTES = 32 << 30
# Beyond this an array is no image data that was compressed, but a bomb.
_MAX_RATIO = 1000
_IMAGES, _LABELS, _MASKS = "_images", "_labels", "_masks"
_SYNTHETIC = "synthetic"
_CLASSES = "classes"
_N_COLUMNS = 2


def read_npz(path: Path, *, kind: Kind | None = None, max_bytes: int = MAX_BYTES) -> Labelled:
    """Return the splits that a MedMNIST file holds.

    Kind and class names come from the file (`classes`, generated sets have it), the known sets by the file's name,
    or the labels. Other arrays that begin with a split and have its length, such as `test_sex`, become groups.
    Raises BadDataError for what is no such file: nothing in it is run, and sizes are checked before unpacking.
    """
    arrays = _arrays(path, max_bytes)
    splits = [split for split in SPLITS if split + _IMAGES in arrays or split + _LABELS in arrays]
    if not splits:
        raise BadDataError(f"{path.name} holds {_listed(arrays)}; expected train_images and train_labels, or val, test")
    labels = {split: _labels(arrays, split, path.name) for split in splits}
    known = known_set(path.stem)
    # A part may lack the rarest class, so that all parts say together what they are.
    everything = np.concatenate(list(labels.values()))
    chosen: Kind = kind or (known.kind if known else kind_of(everything))
    classes = _classes(arrays, known.classes if known else (), everything, chosen)
    parts = {}
    for split in splits:
        parts[split] = _part(arrays, split, labels[split], path.name)
        check_part(parts[split], kind=chosen, n_classes=len(classes), where=f"{path.name}, {split}")
    shapes = {part.images.shape[1:] for part in parts.values()}
    if len(shapes) > 1:
        raise BadDataError(f"{path.name}: splits have images of different shapes, {sorted(shapes)}; expected one")
    return Labelled(
        name=path.stem,
        kind=chosen,
        classes=classes,
        parts=parts,
        is_synthetic=bool(arrays.get(_SYNTHETIC, np.array(False)).any()),
        sha256=digest_of(path)[0],
        licence=known.licence if known else "",
    )


def _arrays(path: Path, max_bytes: int) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            packed = max(1, sum(member.compress_size for member in members))
            if total > max_bytes or (total > 1 << 26 and total / packed > _MAX_RATIO):
                raise BadDataError(
                    f"{path.name} would unpack to {total} bytes from {packed}, at most {max_bytes} and "
                    f"{_MAX_RATIO} to 1 are read; check where it is from"
                )
            found = {}
            for member in members:
                if not member.filename.endswith(".npy") or "/" in member.filename or "\\" in member.filename:
                    raise BadDataError(f"{path.name} holds {member.filename!r}; expected arrays only")
                with archive.open(member) as stream:
                    found[member.filename.removesuffix(".npy")] = npy.read_array(stream, allow_pickle=False)
            return found
    # RuntimeError: a password, or a compression that zipfile does not know.
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, RuntimeError) as error:
        raise BadDataError(f"{path.name} is no .npz of plain arrays, or is damaged: {error}; copy it again") from error


def _labels(arrays: dict[str, NDArray[Any]], split: str, where: str) -> Labels:
    for key in (split + _IMAGES, split + _LABELS):
        if key not in arrays:
            raise BadDataError(f"{where} holds {_listed(arrays)}, but no {key}; images and labels come in pairs")
    labels = arrays[split + _LABELS]
    if labels.dtype.kind not in "iub" or labels.ndim not in {1, 2} or not labels.size:
        raise BadDataError(
            f"{where}: {split}_labels must be integers (n,) or (n, K), got {labels.dtype} {labels.shape}"
        )
    labels = labels.astype(np.int64)
    return labels[:, 0] if labels.ndim == _N_COLUMNS and labels.shape[1] == 1 else labels


def _part(arrays: dict[str, NDArray[Any]], split: str, labels: Labels, where: str) -> Part:
    images = arrays[split + _IMAGES]
    if images.ndim == 4 and images.shape[3] == 1:  # noqa: PLR2004 - (n, H, W, 1)
        images = images[..., 0]
    own = {key.removeprefix(f"{split}_"): value for key, value in arrays.items() if key.startswith(f"{split}_")}
    masks = own.pop(_MASKS[1:], None)
    groups = {name: value for name, value in own.items() if name not in {"images", "labels"} and value.ndim == 1}
    if any(len(value) != len(labels) for value in [*groups.values(), *([] if masks is None else [masks])]):
        raise BadDataError(f"{where}: a column of {split} has another length than its {len(labels)} labels")
    return Part(images=images, labels=labels, groups=groups, masks=None if masks is None else masks.astype(bool))


def _classes(arrays: dict[str, NDArray[Any]], known: tuple[str, ...], labels: Labels, kind: Kind) -> tuple[str, ...]:
    if _CLASSES in arrays and arrays[_CLASSES].dtype.kind == "U":
        return tuple(arrays[_CLASSES].tolist())
    n = labels.shape[1] if kind == "multilabel" else max(int(labels.max()) + 1, 2)
    if known and (len(known) == n or (kind != "multilabel" and len(known) > n)):
        return known
    return tuple(str(k) for k in range(n))


def _listed(arrays: dict[str, NDArray[Any]]) -> str:
    return ", ".join(sorted(arrays)[:8]) or "no array"
