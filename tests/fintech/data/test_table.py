"""Training tables are in time order, and splits never let the past see the future."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quatrain.core.errors import BadDataError
from quatrain.fintech.data.columns import ColumnMap
from quatrain.fintech.data.table import load_labelled, split_by_time, time_folds
from quatrain.fintech.simulation.handbook import write_handbook_like

HEADER = "transaction_id,timestamp,amount,is_fraud\n"


def test_a_folder_is_one_table_in_time_order(tmp_path: Path) -> None:
    """Rows of all files, by (timestamp, id), whatever the files' order."""
    (tmp_path / "b.csv").write_text(HEADER + "b1,2026-01-01,1,0\nb0,2026-01-01,1,1\n")
    (tmp_path / "a.csv").write_text(HEADER + "a1,2026-01-02,2,0\n")
    (tmp_path / "notes.txt").write_text("not data")
    labelled = load_labelled(tmp_path, ColumnMap())
    assert labelled.table["transaction_id"].to_pylist() == ["b0", "b1", "a1"]
    assert labelled.label.tolist() == [True, False, False]
    assert not labelled.is_synthetic


def test_the_simulators_file_is_known_as_synthetic(tmp_path: Path) -> None:
    """The mark in the file's metadata reaches the table."""
    path = tmp_path / "set.parquet"
    write_handbook_like(path, seed=0, customers=20, terminals=20, days=5, radius=50.0)
    labelled = load_labelled(path, ColumnMap())
    assert labelled.is_synthetic
    assert (np.diff(labelled.timestamp_us) >= 0).all()


def test_rows_without_a_label_are_kept_and_marked(tmp_path: Path) -> None:
    """They are history: not labelled, and not fraud; without the mapping's leave they are bad rows."""
    path = tmp_path / "a.csv"
    path.write_text(
        "transaction_id,timestamp,amount,is_fraud,labelled_at\n"
        "a,2026-01-01,1,1,2026-01-04\nb,2026-01-02,1,,\nc,2026-01-03,1,0,\n"
    )
    unknown = ColumnMap.model_validate({"label": {"missing": "unknown"}})
    labelled = load_labelled(path, unknown)
    assert labelled.is_labelled.tolist() == [True, False, True]
    assert labelled.label.tolist() == [True, False, False]
    assert labelled.table["labelled_at"].is_valid().to_pylist() == [True, False, False]
    strict = load_labelled(path, ColumnMap(), max_bad_ratio=0.5)
    assert strict.is_labelled.tolist() == [True, True]


def test_too_many_bad_rows_stop_training(tmp_path: Path) -> None:
    """The reasons are counted; a few bad rows are left out with a warning."""
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "".join(f"t{i},2026-01-01,{-1 if i < 2 else 1},0\n" for i in range(20)))
    with pytest.raises(BadDataError, match=r"2 of 20 rows are bad: amount: negative \(2\); first: row 0, '-1'"):
        load_labelled(path, ColumnMap())
    assert len(load_labelled(path, ColumnMap(), max_bad_ratio=0.1)) == 18


def test_rows_that_two_files_hold_count_once(tmp_path: Path) -> None:
    """Exports that overlap leave one copy of a row; a file that lies there twice stops training."""
    (tmp_path / "a.csv").write_text(HEADER + "".join(f"t{i},2026-01-{i + 1:02d},1,0\n" for i in range(20)))
    (tmp_path / "b.csv").write_text(HEADER + "t19,2026-01-20,1,0\nt20,2026-01-21,1,1\nt0,2026-01-22,1,0\n")
    labelled = load_labelled(tmp_path, ColumnMap())
    assert len(labelled) == 22
    assert labelled.rejections.counts == {"transaction_id: repeated in another file": 1}
    (tmp_path / "copy of a.csv").write_bytes((tmp_path / "a.csv").read_bytes())
    with pytest.raises(BadDataError, match=r"repeated in another file \(21\)"):
        load_labelled(tmp_path, ColumnMap())


def test_a_copy_without_ids_is_known_by_its_bytes(tmp_path: Path) -> None:
    """Made ids come from the file's digest, so two copies have the same."""
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("timestamp,amount,is_fraud\n2026-01-01,1,0\n2026-01-02,1,0\n")
    with pytest.raises(BadDataError, match=r"2 of 4 rows are bad: transaction_id: repeated in another file"):
        load_labelled(tmp_path, ColumnMap())


