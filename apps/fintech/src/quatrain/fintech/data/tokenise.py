"""A file rewritten with tokens in place of its card numbers, everything else as it stands."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from quatrain.core.errors import BadDataError, UsageError, did_you_mean
from quatrain.core.files import sync
from quatrain.fintech.data.arrays import from_numpy
from quatrain.fintech.data.columns import ColumnMap, CsvFormat
from quatrain.fintech.data.pan_guard import REASON, PanGuard, as_written
from quatrain.fintech.data.pan_token import Tokeniser
from quatrain.fintech.data.parse import parse_id
from quatrain.fintech.data.source import RawBatch, Source, open_source
from quatrain.fintech.data.table import Rejections
from quatrain.fintech.data.verdict import Verdict

# Above this share of rows that cannot be written, something is wrong with the file.
_MAX_BAD_RATIO = 0.05


def tokenise_file(path: Path, mapping: ColumnMap, out: Path) -> dict[str, Any]:
    """Write `out` as `path` with tokens in the columns that `mapping` lists under [pan]; return what was done.

    `out` has the format of `path`, can be read with the same mapping, and appears only when it is
    whole. Rows with a card number in any other column are left out and counted. Raises UsageError
    when no column is listed or the key is missing, BadDataError for a file that cannot be used.
    """
    source = open_source(path, mapping.csv)
    if source.kind == "iso20022":
        raise UsageError(f"{path.name} is a payment message, which is tokenised as it is read, not rewritten")
    listed = _listed(source, mapping)
    if out.exists() and out.samefile(path):
        raise UsageError(f"--out must be another file than {path}, which stays as it is")
    rewriting = _Rewriting(source, listed, key_id=mapping.pan.key_id)
    with _whole(out) as part:
        if source.kind == "parquet":
            n_written = _write_parquet(source, rewriting, part)
        else:
            n_written = _write_csv(rewriting, part, mapping.csv)
        _check_bad(rewriting.rejections, n_written, path)
    return {
        "path": str(out),
        "tokenised": list(listed),
        "key_id": rewriting.key_id,
        "rows": n_written,
        "bad_rows": rewriting.rejections.total,
        "reasons": dict(rewriting.rejections.counts.most_common()),
        "examples": rewriting.rejections.examples,
    }


class _Rewriting:
    """The good rows of a file with tokens in the listed columns."""

    def __init__(self, source: Source, listed: tuple[str, ...], *, key_id: str | None) -> None:
        self.rejections = Rejections()
        self._source = source
        self._guard = PanGuard(source.path.name)
        self._tokenisers: Mapping[str, Tokeniser] = {name: Tokeniser(name, key_id=key_id) for name in listed}

    @property
    def key_id(self) -> str | None:
        return next((each.key_id for each in self._tokenisers.values() if each.key_id is not None), None)

    def batches(self) -> Iterator[pa.RecordBatch]:
        for raw in self._source.batches(self._source.names, reject=self.rejections):
            yield self._rewritten(raw)

    def _rewritten(self, raw: RawBatch) -> pa.RecordBatch:
        verdict = Verdict(raw, self.rejections)
        columns = []
        for name, column in zip(raw.columns.schema.names, raw.columns.columns, strict=True):
            if name in self._tokenisers:
                parsed = parse_id(column, is_required=False, name=name)
                verdict.add(name, parsed.problems)
                columns.append(self._tokenisers[name].tokens(parsed.values))
            else:
                verdict.add(name, ((REASON, self._guard.pans(name, as_written(column))),))
                columns.append(column)
        verdict.deliver()
        batch = pa.RecordBatch.from_arrays(columns, names=raw.columns.schema.names)
        return batch if verdict.is_good.all() else batch.filter(from_numpy(verdict.is_good))


def _listed(source: Source, mapping: ColumnMap) -> tuple[str, ...]:
    listed = tuple(name for name in mapping.pan.columns if name in source.names)
    missing = [name for name in mapping.pan.columns if name not in source.names]
    if missing:
        raise BadDataError(f"{source.path.name} lacks the column {missing[0]}{did_you_mean(missing[0], source.names)}")
    if not listed:
        raise UsageError(
            'which columns hold card numbers? List them in a columns.toml as [pan] columns = ["card_number"] '
            "and pass it with --columns"
        )
    return listed


def _write_parquet(source: Source, rewriting: _Rewriting, part: Path) -> int:
    metadata = {key: value for key, value in (pq.read_schema(source.path).metadata or {}).items() if key != b"pandas"}
    n_written, writer = 0, None
    try:
        for batch in rewriting.batches():
            if writer is None:
                writer = pq.ParquetWriter(str(part), batch.schema.with_metadata(metadata), compression="zstd")
            writer.write_batch(batch.replace_schema_metadata(metadata))
            n_written += batch.num_rows
    finally:
        if writer is not None:
            writer.close()
    return n_written


def _write_csv(rewriting: _Rewriting, part: Path, form: CsvFormat) -> int:
    encoder = codecs.getincrementalencoder(form.encoding)(errors="replace")
    n_written = 0
    with part.open("wb") as file:
        for place, batch in enumerate(rewriting.batches()):
            options = csv.WriteOptions(include_header=place == 0, delimiter=form.delimiter)
            content = pa.BufferOutputStream()
            csv.write_csv(batch, content, write_options=options)
            file.write(encoder.encode(content.getvalue().to_pybytes().decode()))
            n_written += batch.num_rows
    return n_written


def _check_bad(rejections: Rejections, n_written: int, path: Path) -> None:
    n_rows = rejections.total + n_written
    if n_written == 0 or rejections.total > _MAX_BAD_RATIO * n_rows:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in rejections.counts.most_common(5))
        raise BadDataError(f"{path.name}: {rejections.total} of {n_rows} rows cannot be written: {reasons or 'empty'}")


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """Give a path to write to; it becomes `out` when the block ends well, and is removed when not."""
    part = out.with_name(f".{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            sync(part)
            part.replace(out)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror or error}; name another --out") from error
