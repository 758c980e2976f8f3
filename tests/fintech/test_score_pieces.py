"""Many small files as a few larger ones: the same rows, those of the newest file first, whatever was there before."""

from __future__ import annotations

import hashlib
import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quatrain.core.jobs.sink import Published
from quatrain.fintech.score import pieces
from quatrain.fintech.score.pieces import Pieces

FAN = 3


def publish(folder: Path, number: int, *, rows: int = 1) -> Published:
    """Write a file whose rows are its number."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number}.parquet"
    pq.write_table(pa.table({"number": pa.array([number] * rows, pa.int64())}), path)
    return Published(
        output="history", path=path, size=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest()
    )


def numbers(paths: list[Path]) -> list[int]:
    """Return the rows of files in turn."""
    return [int(number) for path in paths for number in pq.read_table(path)["number"].to_numpy()]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.integers(0, 40), unique=True, max_size=40), min_size=1, max_size=5))
def test_pieces_hold_the_rows_of_the_files_in_their_order(looks: list[list[int]]) -> None:
    """One look after another at any files in any order: what is kept from one never shows in the next."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "_FAN", FAN)
        files = {number: publish(Path(folder) / "out", number) for number in range(41)}
        kept = Pieces(Path(folder) / "kept")
        for look in looks:
            assert numbers(kept.of([files[number] for number in look])) == look[::-1]


def test_growing_by_one_file_at_a_time_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After n files there are at most (FAN - 1) pieces of each power of FAN, and each row was written log n times."""
    monkeypatch.setattr(pieces, "_FAN", FAN)
    written: list[int] = []
    honest = pq.write_table

    def noted(table: pa.Table, *arguments: Any, **options: Any) -> None:
        written.append(len(table))
        honest(table, *arguments, **options)

    kept = Pieces(tmp_path / "kept")
    files = [publish(tmp_path / "out", number) for number in range(81)]
    monkeypatch.setattr(pq, "write_table", noted)
    for n in range(1, 82):
        found = kept.of(files[:n])
        assert numbers(found) == list(range(n))[::-1]
        assert len(found) <= (FAN - 1) * 5
    assert sum(written) <= 81 * 4
    assert len(list((tmp_path / "kept").iterdir())) <= (FAN - 1) * 4


def test_large_files_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is a good size already is not written again."""
    monkeypatch.setattr(pieces, "_FAN", FAN)
    monkeypatch.setattr(pieces, "_FULL", 30)
    files = [publish(tmp_path / "out", number, rows=10) for number in range(6)]
    assert Pieces(tmp_path / "kept").of(files) == [file.path for file in reversed(files)]


def test_files_that_are_gone_count_where_a_piece_holds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old results may be deleted; what was put together before is still known."""
    monkeypatch.setattr(pieces, "_FAN", FAN)
    files = [publish(tmp_path / "out", number) for number in range(5)]
    kept = Pieces(tmp_path / "kept")
    assert numbers(kept.of(files[:3])) == [2, 1, 0]
    for file in (files[0], files[3]):
        file.path.unlink()
    assert numbers(kept.of(files)) == [4, 2, 1, 0]


def test_a_folder_that_was_deleted_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It saves time and nothing else."""
    monkeypatch.setattr(pieces, "_FAN", FAN)
    files = [publish(tmp_path / "out", number) for number in range(4)]
    kept = Pieces(tmp_path / "kept")
    kept.of(files)
    for path in (tmp_path / "kept").iterdir():
        path.unlink()
    assert numbers(kept.of(files)) == [3, 2, 1, 0]
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_a_window_that_slides_keeps_its_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece that begins before the window is read with its older rows, rather than file by file."""
    monkeypatch.setattr(pieces, "_FAN", FAN)
    files = [publish(tmp_path / "out", number) for number in range(60)]
    kept, since = Pieces(tmp_path / "kept"), datetime(2020, 1, 1, tzinfo=UTC)
    for end in range(1, 61):
        begin = max(end - 30, 0)
        found = kept.of(files[begin:end], since=since)
        rows = numbers(found)
        assert rows[: end - begin] == list(range(begin, end))[::-1]
        assert rows == list(range(rows[-1], end))[::-1]
        assert len(found) <= (FAN - 1) * 4 + 1
    assert numbers(kept.of(files[31:50], since=since))[:19] == list(range(31, 50))[::-1]


def test_pieces_older_than_the_window_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in them can matter any more: what they hold came before they were written."""
    monkeypatch.setattr(pieces, "_FAN", FAN)
    files = [publish(tmp_path / "out", number) for number in range(6)]
    kept, start = Pieces(tmp_path / "kept"), datetime.now(UTC)
    kept.of(files, since=start - timedelta(days=1))
    written = list((tmp_path / "kept").iterdir())
    assert len(written) == 2
    long_ago = (start - timedelta(days=2)).timestamp()
    os.utime(written[0], (long_ago, long_ago))
    assert kept.of(files[5:], since=start - timedelta(days=1)) == [written[1]]
    assert list((tmp_path / "kept").iterdir()) == [written[1]]
