"""Many small published files as a few larger ones: a job every five minutes leaves 288 of them a day.

What is kept here saves time only. It is found by what it was made of, so whatever is missing, or
was made of other files, is made again from the published files; the folder may be deleted.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from datetime import datetime
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
# Of a file's SHA-256, in hexadecimal digits: enough to know it by.
_DIGITS = 16
# Under this key a piece says of which files it was made.
_MADE_OF = b"quatrain.made_of"


class _Piece(NamedTuple):
    path: Path
    # Of the published files whose rows it holds, oldest first.
    digests: tuple[str, ...]


class Pieces:
    """The files of one output as few files, whose rows are those of the newest file first, then of the one before."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, published: Sequence[Published], *, since: datetime | None = None) -> list[Path]:
        """Return the files to read, newest first; what is gone and in no piece is left out.

        `published` come oldest first. Where they begin at a time, `since`, a piece may begin before
        that: then rows that are too old to matter come with it. Pieces written before are removed.
        """
        pieces = list(self._found(published, self._known(since), has_start=since is not None))
        if len(pieces) >= _FAN:
            pieces = self._merged(pieces)
        return [piece.path for piece in reversed(pieces)]

    def _known(self, since: datetime | None) -> list[_Piece]:
        known = []
        for path in sorted(self._folder.glob("*.parquet")):
            if since is not None and path.stat().st_mtime < since.timestamp():
                path.unlink()
                continue
            metadata = pq.read_metadata(path).metadata or {}
            known.append(_Piece(path, tuple(json.loads(metadata[_MADE_OF]))))
        return known

    def _found(self, published: Sequence[Published], known: Sequence[_Piece], *, has_start: bool) -> Iterator[_Piece]:
        """Yield the longest pieces that there are, and the published files between them."""
        digests = tuple(file.sha256[:_DIGITS] for file in published)
        by_length = sorted(known, key=lambda piece: len(piece.digests))
        begun = {piece.digests[0]: piece for piece in by_length}
        at, n_gone = 0, 0
        for piece in reversed(by_length) if has_start and digests else ():
            n_shared = _overlap(piece.digests, digests)
            if n_shared:
                yield piece
                at = n_shared
                break
        while at < len(digests):
            found = begun.get(digests[at])
            if found is not None and digests[at : at + len(found.digests)] == found.digests:
                yield found
                at += len(found.digests)
                continue
            if published[at].path.is_file():
                yield _Piece(published[at].path, (digests[at],))
            else:
                n_gone += 1
            at += 1
        if n_gone:
            _LOG.info("published files of past events are gone", extra={"n_gone": n_gone, "of": len(published)})

    def _merged(self, pieces: list[_Piece]) -> list[_Piece]:
        """Return the pieces with every run of small neighbours of one size as one."""
        level = 0
        while level <= max(_level(piece) for piece in pieces):
            done: list[_Piece] = []
            for is_small, run in groupby(pieces, key=lambda piece: _level(piece) == level):
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
        name = hashlib.sha256("".join(digests).encode()).hexdigest()[:_DIGITS]
        path = self._folder / f"{name}.parquet"
        self._folder.mkdir(parents=True, exist_ok=True)
        tables = [pq.read_table(piece.path, partitioning=None) for piece in reversed(pieces)]
        # A column that some of the files do not have is null there.
        table = pa.concat_tables(tables, promote_options="default").combine_chunks()
        table = table.replace_schema_metadata({_MADE_OF: json.dumps(digests)})
        with replacing(path) as part:
            pq.write_table(table, part, compression="zstd", row_group_size=ROW_GROUP_ROWS)
        for piece in pieces:
            if piece.path.parent == self._folder:
                piece.path.unlink(missing_ok=True)
        return _Piece(path, digests)


def _level(piece: _Piece) -> int:
    level = 0
    while len(piece.digests) >= _FAN ** (level + 1):
        level += 1
    return level


def _overlap(piece: Sequence[str], digests: Sequence[str]) -> int:
    """Return how many of the first digests are what the piece ends with, 0 where it does not begin before them."""
    if digests[0] not in piece[1:]:
        return 0
    rest = piece[piece.index(digests[0]) :]
    return len(rest) if tuple(digests[: len(rest)]) == tuple(rest) else 0
