"""The table behind the alert queue: what is read, what passes a filter, and in which order it is worked."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quatrain.fintech.cases import Case, CaseKey, Event
from quatrain.fintech.dashboard import alert_table, case_panel
from quatrain.fintech.dashboard.alert_table import Filters

SCHEMA = pa.schema(
    [
        ("transaction_id", pa.string()),
        ("timestamp", pa.timestamp("us", "UTC")),
        ("customer_id", pa.string()),
        ("terminal_id", pa.string()),
        ("amount", pa.float64()),
        ("score", pa.float32()),
        ("threshold", pa.float32()),
        ("reason_1", pa.string()),
        ("reason_2", pa.string()),
        ("reason_3", pa.string()),
        ("source_file", pa.string()),
        ("model", pa.string()),
        ("is_synthetic", pa.bool_()),
        ("feature:amount", pa.float64()),
        ("feature:hour", pa.float64()),
    ]
)


def alert(number: int, **changes: Any) -> dict[str, Any]:
    """Return one alert, number `number`, with what a test cares about changed."""
    row = {
        "transaction_id": str(number),
        "timestamp": datetime(2018, 8, 10, number, tzinfo=UTC),
        "customer_id": "c1",
        "terminal_id": "t1",
        "amount": 100.0 * number,
        "score": 0.5 + number / 100,
        "threshold": 0.4,
        "reason_1": "amount 950.00, usually 22.00",
        "source_file": "day.csv",
        "model": "fintech/fraud abcdefabcdef",
        "is_synthetic": False,
        "feature:amount": 100.0 * number,
        "feature:hour": float(number),
    }
    return row | changes


def write(path: Path, *rows: dict[str, Any]) -> Path:
    """Write an alert file as the job does."""
    pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), path)
    return path


def read(*paths: Path) -> pd.DataFrame:
    """Return the alerts of these files, all open."""
    return alert_table.add_status(alert_table.read_alerts(alert_table.describe_files(paths)), {})


def ids(frame: pd.DataFrame) -> list[str]:
    """Return the transactions in the frame's order."""
    return list(frame["transaction_id"])


def test_no_file_gives_an_empty_table_of_the_same_shape(tmp_path: Path) -> None:
    """A page can filter and add up nothing."""
    frame = read()
    full = read(write(tmp_path / "a.parquet", alert(1)))
    assert set(frame) == set(full)
    assert alert_table.summarise(alert_table.apply_filters(frame, Filters(first_day=date(2018, 8, 1)))).n_alerts == 0


def test_the_newest_scoring_of_a_transaction_counts(tmp_path: Path) -> None:
    """A file scored again with a better model does not double its alerts."""
    old = write(tmp_path / "a.parquet", alert(1, score=0.5), alert(2))
    new = write(tmp_path / "b.parquet", alert(1, score=0.9))
    frame = read(old, new)
    assert sorted(ids(frame)) == ["1", "2"]
    assert frame.loc[frame["transaction_id"] == "1", "score"].item() == pytest.approx(0.9)


def test_the_same_id_in_two_files_is_two_alerts(tmp_path: Path) -> None:
    """Ids are only unique within their file."""
    frame = read(write(tmp_path / "a.parquet", alert(1), alert(1, source_file="other.csv")))
    assert sorted(frame["id"]) == ["day.csv/1", "other.csv/1"]


def test_a_file_that_was_removed_is_left_out(tmp_path: Path) -> None:
    """Clearing old results does not break the page."""
    assert alert_table.describe_files([tmp_path / "gone.parquet"]) == ()


def test_files_without_cards_are_read_beside_files_with_them(tmp_path: Path) -> None:
    """An absent entity is a missing value, also where the whole column is null."""
    frame = read(
        write(tmp_path / "a.parquet", alert(1)),
        write(tmp_path / "b.parquet", alert(2, customer_id=None, terminal_id=None, source_file="ulb.csv")),
    )
    assert frame["customer_id"].isna().tolist() == [False, True]


def test_the_status_comes_from_the_cases(tmp_path: Path) -> None:
    """An alert that nobody decided is open."""
    frame = read(write(tmp_path / "a.parquet", alert(1), alert(2)))
    event = Event(action="fraud", at=datetime.now(UTC), analyst="ana")
    known = {CaseKey("day.csv", "2"): Case(status="fraud", events=(event,))}
    assert alert_table.add_status(frame, known)["status"].tolist() == ["open", "fraud"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(), ["1", "2", "3"]),
        (Filters(status="open"), ["1", "3"]),
        (Filters(status="fraud"), ["2"]),
        (Filters(min_score=0.52), ["2", "3"]),
        (Filters(min_amount=200, max_amount=200), ["2"]),
        (Filters(first_day=date(2018, 8, 11)), ["3"]),
        (Filters(last_day=date(2018, 8, 10)), ["1", "2"]),
        (Filters(source_files=("late.csv",)), ["3"]),
        (Filters(status="open", min_amount=250), ["3"]),
    ],
)
def test_filters_keep_what_they_name(tmp_path: Path, filters: Filters, expected: list[str]) -> None:
    """Ends of ranges are included; filters are joined by and."""
    late = alert(3, timestamp=datetime(2018, 8, 11, tzinfo=UTC), source_file="late.csv")
    frame = read(write(tmp_path / "a.parquet", alert(1), alert(2), late))
    frame["status"] = ["open", "fraud", "open"]
    assert ids(alert_table.apply_filters(frame, filters)) == expected


