"""What a unit writes: bytes that repeat, rows that are counted once, files that appear whole."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quatrain.core.jobs import sink as sinks
from quatrain.core.jobs.sink import FileSink

TABLE = pa.table(
    {
        "id": [f"t{row}" for row in range(40)],
        "score": pa.array([row / 7 for row in range(40)], pa.float32()),
        "when": pa.array(range(40), pa.timestamp("us", "UTC")),
        "kind": pa.array([None if row % 5 else "x" for row in range(40)]),
    }
)


def make_sink(out: Path, *, name: str = "day.csv") -> FileSink:
    """Return the sink of one unit."""
    return FileSink(out=out, source=Path("in") / name, key="k" * 64, tag="tag", checkpoint=lambda: None)


@pytest.fixture
def out() -> Iterator[Path]:
    """Give an out folder."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, TABLE.num_rows), max_size=12), st.booleans())
def test_bytes_do_not_depend_on_the_batches(cuts: list[int], as_batches: bool) -> None:
    """However the rows arrive, the file is the same."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sinks, "ROW_GROUP_ROWS", 16)
        whole, parts = make_sink(Path(folder) / "whole"), make_sink(Path(folder) / "parts")
        whole.write("scores", TABLE)
        for start, stop in pairwise([0, *sorted(cuts), TABLE.num_rows]):
            rows = TABLE.slice(start, stop - start)
            for part in rows.combine_chunks().to_batches() if as_batches and rows.num_rows else [rows]:
                parts.write("scores", part)
        (expected,), (published,) = whole.commit(), parts.commit()
        assert published.path.read_bytes() == expected.path.read_bytes()
        assert published.sha256 == expected.sha256
        file = pq.ParquetFile(published.path)
        assert [file.metadata.row_group(group).num_rows for group in range(3)] == [16, 16, 8]
        assert file.read().equals(TABLE)
        file.close()


def test_nothing_has_its_name_before_commit(out: Path) -> None:
    """Readers never see a file that is being written; a discard leaves nothing."""
    sink = make_sink(out)
    sink.write("scores", TABLE)
    sink.reject(row=1, reason="bad")
    assert {path.suffix for path in out.rglob("*") if path.is_file()} == {".part"}
    sink.discard()
    assert not [path for path in out.rglob("*") if path.is_file()]


def test_an_empty_table_makes_an_empty_file(out: Path) -> None:
    """Readers find the columns even on a day without rows."""
    sink = make_sink(out)
    sink.write("alerts", TABLE.slice(0, 0))
    (published,) = sink.commit()
    assert pq.read_table(published.path).equals(TABLE.slice(0, 0))


def test_a_unit_without_output_publishes_nothing(out: Path) -> None:
    """An output that was never written has no file."""
    assert make_sink(out).commit() == ()


def test_a_row_with_two_reasons_counts_once(out: Path) -> None:
    """Every reason is kept; the ratio counts rows."""
    sink = make_sink(out)
    sink.count(10)
    for row, reason in [(3, "no amount"), (9, "no time"), (3, "no card")]:
        sink.reject(row=row, reason=reason)
    assert (sink.rows, sink.bad_rows) == (10, 2)
    (published,) = sink.commit()
    assert [json.loads(line)["row"] for line in published.path.read_text().splitlines()] == [3, 9, 3]


@given(st.lists(st.integers(0, 3000)))
def test_bad_rows_are_the_distinct_ones(rows: list[int]) -> None:
    """The bit set counts as a set does."""
    seen = sinks._RowSet()
    for row in rows:
        seen.add(row)
    assert seen.n_rows == len(set(rows))


def test_rows_are_never_fewer_than_the_bad_ones(out: Path) -> None:
    """An app that forgets to count does not hide its bad rows."""
    sink = make_sink(out)
    sink.reject(row=0, reason="bad")
    assert (sink.rows, sink.bad_rows) == (1, 1)
    sink.discard()


@pytest.mark.parametrize("value", ["naïve\n\u2028", "\udcff", "\0", "x" * 500])
def test_any_value_makes_one_line_of_json(out: Path, value: str) -> None:
    """What is wrong with a row may well be its characters."""
    sink = make_sink(out)
    sink.reject(row=0, reason="bad", column="name", value=value)
    (published,) = sink.commit()
    (line,) = published.path.read_bytes().splitlines()
    assert json.loads(line)["value"] == (value if len(value) < 200 else "x" * 200 + "…")


def test_columns_may_not_change_under_way(out: Path) -> None:
    """The message shows both schemas."""
    sink = make_sink(out)
    sink.write("scores", pa.table({"a": [1]}))
    with pytest.raises(ValueError, match=r"output 'scores' began with columns\na: int64\nand then got\na: double"):
        sink.write("scores", pa.table({"a": [1.0]}))
    sink.discard()


@pytest.mark.parametrize("output", ["quarantine", "../elsewhere", "Scores", ""])
def test_an_output_name_cannot_leave_its_folder(out: Path, output: str) -> None:
    """It becomes a folder name."""
    with pytest.raises(ValueError, match="an output is named in small letters"):
        make_sink(out).write(output, TABLE)


def test_wrong_counts_are_the_callers_bug(out: Path) -> None:
    """Rows are counted from 0, and never backwards."""
    with pytest.raises(ValueError, match="rows read must be 0 or more, got -1"):
        make_sink(out).count(-1)
    with pytest.raises(ValueError, match="a rejected row is counted from 0, got -1"):
        make_sink(out).reject(row=-1, reason="bad")


def test_published_names_are_short_and_printable(out: Path) -> None:
    """Whatever an uploader calls a file, its results have a name that every file system takes."""
    for name in ("é" * 125 + ".csv", os.fsdecode(b"\xff\n\x1b.csv")):
        sink = make_sink(out, name=name)
        sink.write("scores", TABLE)
        (published,) = sink.commit()
        assert published.path.name.isprintable()
        assert len(published.path.name.encode()) < 200
        assert published.is_intact
