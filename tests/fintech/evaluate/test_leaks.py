"""Planted leaks are named with the reason; strong but honest columns are not."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from quatrain.core.errors import BadDataError
from quatrain.fintech.data.arrays import from_numpy, from_strings
from quatrain.fintech.data.columns import TYPES, ColumnMap, CsvFormat, ExtraColumns
from quatrain.fintech.data.named import NamedData
from quatrain.fintech.data.table import Labelled, Rejections
from quatrain.fintech.evaluate.alone import Strength
from quatrain.fintech.evaluate.leak_files import leaks_of
from quatrain.fintech.evaluate.leaks import Leak, find_leaks

N = 30_000
N_CUSTOMERS = 400
DAYS = 40
START_US = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000


class World:
    """Transactions of which 1.5 % are fraud, mostly of some customers and of high amounts."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.rng = rng
        self.at_us = START_US + np.sort(rng.integers(0, DAYS * 86_400, N)) * 1_000_000
        self.customer = rng.integers(0, N_CUSTOMERS, N)
        self.amount = np.round(rng.gamma(2, 30, N), 2)
        risk = 0.005 * (1 + 8 * (self.customer % 10 == 0) + 4 * (self.amount > 120))
        self.label = rng.random(N) < risk

    def labelled(self, **extras: NDArray[Any]) -> Labelled:
        """Return the rows with extra columns."""
        columns = {
            "transaction_id": from_strings([f"T{i:06}" for i in range(N)]),
            "timestamp": from_numpy(self.at_us).cast(TYPES["timestamp"]),
            "customer_id": from_strings([f"C{c:04}" for c in self.customer]),
            "amount": from_numpy(self.amount),
            "is_fraud": from_numpy(self.label),
        }
        table = pa.table(columns | {name: from_numpy(np.asarray(v, dtype=np.float64)) for name, v in extras.items()})
        return Labelled(table=table, extras=tuple(extras), digest="", rejections=Rejections(), is_synthetic=True)

    def separated(self, shift: float) -> NDArray[np.float64]:
        """Return normal numbers that are this much larger for frauds: an honest score of a good rule."""
        return self.rng.normal(self.label * shift)


@functools.cache
def world() -> World:
    """Return the one world of these tests."""
    return World()


def kinds(leaks: tuple[Leak, ...], column: str) -> set[str]:
    """Return why a column is flagged."""
    return {leak.kind for leak in leaks if leak.column == column}


def post_outcome(w: World) -> NDArray[Any]:
    """The label under another name."""
    return w.label


def inverted(w: World) -> NDArray[Any]:
    """Its opposite, in other units."""
    return 7.0 - 3 * w.label


def noisy(w: World) -> NDArray[Any]:
    """What a case worker's system says of most frauds: wrong for 2 % of them and for one row in 500."""
    return np.where(w.rng.random(N) < np.where(w.label, 0.02, 0.002), ~w.label, w.label)


def continuous(w: World) -> NDArray[Any]:
    """The label with normal noise, as a score that was computed afterwards."""
    return w.label + w.rng.normal(size=N) * 0.2


def half(w: World) -> NDArray[Any]:
    """A sum that was recovered, of half to three quarters of the frauds; nothing else has one."""
    return np.where(w.label & (w.rng.random(N) < 0.7), w.amount, 0.0)


@pytest.mark.parametrize("plant", [post_outcome, inverted, noisy, continuous, half], ids=lambda plant: plant.__name__)
def test_a_planted_post_outcome_column_is_flagged(plant: Callable[[World], NDArray[Any]]) -> None:
    """With the measure that gave it away and the line for columns.toml; nothing else is flagged."""
    leaks = find_leaks(world().labelled(planted=plant(world()), honest=world().separated(1.5)))
    assert [leak.column for leak in leaks] == ["planted"]
    assert leaks[0].kind in {"strong", "fill"}
    assert leaks[0].measures["auc"] > 0.8
    assert "[extra] ignore = ['planted']" in leaks[0].fix
    json.dumps(leaks[0].to_dict())


