"""Where a unit's results go: Parquet outputs and a quarantine file, unfinished until all are whole."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Protocol, Self

import pyarrow as pa
import pyarrow.parquet as pq

from quatrain.core.files import sync
from quatrain.core.jobs.files import explain_write_errors, part_path, prepare_folder, publish

QUARANTINE = "quarantine"
# Rows of a row group; a fixed number makes the bytes independent of the batches that came.
ROW_GROUP_ROWS = 131_072
# The longest quoted value in a quarantine line, in characters.
_VALUE_LENGTH = 200
# A file name holds 255 bytes; key, ending, tag and .part need some of them.
_STEM_BYTES = 160
_OUTPUT_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")


class Sink(Protocol):
    """What a job's `process(path, sink)` hands its results to, and what lets it build on earlier ones."""

    def write(self, output: str, table: pa.Table | pa.RecordBatch) -> None:
        """Append rows to the unit's Parquet file of this output; an empty table makes an empty file."""

    def reject(self, *, row: int, reason: str, column: str | None = None, value: str | None = None) -> None:
        """Put a row, counted from 0, into quarantine; a row with several reasons counts once."""

    def count(self, rows: int) -> None:
        """Add rows read from the input, good and bad."""

    def earlier(self, output: str, *, since: datetime | None = None) -> Sequence[Published]:
        """Return the files of an output that units settled before this one published, oldest first.

        The same ones whenever this unit is done again; some may have been deleted since. Units
        recorded before `since` may be left out.
        """


@dataclass(frozen=True, kw_only=True)
class Published:
    """A file that a unit gave to an output."""

    output: str
    path: Path
    size: int
    sha256: str

    @property
    def is_intact(self) -> bool:
        """Whether the file is still there with its size."""
        try:
            return self.path.stat().st_size == self.size
        except OSError:
            return False

    def to_json(self) -> dict[str, Any]:
        """Return JSON values for the ledger."""
        return {"output": self.output, "path": str(self.path), "size": self.size, "sha256": self.sha256}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return what `to_json` gave."""
        return cls(output=values["output"], path=Path(values["path"]), size=values["size"], sha256=values["sha256"])


class FileSink:
    """The Sink of one unit; nothing has its final name before `commit`."""

    def __init__(
        self,
        *,
        out: Path,
        source: Path,
        key: str,
        tag: str,
        checkpoint: Callable[[], None],
        earlier: Callable[[str, datetime | None], Sequence[Published]] = lambda _output, _since: (),
    ) -> None:
        self._out = out
        self._source = source
        self._name = f"{_safe_stem(source)}-{key[:12]}"
        self._tag = tag
        # Called between batches; raises when the job is asked to stop.
        self._checkpoint = checkpoint
        self._earlier = earlier
        self._tables: dict[str, _TableFile] = {}
        self._rejects: _LinesFile | None = None
        self._bad = _RowSet()
        self._rows = 0

    @property
    def rows(self) -> int:
        """Rows read, never fewer than the bad ones."""
        return max(self._rows, self._bad.n_rows)

    @property
    def bad_rows(self) -> int:
        """Distinct rows rejected."""
        return self._bad.n_rows

    @property
    def quarantine(self) -> Path:
        """Where this unit's rejected rows are published."""
        return self._out / QUARANTINE / f"{self._name}.jsonl"

    def write(self, output: str, table: pa.Table | pa.RecordBatch) -> None:
        """Append rows to an output."""
        self._checkpoint()
        if isinstance(table, pa.RecordBatch):
            table = pa.Table.from_batches([table])
        with explain_write_errors(self._out):
            if output not in self._tables:
                self._tables[output] = _TableFile(self._target(output), tag=self._tag, schema=table.schema)
            self._tables[output].write(table)

    def reject(self, *, row: int, reason: str, column: str | None = None, value: str | None = None) -> None:
        """Quarantine a row."""
        self._checkpoint()
        self._bad.add(row)
        self._quarantine(row=int(row), reason=reason, column=column, value=value)

    def count(self, rows: int) -> None:
        """Add rows read."""
        self._checkpoint()
        if rows < 0:
            raise ValueError(f"rows read must be 0 or more, got {rows}")
        self._rows += rows

    def earlier(self, output: str, *, since: datetime | None = None) -> Sequence[Published]:
        """Return what the units before this one published."""
        return self._earlier(output, since)

    def refuse(self, reason: str) -> None:
        """Take back every table and quarantine the file as a whole, after the rows rejected so far."""
        for table in self._tables.values():
            table.discard()
        self._tables.clear()
        self._quarantine(row=None, reason=reason, column=None, value=None)

    def commit(self) -> tuple[Published, ...]:
        """Give every file its final name and return them; they survive a power cut."""
        with explain_write_errors(self._out):
            finished = [(output, table.finish()) for output, table in sorted(self._tables.items())]
            if self._rejects is not None:
                finished.append((QUARANTINE, self._rejects.finish()))
            published = tuple(_describe(output, part, self._path(output)) for output, part in finished)
            publish([(part, self._path(output)) for output, part in finished])
            if self._rejects is None:
                # An earlier version of the app may have rejected rows that are good now.
                self.quarantine.unlink(missing_ok=True)
        return published

    def discard(self) -> None:
        """Remove whatever was written so far."""
        for table in self._tables.values():
            table.discard()
        if self._rejects is not None:
            self._rejects.discard()

    def _quarantine(self, **line: str | int | None) -> None:
        with explain_write_errors(self._out):
            if self._rejects is None:
                self._rejects = _LinesFile(self.quarantine, tag=self._tag)
            value = line["value"]
            if isinstance(value, str) and len(value) > _VALUE_LENGTH:
                line["value"] = value[:_VALUE_LENGTH] + "…"
            self._rejects.write({"file": self._source.name, **line})

    def _target(self, output: str) -> Path:
        if not _OUTPUT_NAME.fullmatch(output) or output == QUARANTINE:
            message = f"an output is named in small letters, digits, _ and -, and not {QUARANTINE!r}; got {output!r}"
            raise ValueError(message)
        return self._path(output)

    def _path(self, output: str) -> Path:
        return self.quarantine if output == QUARANTINE else self._out / output / f"{self._name}.parquet"