@given(low=st.floats(0, 400), high=st.floats(0, 400), score=st.floats(0, 1))
def test_a_filter_is_the_same_as_looking_at_each_row(low: float, high: float, score: float) -> None:
    """The vectorised filter against a plain loop."""
    rows = [alert(number) for number in range(1, 5)]
    frame = pd.DataFrame(rows).assign(status="open", id=lambda rows: rows["transaction_id"])
    filters = Filters(min_amount=low, max_amount=high, min_score=score)
    expected = [row["transaction_id"] for row in rows if low <= row["amount"] <= high and row["score"] >= score]
    assert ids(alert_table.apply_filters(frame, filters)) == expected


@pytest.mark.parametrize(
    ("order", "expected"), [("score", ["3", "1", "2"]), ("amount", ["1", "3", "2"]), ("newest", ["2", "3", "1"])]
)
def test_the_most_pressing_alert_comes_first(tmp_path: Path, order: Any, expected: list[str]) -> None:
    """By score with ties by amount, by amount, or by time."""
    rows = [
        alert(1, score=0.5, amount=300, timestamp=datetime(2018, 8, 1, tzinfo=UTC)),
        alert(2, score=0.5, amount=10, timestamp=datetime(2018, 8, 3, tzinfo=UTC)),
        alert(3, score=0.75, amount=20, timestamp=datetime(2018, 8, 2, tzinfo=UTC)),
    ]
    frame = read(write(tmp_path / "a.parquet", *rows))
    assert ids(alert_table.put_in_order(frame, order)) == expected
    assert ids(alert_table.put_in_order(frame[::-1], order)) == expected


def test_the_summary_adds_up_by_status(tmp_path: Path) -> None:
    """Value at risk is that of the open alerts only."""
    frame = read(write(tmp_path / "a.parquet", *(alert(number) for number in range(1, 5))))
    frame["status"] = ["open", "open", "fraud", "dismissed"]
    summary = alert_table.summarise(frame)
    assert (summary.n_alerts, summary.n_open, summary.n_fraud, summary.n_dismissed) == (4, 2, 1, 1)
    assert (summary.open_amount, summary.fraud_amount) == (300.0, 300.0)


def test_the_inputs_of_one_alert_are_read_from_its_row(tmp_path: Path) -> None:
    """Names without their prefix, in the file's order."""
    path = write(tmp_path / "a.parquet", alert(1), alert(7))
    assert alert_table.read_inputs(str(path), 1) == {"amount": 700.0, "hour": 7.0}


def test_inputs_stand_beside_typical_ones_in_words() -> None:
    """Hours and flags are read as people write them; the logarithm is left out; no reference is a dash."""
    inputs = {"amount": 1950.0, "log_amount": 7.6, "hour": 22.5, "is_night": 1.0, "weekday": 5.0, "V14": -6.25}
    typical = {"amount": 22.0, "log_amount": 3.1, "hour": 14.75, "is_night": 0.0, "weekday": 2.0}
    table = case_panel.inputs_table(inputs, typical)
    assert table.to_dict("list") == {
        "Input": ["Amount", "Hour", "Night", "Weekday", "V14"],
        "Here": ["1,950.00", "22:30 UTC", "yes", "Saturday", "-6.250"],
        "Typical": ["22.00", "14:45 UTC", "no", "Wednesday", "\u2013"],
    }


def test_inputs_that_reasons_name_come_first() -> None:
    """An analyst does not search thirty anonymous columns for the one that counted."""
    table = case_panel.inputs_table({"amount": 1.0, "V1": 1.0, "V14": -6.0}, {}, reasons=["V14 -6, usually 0"])
    assert table["Input"].tolist() == ["V14", "Amount", "V1"]


def test_history_is_told_in_words() -> None:
    """A label and a unit for each feature, and those of the reasons on top."""
    inputs = {"amount": 1.0, "terminal_risk_7d": 0.125, "customer_since": 0.25}
    reason = "customer: time since the last transaction 15 min, usually 30.0 h"
    table = case_panel.inputs_table(inputs, {"customer_since": 30.0}, reasons=[reason])
    assert table.to_dict("list") == {
        "Input": ["Customer: time since the last transaction", "Amount", "Terminal: fraud rate in 7 days"],
        "Here": ["15 min", "1.00", "12.5%"],
        "Typical": ["30.0 h", "\u2013", "\u2013"],
    }


def test_files_with_and_without_a_chance_stand_in_one_table(tmp_path: Path) -> None:
    """Alerts of an older model have a score only; those of a calibrated one its interval too."""
    old = write(tmp_path / "a.parquet", alert(1))
    new = write(tmp_path / "b.parquet", alert(2))
    table = pq.read_table(new)
    for name, value in {"probability": 0.5, "low": 0.25, "high": 0.75}.items():
        table = table.append_column(name, pa.array([value], pa.float32()))
    pq.write_table(table, new)
    frame = alert_table.read_alerts(alert_table.describe_files([old, new]))
    assert frame["probability"].isna().tolist() == [True, False]
    assert frame[["low", "high"]].iloc[1].tolist() == [0.25, 0.75]
