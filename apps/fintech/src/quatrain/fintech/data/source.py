"""A CSV, Parquet or ISO 20022 file as numbered batches of raw columns, in bounded memory."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal, Protocol, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import csv

from quatrain.core.errors import BadDataError
from quatrain.fintech.data.arrays import from_strings
from quatrain.fintech.data.columns import CsvFormat
from quatrain.fintech.data.encoding import Utf8Stream
from quatrain.fintech.data.iso20022 import Transfer, first_currency, read_transfers
from quatrain.fintech.data.kernels import REPLACEMENT
from quatrain.fintech.data.pan import find, is_pan, masked

# Read at a time from a CSV file; also the longest record that can be read.
_CSV_BLOCK_BYTES = 4 << 20
_PARQUET_ROWS = 65_536
_PARQUET_MAGIC = b"PAR1"
_HEAD_BYTES = 8
# Transactions of a batch out of a payment message.
_MESSAGE_ROWS = 8_192
_XML_STARTS = (b"<?xml", b"\xef\xbb\xbf<", b"<Doc")
Kind = Literal["csv", "parquet", "iso20022"]
_SUFFIXES: Mapping[str, Kind] = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet", ".xml": "iso20022"}
_MESSAGE_COLUMNS = ("transaction_id", "timestamp", "customer_id", "terminal_id", "amount")
SYNTHETIC_MARK = b"quatrain.synthetic"


class Reject(Protocol):
    """Where rejected rows go; `row` counts a file's records from 0, without the header."""

    def __call__(self, *, row: int, reason: str, column: str | None = None, value: str | None = None) -> None:
        """Record one rejected row."""


@dataclass(frozen=True, kw_only=True)
class RawBatch:
    """Some rows of a file as they stand there; `rows` are their numbers."""

    rows: NDArray[np.int64]
    columns: pa.RecordBatch


@dataclass(frozen=True, kw_only=True)
class Source:
    """An opened file: its columns are known, its rows are not read."""

    path: Path
    kind: Kind
    csv_format: CsvFormat
    names: tuple[str, ...]
    is_synthetic: bool
    # Of a payment message: transactions in another currency are rejected.
    currency: str | None = None

    def in_currency(self, currency: str | None) -> Source:
        """Return the source with this currency in place of its first transaction's, if one is given."""
        return replace(self, currency=currency) if currency else self

    def batches(self, names: Sequence[str], *, reject: Reject | None = None) -> Iterator[RawBatch]:
        """Yield the named columns; CSV and XML values are text, Parquet values have the file's types.

        CSV records with a wrong number of values, and transactions of a message that no table could
        hold, go to `reject`. Raises BadDataError when the file turns out to be damaged, which may be
        after some batches.
        """
        with _explained(self.path):
            match self.kind:
                case "parquet":
                    yield from self._parquet(names)
                case "csv":
                    yield from self._csv(names, reject)
                case "iso20022":
                    yield from self._message(names, reject)

    def digest(self) -> str:
        """Return the sha256 of the file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _parquet(self, names: Sequence[str]) -> Iterator[RawBatch]:
        first = 0
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(_PARQUET_ROWS, columns=list(names), use_threads=False):
                columns = _decodable(batch.select(list(names)))
                yield RawBatch(rows=np.arange(first, first + len(batch)), columns=columns)
                first += len(batch)

    def _csv(self, names: Sequence[str], reject: Reject | None) -> Iterator[RawBatch]:
        ragged: list[Any] = []
        reported, first = 0, 0
        with _csv_reader(self.path, self.csv_format, known=self.names, names=names, ragged=ragged) as reader:
            for batch in reader:
                skipped = np.array([_record(row) for row in ragged], dtype=np.int64)
                candidates = np.arange(first, first + len(batch) + len(skipped))
                rows = np.setdiff1d(candidates, skipped, assume_unique=True)[: len(batch)]
                first = int(rows[-1]) + 1 if len(rows) else first
                reported = _report(ragged, reported, reject)
                yield RawBatch(rows=rows, columns=batch)
        _report(ragged, reported, reject)

    def _message(self, names: Sequence[str], reject: Reject | None) -> Iterator[RawBatch]:
        waiting: list[Transfer] = []
        for transfers in read_transfers(self.path):
            waiting += [each for each in transfers if self._is_usable(each, reject)]
            if len(waiting) >= _MESSAGE_ROWS:
                yield _batch(waiting, names)
                waiting = []
        if waiting:
            yield _batch(waiting, names)

    def _is_usable(self, transfer: Transfer, reject: Reject | None) -> bool:
        problem = transfer.problem
        if problem is None and transfer.currency not in {None, self.currency}:
            problem = (f"not in {self.currency}", "amount", transfer.currency)
        if problem is not None and reject is not None:
            reason, column, value = problem
            reject(row=transfer.row, reason=reason, column=column, value=None if value is None else masked(value)[:100])
        return problem is None


def open_source(path: Path, csv_format: CsvFormat) -> Source:
    """Return the file's column names and format; raises BadDataError for what is no table."""
    with _explained(path):
        kind = _kind(path)
        currency = first_currency(path) if kind == "iso20022" else None
        schema = _schema(path, kind, csv_format)
    names = tuple(schema.names)
    twice = sorted({masked(name) for name in names if names.count(name) > 1})
    if twice:
        raise BadDataError(f"{path.name} has two columns named {', '.join(twice)}; rename one")
    if is_pan(find(from_strings(names)).numbers).any():
        raise BadDataError(f"{path.name} has a card number among its column names; has it no header row?")
    is_synthetic = (schema.metadata or {}).get(SYNTHETIC_MARK) == b"true"
    return Source(
        path=path, kind=kind, csv_format=csv_format, names=names, is_synthetic=is_synthetic, currency=currency
    )


