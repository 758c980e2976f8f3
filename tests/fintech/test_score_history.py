"""Scoring with history features: what a file knows of the past, in every order and after every interruption."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from pyarrow import csv
from tests.fintech.score_models import DAY_US, LABEL_DELAY_DAYS, NAMES, START_US, day_of, make_world, seal_model

from quatrain.core.errors import UserError
from quatrain.core.inference import load_model
from quatrain.core.jobs.report import JobReport
from quatrain.fintech import journal
from quatrain.fintech.data.columns import TYPES
from quatrain.fintech.features.build import build
from quatrain.fintech.score import pieces
from quatrain.fintech.score.run import ScoreConfig, score

DELAY_US = round(LABEL_DELAY_DAYS * DAY_US)


class Desk:
    """A model, an inbox, and what scoring made of it."""

    def __init__(self, root: Path, **model: Any) -> None:
        self.root = root
        self.inbox = root / "in"
        self.inbox.mkdir()
        self.bundle = seal_model(root / "bundle", **model)
        self.model = load_model(root / "bundle")

    def put(self, name: str, rows: pa.Table, folder: str = "in") -> Path:
        """Write a file of transactions."""
        path = self.root / folder / name
        path.parent.mkdir(exist_ok=True)
        pq.write_table(rows, path)
        return path

    def run(self, *, out: str = "out", **options: Any) -> JobReport:
        """Score the inbox."""
        values = {"inputs": (self.inbox,), "bundle": str(self.root / "bundle"), "out": self.root / out}
        return score(ScoreConfig.model_validate(values | options))

    def features(self, stem: str, out: str = "out") -> NDArray[np.float32]:
        """Return the model's inputs of each row of a file, which alerts hold; the threshold is 0 in these tests."""
        (path,) = (self.root / out / "alerts").glob(f"{stem}-*.parquet")
        alerts = pq.read_table(path)
        return np.stack([alerts[f"feature:{name}"].to_numpy() for name in NAMES], axis=1)

    def published(self, out: str = "out") -> dict[str, bytes]:
        """Return what consumers see."""
        files = (path for path in (self.root / out).rglob("*") if path.is_file())
        shown = (path for path in files if not any(part.startswith(".") for part in path.parts))
        return {str(path.relative_to(self.root / out)): path.read_bytes() for path in shown}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Return a desk whose model makes an alert of every row."""
    return Desk(tmp_path, threshold=0.0)


def expected(rows: pa.Table, past: pa.Table | None) -> NDArray[np.float32]:
    """Return the inputs of rows that follow this past."""
    return build(rows, NAMES, history=past, label_delay_us=DELAY_US)


def test_day_by_day_gives_what_one_look_at_everything_gives(desk: Desk) -> None:
    """The journal of training, then a file a day: no row can tell that the past came in pieces."""
    world = make_world(has_labels=True)
    day = day_of(world)
    journal.save_for(desk.model.digest, world.filter(pa.array(day < 38)))
    # What comes to be scored has no labels yet.
    known = world.set_column(
        world.column_names.index("is_fraud"),
        "is_fraud",
        pa.array([bool(f) if d < 38 else None for f, d in zip(world["is_fraud"].to_pylist(), day, strict=True)]),
    )
    whole = expected(known, None)
    for number in range(38, 45):
        desk.put(f"{number}.parquet", world.filter(pa.array(day == number)).drop_columns(["is_fraud"]))
    assert desk.run().units["done"] == 7
    for number in range(38, 45):
        np.testing.assert_array_equal(desk.features(str(number)), whole[day == number])
    assert (whole[day >= 38] != expected(world.filter(pa.array(day >= 38)), None)).any()


def test_a_file_per_run_gives_what_one_run_gives(desk: Desk) -> None:
    """Whether cron came once or seven times cannot be seen in the results."""
    world = make_world()
    parts = np.array_split(np.arange(len(world)), 5)
    for number, rows in enumerate(parts):
        desk.put(f"{number}.parquet", world.take(rows))
        desk.run(out="often")
    desk.run(out="once")
    assert desk.published("often") == desk.published("once")
    assert sorted({name.partition("/")[0] for name in desk.published("once")}) == ["alerts", "history", "scores"]


def test_a_late_file_sees_what_had_arrived_and_only_earlier_events(desk: Desk) -> None:
    """Files 0 and 2 first, then 1: it looks back on 0 only, and 3 looks back on all of them."""
    world = make_world()
    parts = [world.take(rows) for rows in np.array_split(np.arange(len(world)), 4)]
    for number in (0, 2):
        desk.put(f"{number}.parquet", parts[number])
    desk.run()
    desk.put("1.parquet", parts[1])
    desk.run()
    desk.put("3.parquet", parts[3])
    desk.run()
    np.testing.assert_array_equal(desk.features("2"), expected(parts[2], parts[0]))
    np.testing.assert_array_equal(desk.features("1"), expected(parts[1], pa.concat_tables([parts[0], parts[2]])))
    np.testing.assert_array_equal(desk.features("3"), expected(parts[3], pa.concat_tables(parts[:3])))


def test_a_file_done_again_gives_the_same_bytes(desk: Desk) -> None:
    """Its results were deleted: files that came after it are not its past."""
    world = make_world()
    for number, rows in enumerate(np.array_split(np.arange(len(world)), 4)):
        desk.put(f"{number}.parquet", world.take(rows))
    # Sorts before the others, so in a second run it comes first.
    (desk.inbox / "2.parquet").rename(desk.root / "aside.parquet")
    desk.run()
    (desk.root / "aside.parquet").rename(desk.inbox / "2.parquet")
    desk.run()
    before = desk.published()
    for path in (desk.root / "out").glob("*/[03]-*.parquet"):
        path.unlink()
    assert desk.run().units["done"] == 2
    assert desk.published() == before


def test_the_same_transaction_in_two_files_is_one_event(desk: Desk) -> None:
    """A corrected file repeats most rows of the first one: nothing counts twice."""
    world = make_world(200, days=10)
    desk.put("a.parquet", world)
    desk.put("b.parquet", world.slice(20))
    desk.run()
    np.testing.assert_array_equal(desk.features("b"), desk.features("a")[20:])


def test_pieces_of_many_small_files_change_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty files of five minutes each, put together four by four on the way."""
    monkeypatch.setattr(pieces, "_FAN", 4)
    world = make_world(400, days=20)
    for number, rows in enumerate(np.array_split(np.arange(len(world)), 40)):
        desk.put(f"{number:02}.parquet", world.take(rows))
    desk.run()
    assert 0 < len(list((desk.root / "out" / ".pieces" / "history").iterdir())) <= 9
    whole = expected(world, None)
    got = np.concatenate([desk.features(f"{number:02}") for number in range(40)])
    np.testing.assert_array_equal(got, whole)