def test_strong_honest_columns_are_not_flagged() -> None:
    """As strong as the strongest of the ULB set (AP .65, AUC .94) and somewhat beyond, and of every usual form."""
    w = world()
    sharp = np.where(w.rng.random(N) < 0.6, w.separated(5.0), w.separated(0.5))
    honest = {
        "v14": w.separated(2.3),
        "v12": sharp,
        "steps": np.round(w.separated(2.0)),
        "mostly_zero": np.where(w.rng.random(N) < 0.95, 0.0, w.separated(3.0)),
        "customer_age": w.rng.integers(18, 90, N_CUSTOMERS)[w.customer],
        "customer_segment": (w.customer % 10 == 0),
        "constant": np.ones(N),
        "row_number": np.arange(N),
    }
    found = find_leaks(w.labelled(**honest))
    assert found == ()


def test_the_strongest_columns_of_real_data_would_not_be_flagged() -> None:
    """V12's AP of .651 [.585] and V14's AUC of .943 [.913] on ULB lie below the thresholds by a margin."""
    strongest = Strength(ap=0.651, auc=0.943, precision=0.95, recall=0.48, ap_low=0.585 + 0.1, auc_low=0.913 + 0.04)
    assert not strongest.is_implausible
    assert replace(strongest, ap_low=0.76).is_implausible
    assert replace(strongest, auc_low=0.97).is_implausible


def test_missing_values_that_follow_the_label_are_flagged() -> None:
    """A date or sum that only frauds have; one that is missing at random, or more often for frauds, is honest."""
    w = world()
    present = w.rng.random(N) < np.where(w.label, 0.9, 0.0005)
    others = {
        "paid_back": pa.array(w.amount, mask=~present),
        "device_score": pa.array(w.amount, mask=w.rng.random(N) < np.where(w.label, 0.5, 0.1)),
        "note": from_strings(["called" if fraud else None for fraud in w.label]),
    }
    leaks = find_leaks(w.labelled(), others=others)
    assert {(leak.column, leak.kind) for leak in leaks} == {("paid_back", "missing"), ("note", "missing")}
    assert "whether it is missing follows the label" in leaks[0].reason


def test_a_fill_value_that_follows_the_label_is_flagged() -> None:
    """The same with -1, or the word NONE, where nothing was known."""
    w = world()
    others = {
        "days_to_report": from_numpy(np.where(w.label, w.rng.integers(1, 40, N), -1)),
        "status": from_strings(["closed" if fraud else "NONE" for fraud in w.label]),
        "channel": from_strings(["web" if web else "pos" for web in w.rng.random(N) < 0.2 + 0.4 * w.label]),
    }
    leaks = find_leaks(w.labelled(), others=others)
    assert {(leak.column, leak.kind) for leak in leaks} == {("days_to_report", "fill"), ("status", "fill")}