def _schema(path: Path, kind: Kind, csv_format: CsvFormat) -> pa.Schema:
    match kind:
        case "parquet":
            return pq.read_schema(path)
        case "csv":
            return _csv_schema(path, csv_format)
        case "iso20022":
            return pa.schema([(name, pa.string()) for name in _MESSAGE_COLUMNS])


def _decodable(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch, its text as bytes where some of it is none: then only the rows that hold it are bad."""
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        fields = [field.with_type(pa.binary()) if pa.types.is_string(field.type) else field for field in batch.schema]
        batch = batch.cast(pa.schema(fields))
        batch.validate(full=True)
    return batch


def _batch(transfers: Sequence[Transfer], names: Sequence[str]) -> RawBatch:
    columns = [from_strings([getattr(each, name) for each in transfers]) for name in names]
    rows = np.array([each.row for each in transfers], dtype=np.int64)
    return RawBatch(rows=rows, columns=pa.RecordBatch.from_arrays(columns, names=list(names)))


def _csv_schema(path: Path, csv_format: CsvFormat) -> pa.Schema:
    with _csv_reader(path, csv_format, known=(), names=(), ragged=[]) as reader:
        schema = reader.schema
    if any(REPLACEMENT in name for name in schema.names):
        raise BadDataError(
            f"the header of {path.name} is not {csv_format.encoding} text; say [csv] encoding in columns.toml"
        )
    if len(schema.names) == 1:
        found = [mark for mark in (";", "\t", "|", ",") if mark in schema.names[0] and mark != csv_format.delimiter]
        if found:
            raise BadDataError(
                f"{path.name} has one column when split at {csv_format.delimiter!r}; "
                f"its header contains {found[0]!r}: say [csv] delimiter in columns.toml"
            )
    return schema


def _kind(path: Path) -> Kind:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        raise BadDataError(f"{path.name} is empty (0 bytes)")
    known = _SUFFIXES.get(path.suffix.lower())
    if known is not None:
        return known
    return "parquet" if head.startswith(_PARQUET_MAGIC) else "iso20022" if head.startswith(_XML_STARTS) else "csv"


@contextlib.contextmanager
def _csv_reader(
    path: Path, csv_format: CsvFormat, *, known: Sequence[str], names: Sequence[str], ragged: list[Any]
) -> Iterator[csv.CSVStreamingReader]:
    def skip(row: Any) -> Literal["skip"]:
        ragged.append(row)
        return "skip"

    # Row numbers are exact only without threads.
    reading = csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK_BYTES)
    parsing = csv.ParseOptions(delimiter=csv_format.delimiter, newlines_in_values=True, invalid_row_handler=skip)
    # Text, so that a bad value is this package's to judge, and checked once: the stream is valid UTF-8.
    converting = csv.ConvertOptions(
        column_types=dict.fromkeys(known, pa.string()),
        include_columns=list(names),
        strings_can_be_null=False,
        check_utf8=False,
    )
    with Utf8Stream(path, encoding=csv_format.encoding) as stream:
        # The stubs ask for more of a file than Arrow does, which only reads.
        file = cast("IO[bytes]", stream)
        yield csv.open_csv(file, read_options=reading, parse_options=parsing, convert_options=converting)


def _report(ragged: list[Any], reported: int, reject: Reject | None) -> int:
    if reject is not None:
        for row in ragged[reported:]:
            reason = f"expected {row.expected_columns} values, got {row.actual_columns}"
            reject(row=_record(row), reason=reason, value=masked(str(row.text))[:100])
    return len(ragged)


def _record(row: Any) -> int:
    """Return the number of a ragged record; to Arrow the header is record 1."""
    return int(row.number) - 2


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what Arrow raises for a damaged file into a BadDataError that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise BadDataError(f"{path} does not exist") from error
    except UnicodeError as error:
        raise BadDataError(f"{path.name} has another encoding than [csv] says in columns.toml: {error}") from error
    except (pa.ArrowException, OSError) as error:
        text = masked(str(error).partition("\n")[0])[:300]
        if "straddling" in text:
            text = "a record is longer than 4 MB, or a quote is never closed"
        raise BadDataError(f"{path.name} cannot be read to its end: {text}") from error