def test_given_history_counts_as_if_it_had_been_scored(desk: Desk) -> None:
    """Labels in it count too; it is read once, and it is not scored."""
    world = make_world(has_labels=True)
    past, new = world.slice(0, 800), world.slice(800).drop_columns(["is_fraud"])
    given = desk.put("past.parquet", past, "given")
    desk.put("new.parquet", new)
    report = desk.run(history=given.parent)
    assert report.units["done"] == 2
    np.testing.assert_array_equal(desk.features("new"), expected(new, past))
    assert sorted({name.partition("/")[0] for name in desk.published()}) == ["alerts", "history", "past", "scores"]
    assert len([name for name in desk.published() if name.startswith("scores/")]) == 1
    desk.put("newer.parquet", make_world(50, days=50, seed=1))
    assert desk.run(history=given.parent).units == {"new": 1, "done": 1, "refused": 0, "failed": 0, "skipped": 2}


def test_history_that_cannot_be_used_ends_the_run_before_anything_is_scored(desk: Desk) -> None:
    """Scored without its past, a file would keep what it got."""
    given = desk.root / "past.csv"
    given.write_text("when,what\n1,2\n")
    desk.put("new.parquet", make_world(20))
    for _ in range(2):
        with pytest.raises(UserError, match=r"past\.csv is needed before anything else"):
            desk.run(history=given)
    assert not [name for name in desk.published() if name.startswith("scores/")]


def labels_csv(path: Path, ids: list[Any], *, known: list[str] | None = None) -> Path:
    """Write a file of confirmed frauds."""
    columns: dict[str, Any] = {"transaction_id": ids, "is_fraud": [1] * len(ids)}
    if known is not None:
        columns["labelled_at"] = known
    path.parent.mkdir(exist_ok=True)
    csv.write_csv(pa.table(columns), path)
    return path