def times(w: World, later_us: NDArray[np.int64]) -> dict[str, pa.Array]:
    """Return instants this much after each transaction, in every way that files write them."""
    at_us = w.at_us + later_us
    stamps = from_numpy(at_us).cast(pa.timestamp("us", tz="UTC"))
    return {
        "typed": stamps,
        "text": stamps.cast(pa.timestamp("s"), safe=False).cast(pa.string()),
        "seconds": from_numpy(at_us // 1_000_000),
        "milliseconds_text": from_numpy(at_us // 1_000).cast(pa.string()),
    }


def test_a_time_after_the_transaction_is_flagged() -> None:
    """Whatever it is written as; its lag is said in hours."""
    w = world()
    lag_us = w.rng.integers(1, 72, N) * 3_600_000_000
    leaks = find_leaks(w.labelled(), others=times(w, lag_us))
    assert {leak.column for leak in leaks if leak.kind == "later"} == {"typed", "text", "seconds", "milliseconds_text"}
    assert leaks[0].measures["median_hours"] == pytest.approx(36, abs=2)


def test_times_before_the_transaction_are_honest() -> None:
    """A card's last use, a clock that runs half a minute ahead, and the day the card expires."""
    w = world()
    others = times(w, -w.rng.integers(1, 72, N) * 3_600_000_000)
    others |= {"clock": from_numpy(w.at_us + 30_000_000).cast(pa.timestamp("us", tz="UTC"))}
    others |= {"card_expires": from_numpy(w.at_us + 10**14).cast(pa.timestamp("us", tz="UTC"))}
    assert find_leaks(w.labelled(), others=others) == ()


def of_customer(w: World, of_rows: NDArray[Any]) -> NDArray[np.float64]:
    """Return each row's customer's total over the whole file."""
    return np.bincount(w.customer, weights=of_rows)[w.customer]


def test_an_aggregate_of_a_customers_whole_time_is_flagged() -> None:
    """Its frauds, later ones too, or its later amounts: a history as of the transaction would grow."""
    w = world()
    n_rows = of_customer(w, np.ones(N))
    leaks = find_leaks(
        w.labelled(
            times_hit=of_customer(w, w.label),
            hit_rate_rounded=np.round(of_customer(w, w.label) / n_rows, 3),
            usual_amount=np.log1p(of_customer(w, w.amount) / n_rows),
            visits=n_rows,
        )
    )
    assert {(leak.column, leak.kind) for leak in leaks} == {
        ("times_hit", "entity"),
        ("hit_rate_rounded", "entity"),
        ("usual_amount", "entity"),
        ("visits", "entity"),
    }
    assert "ranks them as the number of its frauds over the whole file does" in leaks[0].reason


def test_what_is_known_of_a_customer_beforehand_is_honest() -> None:
    """A limit that goes with its usual amount, a segment that goes with its risk, and counts as of each row."""
    w = world()
    usual = of_customer(w, w.amount) / of_customer(w, np.ones(N))
    so_far = np.empty(N)
    for customer in range(N_CUSTOMERS):
        rows = np.flatnonzero(w.customer == customer)
        so_far[rows] = np.arange(len(rows))
    limit = (usual * np.exp(w.rng.normal(size=N_CUSTOMERS)[w.customer] * 0.05)).round(1)
    segment = w.rng.normal(w.customer % 10 == 0)[np.unique(w.customer, return_index=True)[1]][w.customer]
    assert find_leaks(w.labelled(limit=limit, segment=segment, visits_so_far=so_far)) == ()


@pytest.mark.parametrize(
    "name",
    ["chargeback_amount", "CaseId", "case_id", "TX_FRAUD_SCENARIO", "final_outcome", "label2", "fraud_type", "dispute"],
)
def test_a_telling_name_is_flagged(name: str) -> None:
    """Even where the values look harmless: the fix says when to keep it."""
    leaks = find_leaks(world().labelled(**{name: world().separated(0.0)}))
    assert [(leak.column, leak.kind) for leak in leaks] == [(name, "name")]
    assert leaks[0].fix.startswith("unless it was known by then")


def test_ids_and_times_that_follow_the_label_are_flagged() -> None:
    """Frauds with made-up customers, or entered by hand to the minute: a model would learn how they were recorded."""
    w = world()
    rows = w.labelled()
    made_up = from_strings([f"{'X' if fraud else 'C'}{c:04}" for fraud, c in zip(w.label, w.customer, strict=True)])
    nobody = from_strings([None if fraud else f"C{c:04}" for fraud, c in zip(w.label, w.customer, strict=True)])
    to_the_minute = np.where(
        w.label, w.at_us // 60_000_000 * 60_000_000, w.at_us // 60_000_000 * 60_000_000 + 7_000_000
    )
    minute = from_numpy(to_the_minute).cast(TYPES["timestamp"])
    for name, column, kind in (
        ("customer_id", made_up, {"strong", "fill"}),
        ("customer_id", nobody, {"missing"}),
        ("timestamp", minute, {"fill", "strong"}),
    ):
        place = rows.table.column_names.index(name)
        leaks = find_leaks(replace(rows, table=rows.table.set_column(place, name, column)))
        assert [leak.column for leak in leaks] == [name]
        assert leaks[0].kind in kind
        assert "how frauds were written down" in leaks[0].fix


def test_too_few_frauds_are_said_and_names_still_looked_at(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing can be measured on a handful of frauds."""
    w = world()
    rows = w.labelled(case_id=np.zeros(N), planted=w.label)
    few = np.zeros(N, dtype=bool)
    few[:: N // 9] = True
    place = rows.table.column_names.index("is_fraud")
    leaks = find_leaks(replace(rows, table=rows.table.set_column(place, "is_fraud", from_numpy(few))))
    assert [(leak.column, leak.kind) for leak in leaks] == [("case_id", "name")]
    assert "too few frauds to judge columns by" in caplog.text


def test_rows_that_nobody_labelled_are_not_judged() -> None:
    """They would pass for legitimate and hide a leak, or look like one."""
    w = world()
    rows = w.labelled(planted=np.where(w.rng.random(N) < 0.5, w.label, 0.5))
    unknown = np.asarray(rows.table["planted"]) == 0.5
    place = rows.table.column_names.index("is_fraud")
    labels = pa.array(w.label, mask=unknown)
    leaks = find_leaks(replace(rows, table=rows.table.set_column(place, "is_fraud", labels)))
    assert [leak.column for leak in leaks] == ["planted"]


def data_at(path: Path, mapping: ColumnMap) -> NamedData:
    """Return a file as a data set."""
    return NamedData(name=path.name, path=path, mapping=mapping, is_synthetic=False)


def test_a_file_is_searched_as_it_stands(tmp_path: Path) -> None:
    """Bad rows left out, missing values and all types looked at, ignored columns not."""
    w = world()
    rows = w.labelled().table
    broken = np.where(np.arange(N) % 100 == 0, -1.0, w.amount)
    refund = pa.array(w.amount, mask=~w.label)
    table = rows.set_column(rows.column_names.index("amount"), "amount", from_numpy(broken))
    table = table.append_column("refund", refund).append_column("seen", from_numpy(w.label))
    table = table.append_column("colour", from_strings(["red", "blue"] * (N // 2)))
    pq.write_table(table.take(from_numpy(w.rng.permutation(N))), tmp_path / "a.parquet")
    mapping = ColumnMap(extra=ExtraColumns(ignore=("seen",)))
    found = leaks_of(data_at(tmp_path / "a.parquet", mapping))
    assert found["rows"] == N - N // 100
    assert found["columns"] == ["refund", "colour"]
    assert [(leak["column"], leak["kind"]) for leak in found["leaks"]] == [("refund", "missing")]


def test_a_csv_is_searched_with_its_decimal_mark(tmp_path: Path) -> None:
    """And a record with too few values is left out."""
    w = world()
    head = "timestamp;amount;is_fraud;score\n"
    score = w.label + w.rng.normal(size=N) * 0.1
    lines = [
        f"{datetime.fromtimestamp(at / 1e6, tz=UTC):%Y-%m-%dT%H:%M:%S};{amount:.2f};{fraud:d};{value:.3f}".replace(
            ".", ","
        )
        for at, amount, fraud, value in zip(w.at_us, w.amount, w.label, score, strict=True)
    ]
    lines[5] = "2026-01-01T00:00:00;1"
    (tmp_path / "a.csv").write_text(head + "\n".join(lines) + "\n")
    found = leaks_of(data_at(tmp_path / "a.csv", ColumnMap(csv=CsvFormat(delimiter=";", decimal=","))))
    assert found["rows"] == N - 1
    assert [(leak["column"], leak["kind"]) for leak in found["leaks"]] == [("score", "strong")]


def test_a_file_without_labels_cannot_be_searched(tmp_path: Path) -> None:
    """The label is asked for by name."""
    (tmp_path / "a.csv").write_text("timestamp,amount\n2026-01-01,1\n")
    with pytest.raises(BadDataError, match="lacks is_fraud"):
        leaks_of(data_at(tmp_path / "a.csv", ColumnMap()))
    (tmp_path / "b.csv").write_text("timestamp,amount,is_fraud\n2026-01-01,x,1\n")
    with pytest.raises(BadDataError, match="no row with a usable time, amount and label"):
        leaks_of(data_at(tmp_path / "b.csv", ColumnMap()))
