"""Many small published files as a few larger ones: a job every five minutes leaves 288 of them a day.

What is kept here saves time only. It is found by what it was made of, so whatever is missing, or
was made of other files, is made again from the published files; the folder may be deleted.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from quatrain.core.jobs.sink import Published
from quatrain.fintech.journal import ROW_GROUP_ROWS, replacing

_LOG = logging.getLogger(__name__)
# So many neighbours of one size become one piece; each row is written again once per power of it.
_FAN = 16
# Rows of a piece that is large enough to stay as it is.
_FULL = 1_000_000
_DIGITS = 16
_NAME = re.compile(r"([0-9a-f]{16})-(\d+)-([0-9a-f]{16})\.parquet")


class _Piece(NamedTuple):
    path: Path
    # Of the published files whose rows it holds, in their order.
    digests: tuple[str, ...]


class Pieces:
    """The files of one output, a folder's, as few files with the same rows in the same order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, published: Sequence[Published]) -> list[Path]:
        """Return the files to read, oldest first; files that are gone, and not in a piece, are left out."""
        pieces = list(self._found(published))
        if len(pieces) >= _FAN:
            pieces = self._merged(pieces)
        return [piece.path for piece in pieces]

    def _found(self, published: Sequence[Published]) -> Iterator[_Piece]:
        """Yield the longest pieces that there are, and the published files between them."""
        digests = [file.sha256 for file in published]
        known: dict[str, list[tuple[int, Path]]] = {}
        for path in self._folder.glob("*.parquet"):
            if match := _NAME.fullmatch(path.name):
                known.setdefault(match[1], []).append((int(match[2]), path))
        n_gone, place = 0, 0
        while place < len(published):
            for length, path in sorted(known.get(digests[place][:_DIGITS], ()), reverse=True):
                part = tuple(digests[place : place + length])
                if len(part) == length and path.name == _name(part):
                    yield _Piece(path, part)
                    place += length
                    break
            else:
                if published[place].path.is_file():
                    yield _Piece(published[place].path, (digests[place],))
                else:
                    n_gone += 1
                place += 1
        if n_gone:
            _LOG.info("published files of past events are gone", extra={"n_gone": n_gone, "of": len(published)})

    def _merged(self, pieces: list[_Piece]) -> list[_Piece]:
        """Return the pieces with every run of small neighbours of one size as one."""
        level = 0
        while level < _level(max(len(piece.digests) for piece in pieces)) + 1:
            done: list[_Piece] = []
            for is_small, run in groupby(pieces, key=lambda piece: _level(len(piece.digests)) == level):
                neighbours = list(run)
                done += self._joined(neighbours) if is_small else neighbours
            pieces, level = done, level + 1
        return pieces

    def _joined(self, run: list[_Piece]) -> Iterator[_Piece]:
        while len(run) >= _FAN:
            some, run = run[:_FAN], run[_FAN:]
            n_rows = sum(pq.read_metadata(piece.path).num_rows for piece in some)
            if n_rows < _FULL:
                yield self._join(some)
            else:
                yield from some
        yield from run

    def _join(self, pieces: Sequence[_Piece]) -> _Piece:
        digests = tuple(digest for piece in pieces for digest in piece.digests)
        path = self._folder / _name(digests)
        self._folder.mkdir(parents=True, exist_ok=True)
        tables = [pq.read_table(piece.path, partitioning=None) for piece in pieces]
        # A column that some of the files do not have is null there.
        table = pa.concat_tables(tables, promote_options="default")
        with replacing(path) as part:
            pq.write_table(table.combine_chunks(), part, compression="zstd", row_group_size=ROW_GROUP_ROWS)
        for piece in pieces:
            if piece.path.parent == self._folder:
                piece.path.unlink(missing_ok=True)
        return _Piece(path, digests)


def _level(n_files: int) -> int:
    level = 0
    while n_files >= _FAN ** (level + 1):
        level += 1
    return level


def _name(digests: Sequence[str]) -> str:
    whole = hashlib.sha256("".join(digests).encode()).hexdigest()
    return f"{digests[0][:_DIGITS]}-{len(digests)}-{whole[:_DIGITS]}.parquet"
