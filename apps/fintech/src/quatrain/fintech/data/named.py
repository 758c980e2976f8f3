"""Where a --data value lies and how its columns are read: a catalogue name, a file or a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quatrain.core.data import catalogue
from quatrain.core.errors import UsageError
from quatrain.fintech.data.columns import ColumnMap, parse_columns, read_columns
from quatrain.fintech.data.pan_key import find_key

# What the catalogue calls card fraud.
TASK = "fraud"


@dataclass(frozen=True, kw_only=True)
class NamedData:
    """A data set on this machine."""

    # What a person calls it: the catalogue's name, or the file's.
    name: str
    path: Path
    mapping: ColumnMap
    is_synthetic: bool
    licence: str | None = None


def find_data(name_or_path: str, *, columns: Path | None, default: ColumnMap | None = None) -> NamedData:
    """Return the data set, pulled first if the catalogue has it.

    `columns` wins over the catalogue's mapping; `default` is the mapping of the user's own files
    when there is no `columns`. A mapping that tokenises names this machine's key, so that what is
    trained with it notices another one. Raises UsageError for a set of another task.
    """
    given = read_columns(columns) if columns is not None else None
    if name_or_path not in catalogue.names():
        path = catalogue.find(name_or_path)
        mapping = _with_key(given or default or ColumnMap())
        return NamedData(name=path.name, path=path, mapping=mapping, is_synthetic=False)
    descriptor = catalogue.describe(name_or_path)
    if descriptor.task != TASK:
        raise UsageError(f"{name_or_path} is a set for {descriptor.task}, not {TASK}: {descriptor.title}")
    own = parse_columns(descriptor.columns or {}, where=f"the catalogue's {name_or_path}")
    return NamedData(
        name=name_or_path,
        path=catalogue.pull(name_or_path),
        mapping=_with_key(given or own),
        is_synthetic=descriptor.synthetic,
        licence=descriptor.licence,
    )


def _with_key(mapping: ColumnMap) -> ColumnMap:
    key = find_key() if mapping.pan.columns and mapping.pan.key_id is None else None
    if key is None:
        return mapping
    return mapping.model_copy(update={"pan": mapping.pan.model_copy(update={"key_id": key.id})})