def test_labels_count_from_when_they_were_known(desk: Desk) -> None:
    """Frauds of file 0, known on day 20: rows of file 1 see them from then on, and not before."""
    world = make_world(400, days=40)
    first, second = world.slice(0, 150), world.slice(150)
    frauds = first["transaction_id"].to_pylist()[::7]
    known_us = START_US + 20 * DAY_US
    desk.put("0.parquet", first)
    desk.run()
    labels = labels_csv(desk.root / "l" / "l.csv", frauds, known=["2026-01-21T00:00:00Z"] * len(frauds))
    desk.put("1.parquet", second)
    assert desk.run(labels=labels.parent).units["done"] == 2
    is_fraud = [transaction in frauds for transaction in first["transaction_id"].to_pylist()]
    told = first.append_column("is_fraud", pa.array(is_fraud)).append_column(
        "labelled_at", pa.array([known_us if f else None for f in is_fraud], TYPES["labelled_at"])
    )
    got = desk.features("1")
    np.testing.assert_array_equal(got, expected(second, told))
    changed = (got != expected(second, first)).any(axis=1)
    at_us = second["timestamp"].cast(pa.int64()).to_numpy()
    assert changed.any()
    assert at_us[changed].min() >= known_us


def test_labels_without_a_time_count_from_the_files_arrival(desk: Desk) -> None:
    """The file's own time, so that a run after a kill reads the same."""
    world = make_world(400, days=40)
    frauds = world["transaction_id"].to_pylist()[:60]
    desk.put("0.parquet", world.slice(0, 150))
    desk.put("1.parquet", world.slice(150))
    results = []
    for out, day in (("early", 15), ("late", 25)):
        labels = labels_csv(desk.root / out / "l.csv", frauds)
        seconds = START_US / 1e6 + day * 86_400
        os.utime(labels, (seconds, seconds))
        desk.run(labels=labels, out=f"out-{out}")
        results.append(desk.features("1", f"out-{out}"))
    at_us = world.slice(150)["timestamp"].cast(pa.int64()).to_numpy()
    differs = (results[0] != results[1]).any(axis=1)
    assert differs.any()
    assert at_us[differs].min() >= START_US + 15 * DAY_US


def test_new_labels_score_nothing_again_and_the_newest_word_counts(desk: Desk) -> None:
    """Files that are done stay done; a verdict that was taken back is no fraud any more."""
    world = make_world(300, days=30)
    ids = world["transaction_id"].to_pylist()[:80]
    desk.put("0.parquet", world.slice(0, 200))
    labels_csv(desk.root / "l" / "0.csv", ids, known=["2026-01-12T00:00:00Z"] * len(ids))
    assert desk.run(labels=desk.root / "l").units["done"] == 2
    taken_back = pa.table({"transaction_id": ids, "is_fraud": [0] * len(ids)})
    csv.write_csv(taken_back, desk.root / "l" / "1.csv")
    desk.put("1.parquet", world.slice(200))
    assert desk.run(labels=desk.root / "l").units == {"new": 2, "done": 2, "refused": 0, "failed": 0, "skipped": 2}
    np.testing.assert_array_equal(desk.features("1"), expected(world.slice(200), world.slice(0, 200)))


def test_of_an_id_that_comes_again_in_a_file_the_last_row_counts(desk: Desk) -> None:
    """As when an export holds the first report and its correction."""
    world = make_world(300, days=30)
    ids = world["transaction_id"].to_pylist()[:80]
    lines = [f"{id_},{label},2026-01-12T00:00:00Z" for label in (1, 0) for id_ in ids]
    (desk.root / "l.csv").write_text("\n".join(["transaction_id,is_fraud,labelled_at", *lines]) + "\n")
    desk.put("0.parquet", world)
    desk.run(labels=desk.root / "l.csv")
    np.testing.assert_array_equal(desk.features("0"), expected(world, None))


def test_bad_labels_are_set_aside(desk: Desk) -> None:
    """Each with its reason; a file without the columns is refused, and the transactions are scored."""
    folder = desk.root / "l"
    folder.mkdir()
    (folder / "rows.csv").write_text("transaction_id,is_fraud,labelled_at\nt1,1,\n,1,\nt2,maybe,\nt3,1,soon\n")
    (folder / "columns.csv").write_text("id,label\nt1,1\n")
    desk.put("0.parquet", make_world(30))
    report = desk.run(labels=folder, max_bad_ratio=1)
    assert (report.units["done"], report.units["refused"]) == (2, 1)
    (rows,) = (desk.root / "out" / "quarantine").glob("rows-*.jsonl")
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [(line["row"], line["column"]) for line in lines] == [
        (1, "transaction_id"),
        (2, "is_fraud"),
        (3, "labelled_at"),
    ]
    (refused,) = (desk.root / "out" / "quarantine").glob("columns-*.jsonl")
    assert "lacks transaction_id, is_fraud" in refused.read_text()


