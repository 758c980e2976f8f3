"""The leaks of a file as it stands: every column that the mapping does not leave out, missing values and all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quatrain.core.errors import BadDataError
from quatrain.fintech.data.arrays import Array, from_numpy
from quatrain.fintech.data.columns import ColumnMap
from quatrain.fintech.data.named import NamedData
from quatrain.fintech.data.read import layout_for_model, read_batches
from quatrain.fintech.data.source import Source, open_source
from quatrain.fintech.data.table import Labelled, Rejections, files_of
from quatrain.fintech.evaluate.leaks import find_leaks

# Columns of the file beside the canonical ones, in one table.
_OTHER = "file column "


class _Rejected:
    """Remembers which rows of a file were rejected."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, *, row: int, reason: str, column: str | None = None, value: str | None = None) -> None:
        del reason, column, value
        self.rows.append(row)


def leaks_of(data: NamedData, *, seed: int = 0) -> dict[str, Any]:
    """Return which columns of labelled data say too much, as JSON values.

    Unlike training it wants no mapping of the extra columns and no complete ones: what is missing
    may be the leak. Rows without a usable time, amount or label are left out. Raises BadDataError
    for a file without a label.
    """
    table = _table(data)
    names = [name for name in table.column_names if name.startswith(_OTHER)]
    others: dict[str, Array] = {name.removeprefix(_OTHER): table[name].combine_chunks() for name in names}
    labelled = Labelled(
        table=table.drop_columns(names), extras=(), digest="", rejections=Rejections(), is_synthetic=data.is_synthetic
    )
    found = find_leaks(labelled, others=others, decimal=data.mapping.csv.decimal, seed=seed)
    return {
        "data": data.name,
        "rows": len(labelled),
        "frauds": int(labelled.label.sum()),
        "columns": list(others),
        "leaks": [leak.to_dict() for leak in found],
    }


def _table(data: NamedData) -> pa.Table:
    tables = [_file(path, data.mapping) for path in files_of(data.path)]
    shared = [name for name in tables[0].column_names if all(name in table.column_names for table in tables)]
    joined = pa.concat_tables([table.select(shared) for table in tables], promote_options="permissive")
    if not len(joined):
        raise BadDataError(f"{data.path.name} has no row with a usable time, amount and label")
    return joined.sort_by([("timestamp", "ascending"), ("transaction_id", "ascending")]).combine_chunks()


def _file(path: Path, mapping: ColumnMap) -> pa.Table:
    """Return the clean canonical columns of a file, and its other columns as they stand in the same rows."""
    source = open_source(path, mapping.csv)
    layout = layout_for_model(source, mapping, extras=(), has_label=True)
    rejected = _Rejected()
    clean = pa.Table.from_batches(list(read_batches(source, layout, mapping, reject=rejected)))
    left_out = {*layout.columns.values(), *mapping.extra.ignore, *mapping.pan.columns}
    names = [name for name in source.names if name not in left_out]
    if not names:
        return clean
    raw = _raw(source, names, rejected=np.array(rejected.rows, dtype=np.int64))
    for name in names:
        clean = clean.append_column(_OTHER + name, raw[name])
    return clean


def _raw(source: Source, names: list[str], *, rejected: NDArray[np.int64]) -> pa.Table:
    batches = [batch.columns.filter(from_numpy(~np.isin(batch.rows, rejected))) for batch in source.batches(names)]
    return pa.Table.from_batches(batches)