class _TableFile:
    """A Parquet file written in row groups of one size."""

    def __init__(self, target: Path, *, tag: str, schema: pa.Schema) -> None:
        prepare_folder(target.parent)
        self._output = target.parent.name
        self._part = part_path(target, tag)
        self._schema = schema
        self._waiting: list[pa.Table] = []
        self._n_waiting = 0
        try:
            # Of texts only: a dictionary of numbers that hardly repeat costs time and saves nothing.
            texts: Any = [field.name for field in schema if pa.types.is_string(field.type)] or False
            self._writer = pq.ParquetWriter(str(self._part), schema, compression="zstd", use_dictionary=texts)
        except BaseException:
            # Nobody has this object yet, so nobody else would remove the file.
            _remove(self._part)
            raise

    def write(self, table: pa.Table) -> None:
        if not table.schema.equals(self._schema):
            message = f"output {self._output!r} began with columns\n{self._schema}\nand then got\n{table.schema}"
            raise ValueError(message)
        self._waiting.append(table)
        self._n_waiting += table.num_rows
        if self._n_waiting >= ROW_GROUP_ROWS:
            self._write_groups(self._n_waiting - self._n_waiting % ROW_GROUP_ROWS)

    def finish(self) -> Path:
        self._write_groups(self._n_waiting)
        self._writer.close()
        sync(self._part)
        return self._part

    def discard(self) -> None:
        # A writer that cannot end its file on a full disk is no reason to leave the file.
        with suppress(OSError):
            self._writer.close()
        _remove(self._part)

    def _write_groups(self, n_rows: int) -> None:
        if not n_rows:
            return
        # Chunk boundaries would show in the pages of the file.
        table = pa.concat_tables(self._waiting).combine_chunks()
        self._writer.write_table(table.slice(0, n_rows), row_group_size=ROW_GROUP_ROWS)
        rest = table.slice(n_rows)
        self._waiting = [rest] if rest.num_rows else []
        self._n_waiting = rest.num_rows


class _LinesFile:
    """A file of JSON lines."""

    def __init__(self, target: Path, *, tag: str) -> None:
        prepare_folder(target.parent)
        self._part = part_path(target, tag)
        # A lone surrogate has no UTF-8 form; written with a backslash it is the JSON escape it came from.
        self._file: IO[str] = self._part.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")

    def write(self, line: dict[str, str | int | None]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def finish(self) -> Path:
        self._file.close()
        sync(self._part)
        return self._part

    def discard(self) -> None:
        with suppress(OSError):
            self._file.close()
        _remove(self._part)


class _RowSet:
    """Row numbers, one bit each: ten million bad rows must not cost a gigabyte."""

    def __init__(self) -> None:
        self._bits = bytearray()
        self.n_rows = 0

    def add(self, row: int) -> None:
        if row < 0:
            raise ValueError(f"a rejected row is counted from 0, got {row}")
        byte, bit = divmod(int(row), 8)
        if byte >= len(self._bits):
            self._bits.extend(bytes(byte + 1 - len(self._bits)))
        if not self._bits[byte] >> bit & 1:
            self._bits[byte] |= 1 << bit
            self.n_rows += 1


def _remove(part: Path) -> None:
    with suppress(OSError):
        part.unlink()


def _safe_stem(source: Path) -> str:
    stem = "".join(letter if letter.isprintable() else "_" for letter in source.stem)
    return stem.encode("utf-8", "replace")[:_STEM_BYTES].decode("utf-8", "ignore")


def _describe(output: str, part: Path, target: Path) -> Published:
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Published(output=output, path=target, size=part.stat().st_size, sha256=digest)