def test_a_cold_start_is_said_once(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """With neither journal nor history: one warning that says what to do; with either, none."""
    world = make_world(90)
    for number in range(3):
        desk.put(f"{number}.parquet", world.slice(30 * number, 30))
    with caplog.at_level(logging.WARNING):
        desk.run()
    (warning,) = [record.getMessage() for record in caplog.records if "start cold" in record.getMessage()]
    assert "up to 62 days" in warning
    assert "--history FILE" in warning
    caplog.clear()
    journal.save_for(desk.model.digest, world)
    with caplog.at_level(logging.WARNING):
        desk.run(out="again")
    assert "start cold" not in caplog.text


def test_a_file_without_the_ids_is_refused(desk: Desk) -> None:
    """Features of a customer need a customer; the reason names the columns."""
    desk.put("bare.parquet", make_world(20).drop_columns(["customer_id", "device_id"]))
    assert desk.run().units["refused"] == 1
    (line,) = (desk.root / "out" / "quarantine").glob("bare-*.jsonl")
    assert "need customer_id, device_id" in line.read_text()


@pytest.mark.parametrize(("on", "n_alerts"), [("probability", 0), ("score", 40)])
def test_a_calibrated_model_gives_probability_and_interval(tmp_path: Path, on: str, n_alerts: int) -> None:
    """The sealed decision says which of the numbers the threshold is compared with."""
    desk = Desk(tmp_path, is_calibrated=True, threshold=0.5, threshold_on=on)
    desk.put("a.parquet", make_world(200, days=10))
    desk.run()
    scores = pq.read_table(next((tmp_path / "out" / "scores").iterdir()))
    assert scores.column_names == ["transaction_id", "timestamp", "score", "probability", "low", "high", "is_alert"]
    value = {name: scores[name].to_numpy() for name in ("score", "probability", "low", "high")}
    np.testing.assert_array_equal(value["probability"], value["score"] * np.float32(0.5))
    assert ((value["low"] <= value["probability"]) & (value["probability"] <= value["high"])).all()
    np.testing.assert_array_equal(scores["is_alert"].to_numpy(), value[on] >= np.float32(0.5))
    alerts = pq.read_table(next((tmp_path / "out" / "alerts").iterdir()))
    assert {"probability", "low", "high", "threshold_on", "device_id"} <= set(alerts.column_names)
    assert (len(alerts) > n_alerts) == (on == "score")


def test_history_is_not_read_by_a_model_that_looks_at_rows_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It keeps no history either, and says so."""
    desk = Desk(tmp_path, names=("amount", "hour"))
    desk.put("a.parquet", make_world(20))
    given = desk.put("past.parquet", make_world(20, seed=1), "given")
    with caplog.at_level(logging.WARNING):
        desk.run(history=given)
    assert "history and labels are not read" in caplog.text
    assert sorted({name.partition("/")[0] for name in desk.published()}) == ["alerts", "scores"]


def test_units_recorded_before_the_horizon_are_not_looked_at(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is recorded before it happened, so a ledger of years costs no more than one of months."""
    shift_us = round(time.time() * 1e6) - START_US - 45 * DAY_US
    world = make_world(900)
    later = pa.array(world["timestamp"].cast(pa.int64()).to_numpy() + shift_us, TYPES["timestamp"])
    new = world.set_column(world.column_names.index("timestamp"), "timestamp", later)
    desk.put("old.parquet", world)
    desk.run()
    with closing(sqlite3.connect(desk.root / "quatrain-home" / "ledger.db")) as link:
        link.execute("update job_unit set recorded = '2026-02-15T00:00:00.000000+00:00'")
        link.commit()
    (old,) = (desk.root / "out" / "history").iterdir()
    desk.put("new.parquet", new)
    (desk.inbox / "old.parquet").unlink()
    old.unlink()
    with caplog.at_level(logging.INFO):
        desk.run()
    assert "are gone" not in caplog.text
    np.testing.assert_array_equal(desk.features("new"), expected(new, world))


def test_a_file_dated_ahead_sees_the_one_before_it(desk: Desk) -> None:
    """Dates in the future are recorded before they happen, and looked back on all the same."""
    world = make_world(600)
    ahead = pa.array(world["timestamp"].cast(pa.int64()).to_numpy() + 2000 * DAY_US, TYPES["timestamp"])
    world = world.set_column(world.column_names.index("timestamp"), "timestamp", ahead)
    desk.put("0.parquet", world.slice(0, 500))
    desk.run()
    desk.put("1.parquet", world.slice(500))
    desk.run()
    np.testing.assert_array_equal(desk.features("1"), expected(world.slice(500), world.slice(0, 500)))
