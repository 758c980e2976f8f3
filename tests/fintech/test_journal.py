"""The journal: what is kept of past transactions, and that leaving the rest unread changes no feature."""

from __future__ import annotations

import stat
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fintech.score_models import DAY_US, NAMES, START_US, make_world

from quatrain.fintech import journal
from quatrain.fintech.data.columns import TYPES
from quatrain.fintech.features.build import build
from quatrain.fintech.features.names import STANDARD, entities, horizon_us
from quatrain.fintech.journal import JournalError, View

DELAY_US = 2 * DAY_US
DIGEST = "d" * 64


def view_of(rows: pa.Table, names: tuple[str, ...] = NAMES) -> View:
    """Return what rows can see with these inputs."""
    is_graph = "device_component" in names
    return View.of(rows, entities(names), horizon_us=horizon_us(names, DELAY_US), is_graph=is_graph)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    n_rows=st.integers(1, 40),
    names=st.sampled_from([NAMES, STANDARD]),
    n_many=st.sampled_from([20, 100_000]),
)
def test_what_the_view_leaves_out_changes_no_feature(
    seed: int, n_rows: int, names: tuple[str, ...], n_many: int
) -> None:
    """Rows of other keys, too old, or later: read or not, the new rows' features have the same bits."""
    world = make_world(300, days=100, seed=seed, has_labels=True)
    rng = np.random.default_rng(seed)
    is_new = np.zeros(len(world), dtype=bool)
    is_new[rng.choice(np.arange(100, 300), n_rows, replace=False)] = True
    rows = world.filter(pa.array(is_new)).drop_columns(["is_fraud"])
    past = world.filter(pa.array(~is_new))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "_MANY", n_many)
        path = Path(folder) / "past.parquet"
        pq.write_table(past, path, row_group_size=50)
        seen = journal.read_events(path, view_of(rows, names))
    assert len(seen) < len(past) or n_rows > 3
    expected = build(rows, names, history=past, label_delay_us=DELAY_US)
    np.testing.assert_array_equal(build(rows, names, history=seen, label_delay_us=DELAY_US), expected)


def test_row_groups_outside_the_view_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A year of history costs no more than the horizon."""
    world = make_world(1000, days=300)
    pq.write_table(world, tmp_path / "past.parquet", row_group_size=100)
    rows = world.slice(500, 10)
    read: list[int] = []
    honest = pq.ParquetFile.read_row_groups

    def noted(self: pq.ParquetFile, groups: list[int], **options: Any) -> pa.Table:
        read.extend(groups)
        return honest(self, groups, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", noted)
    seen = journal.read_events(tmp_path / "past.parquet", view_of(rows))
    at_us, new_us, seen_us = (each["timestamp"].cast(pa.int64()).to_numpy() for each in (world, rows, seen))
    since_us, until_us = new_us.min() - horizon_us(NAMES, DELAY_US), new_us.max()
    groups = at_us.reshape(10, 100)
    assert read == np.flatnonzero((groups.max(axis=1) > since_us) & (groups.min(axis=1) <= until_us)).tolist()
    assert 2 <= len(read) <= 5
    assert since_us < seen_us.min() <= seen_us.max() <= until_us


def test_a_journal_keeps_the_last_events_and_no_other_column() -> None:
    """Back to the horizon before the newest event; extra columns are the model's business, not history's."""
    world = make_world(500, days=90, has_labels=True).append_column("score_of_yesterday", pa.array(np.zeros(500)))
    path = journal.save_for(DIGEST, world, horizon_us=30 * DAY_US)
    kept = journal.load_for(DIGEST)
    assert kept is not None
    at_us = world["timestamp"].cast(pa.int64()).to_numpy()
    expected = world.filter(pa.array(at_us > at_us.max() - 30 * DAY_US)).drop_columns(["score_of_yesterday"])
    assert kept.equals(expected)
    assert path == journal.path_for(DIGEST)
    assert path.parts[-3:] == ("history", "fintech", f"{DIGEST}.parquet")
    assert not list(path.parent.glob("*.part"))


def test_a_journal_is_for_its_owner_only() -> None:
    """It says who paid whom."""
    path = journal.save_for(DIGEST, make_world(20))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_saving_again_replaces_the_whole() -> None:
    """A model is trained again under the same digest only from the same data."""
    journal.save_for(DIGEST, make_world(20))
    journal.save_for(DIGEST, make_world(30, seed=1))
    kept = journal.load_for(DIGEST)
    assert kept is not None
    assert len(kept) == 30


def test_no_journal_is_no_error() -> None:
    """A bundle from another machine comes without."""
    assert journal.load_for(DIGEST) is None


def test_a_damaged_journal_says_what_to_do() -> None:
    """It names the file, and how to go on without."""
    path = journal.save_for(DIGEST, make_world(20))
    path.write_bytes(path.read_bytes()[:100])
    for view in (None, view_of(make_world(5))):
        with pytest.raises(JournalError, match=r"dddd\.parquet holds past transactions and cannot be read: .*restore"):
            journal.load_for(DIGEST, view)


def test_an_interrupted_save_leaves_the_old_one() -> None:
    """Whole or not at all."""
    journal.save_for(DIGEST, make_world(20))

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pq, "write_table", full)
        with pytest.raises(OSError, match="No space left"):
            journal.save_for(DIGEST, make_world(30))
    kept = pq.read_table(journal.path_for(DIGEST))
    assert len(kept) == 20
    assert [path.name for path in journal.path_for(DIGEST).parent.iterdir()] == [f"{DIGEST}.parquet"]


@pytest.mark.parametrize("has_columns", [True, False])
def test_labels_are_joined_by_id(has_columns: bool) -> None:
    """What a label says replaces what was there; rows without one keep theirs."""
    rows = make_world(6, has_labels=True)
    ids = rows["transaction_id"].to_pylist()
    rows = rows.set_column(rows.column_names.index("is_fraud"), "is_fraud", pa.array([True, False, None] * 2))
    rows = rows if has_columns else rows.drop_columns(["is_fraud"])
    labels = pa.table(
        {
            "transaction_id": [ids[1], ids[3], "elsewhere"],
            "is_fraud": [True, False, True],
            "labelled_at": pa.array([START_US, START_US + 1, START_US], TYPES["labelled_at"]),
        }
    )
    told = journal.with_labels(rows, labels)
    had = [True, False, None] * 2 if has_columns else [None] * 6
    assert told["is_fraud"].to_pylist() == [had[0], True, had[2], False, had[4], had[5]]
    known = told["labelled_at"].cast(pa.int64()).to_pylist()
    assert known == [None, START_US, None, START_US + 1, None, None]
    assert told["transaction_id"].to_pylist() == ids
    assert journal.with_labels(rows, None) is rows
