"""From what a person writes after --data to labelled images."""

from __future__ import annotations

from quatrain.core.data.catalogue import find
from quatrain.core.errors import UsageError
from quatrain.healthcare.data.folder import read_folder
from quatrain.healthcare.data.labelled import Kind, Labelled
from quatrain.healthcare.data.npz import read_npz

TASK = "image-diagnosis"
# Folders are reduced to this where nothing else is asked for.
FOLDER_SIDE = 64


def find_data(data: str, *, kind: Kind | None = None, side: int | None = None, seed: int = 0) -> Labelled:
    """Return the set behind a catalogue name, a MedMNIST .npz or a folder of classes."""
    path = find(data)
    if path.is_dir():
        return read_folder(path, side=side or FOLDER_SIDE, kind=kind, seed=seed)
    if path.suffix.lower() != ".npz":
        raise UsageError(f"{path} is neither an .npz of images and labels nor a folder with one folder for each class")
    return read_npz(path, kind=kind)