def test_files_that_differ_are_refused(tmp_path: Path) -> None:
    """A column that only some files have cannot be learned from."""
    (tmp_path / "a.csv").write_text(HEADER + "a,2026-01-01,1,0\n")
    (tmp_path / "b.csv").write_text("timestamp,amount,is_fraud\n2026-01-01,1,0\n")
    with pytest.raises(BadDataError, match="have different columns"):
        load_labelled(tmp_path, ColumnMap())
    with pytest.raises(BadDataError, match="holds no file like"):
        load_labelled(tmp_path / ".." / tmp_path.name / "..", ColumnMap())


@settings(max_examples=60, deadline=None)
@given(times=st.lists(st.integers(0, 30), min_size=4, max_size=80))
def test_no_part_shares_an_instant_with_a_later_one(times: list[int]) -> None:
    """Every training row is strictly before every validation row, and those before every test row."""
    sorted_times = np.sort(np.array(times, dtype=np.int64))
    try:
        split = split_by_time(sorted_times, test_share=0.2, valid_share=0.2)
    except BadDataError:
        return
    parts = [sorted_times[part] for part in (split.train, split.valid, split.test)]
    assert sum(map(len, parts)) == len(times)
    assert parts[0].max() < parts[1].min()
    assert parts[1].max() < parts[2].min()
    for train, valid in time_folds(sorted_times, n_folds=3, first_share=0.4):
        assert sorted_times[train].max() < sorted_times[valid].min()


def test_the_test_part_is_the_last_fifth() -> None:
    """With distinct instants, the shares are exact."""
    split = split_by_time(np.arange(100), test_share=0.2, valid_share=0.25)
    assert (split.train, split.valid, split.test) == (slice(0, 60), slice(60, 80), slice(80, 100))
    folds = list(time_folds(np.arange(100), n_folds=2, first_share=0.5))
    assert folds == [(slice(0, 50), slice(50, 75)), (slice(0, 75), slice(75, 100))]


@settings(max_examples=60, deadline=None)
@given(times=st.lists(st.integers(0, 60), min_size=4, max_size=80), delay=st.integers(0, 20))
def test_a_part_holds_no_row_whose_label_came_after_the_next_began(times: list[int], delay: int) -> None:
    """What is learned from, or chosen on, was known when the part after it began; nothing else is left out."""
    sorted_times = np.sort(np.array(times, dtype=np.int64))
    try:
        split = split_by_time(sorted_times, test_share=0.2, valid_share=0.3, delay_us=delay)
    except BadDataError:
        return
    for earlier, later in ((split.train, split.valid), (split.known, split.test)):
        begin = sorted_times[later][0]
        known = sorted_times < begin - delay if delay else sorted_times < begin
        assert earlier.stop == known.sum()
    assert split.waiting == slice(split.known.stop, split.test.start)
    for train, valid in time_folds(sorted_times, n_folds=3, first_share=0.4, delay_us=delay):
        assert sorted_times[train].max() + delay < sorted_times[valid].min()


def test_a_fraud_reported_later_passed_for_legitimate(tmp_path: Path) -> None:
    """Known at labelled_at, or a delay after the transaction where the file does not say."""
    path = tmp_path / "a.csv"
    path.write_text(
        "transaction_id,timestamp,amount,is_fraud,labelled_at\n"
        "a,2026-01-01,1,1,2026-01-02\nb,2026-01-01,1,1,2026-01-09\nc,2026-01-01,1,1,\nd,2026-01-01,1,0,\n"
    )
    labelled = load_labelled(path, ColumnMap())
    first, day_us = int(labelled.timestamp_us[0]), 86_400_000_000
    known = [labelled.label_known(first + days * day_us, delay_us=3 * day_us).tolist() for days in (0, 1, 2, 3, 8)]
    a, b, c = ([row[i] for row in known] for i in range(3))
    assert a == [False, True, True, True, True]
    assert b == [False, False, False, False, True]
    assert c == [False, False, False, True, True]
    assert not any(row[3] for row in known)


def test_one_instant_cannot_be_split() -> None:
    """A file of one moment has no past to learn from."""
    with pytest.raises(BadDataError, match="cannot be split by time"):
        split_by_time(np.zeros(10, dtype=np.int64), test_share=0.2, valid_share=0.2)
