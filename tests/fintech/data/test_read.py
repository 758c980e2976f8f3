"""Files in, clean rows out; every other row is rejected with its number and reason."""

from __future__ import annotations

import csv
import io
import math
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import csv as pa_csv

from quatrain.core.errors import BadDataError, UsageError
from quatrain.fintech.data.columns import TYPES, ColumnMap, parse_columns
from quatrain.fintech.data.read import SeenIds, layout_for_labels, layout_for_model, layout_for_training, read_batches
from quatrain.fintech.data.source import open_source

HEADER = "transaction_id,timestamp,customer_id,terminal_id,amount,is_fraud\n"
GOOD = "t1,2026-01-31T08:00:00Z,c1,m1,12.50,0\n"
NAIVE = ColumnMap()
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)


class Rejected(list[tuple[int, str | None, str, str | None]]):
    """Collects (row, column, reason, value)."""

    def __call__(self, *, row: int, reason: str, column: str | None = None, value: str | None = None) -> None:
        """Collect one rejection."""
        self.append((row, column, reason, value))


def read(
    path: Path, mapping: ColumnMap = NAIVE, *, extras: tuple[str, ...] | None = None
) -> tuple[list[dict[str, Any]], Rejected]:
    """Return the clean rows and the rejections; `extras` None reads as for training."""
    source = open_source(path, mapping.csv)
    if extras is None:
        layout = layout_for_training(source, mapping)
    else:
        layout = layout_for_model(source, mapping, extras=extras)
    rejected = Rejected()
    batches = list(read_batches(source, layout, mapping, reject=rejected))
    return [row for batch in batches for row in batch.to_pylist()], rejected


def write(tmp_path: Path, content: str | bytes, name: str = "day.csv") -> Path:
    """Write a file and return its path."""
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def row_with(**values: str) -> str:
    """Return a CSV file of a good row and one that differs from it."""
    row = {
        "transaction_id": "t2",
        "timestamp": "2026-01-31T08:00:01Z",
        "customer_id": "c1",
        "terminal_id": "m1",
        "amount": "5",
        "is_fraud": "0",
    } | values
    return HEADER + GOOD + ",".join(row.values()) + "\n"


def test_a_good_row_is_read_exactly(tmp_path: Path) -> None:
    """Values, types and order of the canonical columns."""
    rows, rejected = read(write(tmp_path, HEADER + GOOD))
    assert rejected == []
    assert rows == [
        {
            "transaction_id": "t1",
            "timestamp": datetime(2026, 1, 31, 8, tzinfo=UTC),
            "customer_id": "c1",
            "terminal_id": "m1",
            "amount": 12.5,
            "is_fraud": False,
        }
    ]


@pytest.mark.parametrize(
    ("values", "column", "reason"),
    [
        ({"amount": ""}, "amount", "missing"),
        ({"amount": "twelve"}, "amount", "not a number"),
        ({"amount": "1 000"}, "amount", "not a number"),
        ({"amount": "0x10"}, "amount", "not a number"),
        ({"amount": "1_0"}, "amount", "not a number"),
        ({"amount": "NaN"}, "amount", "not a finite number"),
        ({"amount": "inf"}, "amount", "not a finite number"),
        ({"amount": "-Infinity"}, "amount", "not a finite number"),
        ({"amount": "1e999"}, "amount", "not a finite number"),
        ({"amount": "1e39"}, "amount", "too large for a 32-bit float"),
        ({"amount": "-0.01"}, "amount", "negative"),
        ({"timestamp": ""}, "timestamp", "missing"),
        ({"timestamp": "yesterday"}, "timestamp", "not an ISO 8601 date and time (numbers need [timestamp] unit)"),
        (
            {"timestamp": "2026-02-30T00:00:00Z"},
            "timestamp",
            "not an ISO 8601 date and time (numbers need [timestamp] unit)",
        ),
        (
            {"timestamp": "31/01/2026 08:00"},
            "timestamp",
            "not an ISO 8601 date and time (numbers need [timestamp] unit)",
        ),
        ({"timestamp": "1769846400"}, "timestamp", "not an ISO 8601 date and time (numbers need [timestamp] unit)"),
        ({"timestamp": "2026-01-31 08:00:00"}, "timestamp", "no time zone, while other rows of the file have one"),
        ({"timestamp": "1900-01-01T00:00:00Z"}, "timestamp", "outside the years 1970 to 2199"),
        ({"timestamp": "9999-12-31T00:00:00Z"}, "timestamp", "outside the years 1970 to 2199"),
        ({"transaction_id": "t1"}, "transaction_id", "repeated in this file"),
        ({"transaction_id": ""}, "transaction_id", "missing"),
        ({"transaction_id": "t" * 257}, "transaction_id", "longer than 256 characters"),
        ({"customer_id": "c" * 257}, "customer_id", "longer than 256 characters"),
        ({"transaction_id": "  "}, "transaction_id", "missing"),
        ({"is_fraud": ""}, "is_fraud", "missing"),
        ({"is_fraud": "2"}, "is_fraud", "not 0 or 1"),
        ({"is_fraud": "maybe"}, "is_fraud", "not 0 or 1"),
    ],
)
def test_a_bad_value_costs_its_row_only(tmp_path: Path, values: dict[str, str], column: str, reason: str) -> None:
    """Row number, column, reason and the beginning of the value as it stands in the file."""
    rows, rejected = read(write(tmp_path, row_with(**values)))
    assert [row["transaction_id"] for row in rows] == ["t1"]
    value = values[column][:100]
    assert rejected == [(1, column, reason, value)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T08:00:00Z", "2026-01-31T08:00:00+00:00"),
        ("2026-01-31 08:00:00+02:00", "2026-01-31T06:00:00+00:00"),
        ("2026-01-31 08:00:00-0530", "2026-01-31T13:30:00+00:00"),
        ("2026-01-31T08:00:00.123456789+01", "2026-01-31T07:00:00.123456+00:00"),
        ("2026-01-31 08:00Z", "2026-01-31T08:00:00+00:00"),
    ],
)
def test_zoned_texts_become_utc(tmp_path: Path, text: str, expected: str) -> None:
    """Rows of different zones are one time line, as each says which instant it means."""
    rows, rejected = read(write(tmp_path, row_with(timestamp=text)))
    assert rejected == []
    assert rows[1]["timestamp"].isoformat() == expected


def test_naive_rows_after_thousands_of_others_are_still_rejected(tmp_path: Path) -> None:
    """Whether a file mixes zones is known before its first row is judged."""
    naive = "".join(f"n{i},2026-01-31 08:00:00,c,m,1,0\n" for i in range(200_000))
    rows, rejected = read(write(tmp_path, HEADER + naive + GOOD))
    assert [row["transaction_id"] for row in rows] == ["t1"]
    assert len(rejected) == 200_000
    assert rejected[0][:3] == (0, "timestamp", "no time zone, while other rows of the file have one")


def test_naive_rows_take_the_mapped_zone(tmp_path: Path) -> None:
    """Of an hour that happens twice, the earlier one; an hour that never was is rejected."""
    mapping = parse_columns({"timestamp": {"zone": "Europe/Paris"}}, where="test")
    times = ["2026-07-01 12:00:00", "2026-10-25 02:30:00", "2026-03-29 02:30:00", "2026-07-02"]
    lines = "".join(f"t{i},{time},c,m,1,0\n" for i, time in enumerate(times))
    rows, rejected = read(write(tmp_path, HEADER + lines), mapping)
    assert [row["timestamp"].isoformat() for row in rows] == [
        "2026-07-01T10:00:00+00:00",
        "2026-10-25T00:30:00+00:00",
        "2026-07-01T22:00:00+00:00",
    ]
    assert rejected == [(2, "timestamp", "a local time that the clocks of Europe/Paris skipped", times[2])]


def test_numbers_count_from_the_origin(tmp_path: Path) -> None:
    """Seconds with fractions in a CSV, nanoseconds in a Parquet file to the microsecond."""
    mapping = parse_columns({"timestamp": {"unit": "s", "origin": "2013-09-01T00:00:00Z"}}, where="test")
    rows, rejected = read(write(tmp_path, HEADER + "a,1.5,c,m,1,0\nb,1e300,c,m,1,0\nc,-1,c,m,1,0\n"), mapping)
    assert [row["timestamp"] for row in rows] == [
        datetime(2013, 9, 1, 0, 0, 1, 500_000, tzinfo=UTC),
        datetime(2013, 8, 31, 23, 59, 59, tzinfo=UTC),
    ]
    assert rejected == [(1, "timestamp", "too large for a 32-bit float", "1e300")]
    path = tmp_path / "ns.parquet"
    pq.write_table(pa.table({"timestamp": [1_769_846_400_123_456_789], "amount": [1.0], "is_fraud": [0]}), path)
    rows, _ = read(path, parse_columns({"timestamp": {"unit": "ns"}}, where="test"))
    assert rows[0]["timestamp"] == datetime(2026, 1, 31, 8, 0, 0, 123_456, tzinfo=UTC)


def test_a_strptime_pattern_reads_what_is_not_iso(tmp_path: Path) -> None:
    """Day-first texts, with the zone of the mapping."""
    mapping = parse_columns({"timestamp": {"format": "%d/%m/%Y %H:%M", "zone": "Asia/Kolkata"}}, where="test")
    rows, rejected = read(write(tmp_path, HEADER + "a,31/01/2026 08:00,c,m,1,0\nb,01/31/2026 08:00,c,m,1,0\n"), mapping)
    assert rows[0]["timestamp"].isoformat() == "2026-01-31T02:30:00+00:00"
    assert rejected[0][2] == "not a date and time of the form %d/%m/%Y %H:%M"


def test_missing_entities_are_tolerated(tmp_path: Path) -> None:
    """A file without ids is read; a row without one has null; made ids are the digest and the row."""
    rows, rejected = read(
        write(tmp_path, "timestamp,amount,customer_id,is_fraud\n2026-01-31,1,,0\n2026-01-31,x,,0\n2026-01-31,2,c,1\n")
    )
    assert [row["customer_id"] for row in rows] == [None, "c"]
    assert [row["is_fraud"] for row in rows] == [False, True]
    assert "terminal_id" not in rows[0]
    digest = open_source(tmp_path / "day.csv", NAIVE.csv).digest()
    assert [row["transaction_id"] for row in rows] == [f"{digest[:12]}-000000000", f"{digest[:12]}-000000002"]
    assert [row[0] for row in rejected] == [1]


def test_the_first_good_row_of_an_id_is_kept(tmp_path: Path) -> None:
    """A corrected row after a bad one is no repetition."""
    lines = "a,2026-01-31,c,m,-1,0\na,2026-01-31,c,m,1,0\na,2026-01-31,c,m,2,0\n"
    rows, rejected = read(write(tmp_path, HEADER + lines))
    assert [row["amount"] for row in rows] == [1.0]
    assert [(row, reason) for row, _, reason, _ in rejected] == [(0, "negative"), (2, "repeated in this file")]


def test_ragged_records_keep_the_row_numbers_right(tmp_path: Path) -> None:
    """Too few or too many values cost their row; a quoted line break and a blank line do not count as rows."""
    lines = (
        '"t\n1",2026-01-31,c,m,1,0\nshort,1\n\nt3,2026-01-31,c,m,1,0\nt4,2026-01-31,c,m,1,0,9\nt5,2026-01-31,c,m,-5,0\n'
    )
    rows, rejected = read(write(tmp_path, HEADER + lines))
    assert [row["transaction_id"] for row in rows] == ["t\n1", "t3"]
    assert sorted(rejected) == [
        (1, None, "expected 6 values, got 2", "short,1"),
        (3, None, "expected 6 values, got 7", "t4,2026-01-31,c,m,1,0,9"),
        (4, "amount", "negative", "-5"),
    ]


def test_row_numbers_hold_across_blocks(tmp_path: Path) -> None:
    """In a file of several blocks every bad row is found at its place."""
    bad = {0, 7, 60_000, 149_998, 149_999}
    body = "".join(
        ("short\n" if i % 2 else f"t{i},2026-01-31,c,m,-1,0\n") if i in bad else f"t{i},2026-01-31,c,m,1,0\n"
        for i in range(150_000)
    )
    padded = body.replace(",c,m,", f",{'c' * 40},m,")
    rows, rejected = read(write(tmp_path, HEADER + padded))
    assert {row for row, *_ in rejected} == bad
    assert len(rows) == 150_000 - len(bad)


def test_encodings_are_recognised_or_named(tmp_path: Path) -> None:
    """A byte order mark decides; other encodings come from the mapping; a stray byte costs its row."""
    body = HEADER + "t1,2026-01-31,Zoë,m,1,0\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        rows, rejected = read(write(tmp_path, body.encode(encoding)))
        assert (rows[0]["customer_id"], rejected) == ("Zoë", [])
    latin = write(tmp_path, (body + "t2,2026-01-31,c,m,1,0\n").encode("latin-1"))
    rows, rejected = read(latin)
    assert [row["transaction_id"] for row in rows] == ["t2"]
    assert rejected == [(0, "customer_id", "not text in the file's encoding", "Zo\ufffd")]
    rows, _ = read(latin, parse_columns({"csv": {"encoding": "latin-1"}}, where="test"))
    assert rows[0]["customer_id"] == "Zoë"


def test_an_encoding_that_cannot_be_meets_words(tmp_path: Path) -> None:
    """A codec may refuse a file as a whole, as UTF-16 does without a byte order mark."""
    path = write(tmp_path, HEADER + GOOD)
    with pytest.raises(BadDataError, match=r"day.csv has another encoding than \[csv\] says.*UTF-16 stream"):
        read(path, parse_columns({"csv": {"encoding": "utf-16"}}, where="test"))


def test_a_european_dialect_is_read(tmp_path: Path) -> None:
    """Semicolons and decimal commas."""
    mapping = parse_columns({"csv": {"delimiter": ";", "decimal": ","}}, where="test")
    path = write(tmp_path, HEADER.replace(",", ";") + "t1;2026-01-31;c;m; 12,50 ;0\n")
    rows, _ = read(path, mapping)
    assert rows[0]["amount"] == 12.5
    with pytest.raises(BadDataError, match="say \\[csv\\] delimiter"):
        read(path)


def test_a_point_is_refused_where_the_comma_is_the_decimal_mark(tmp_path: Path) -> None:
    """1.250 may be a thousand there; taken for one and a quarter it would be wrong without a word."""
    mapping = parse_columns({"csv": {"delimiter": ";", "decimal": ","}}, where="test")
    lines = "a;2026-01-31;1.250\nb;2026-01-31;1.250,00\nc;2026-01-31;1250,00\nd;2026-01-31;1250\n"
    rows, rejected = read(write(tmp_path, "transaction_id;timestamp;amount\n" + lines), mapping, extras=())
    assert [row["amount"] for row in rows] == [1250.0, 1250.0]
    assert [(row, reason) for row, _, reason, _ in rejected] == [(0, "not a number"), (1, "not a number")]


def test_text_views_are_text(tmp_path: Path) -> None:
    """Newer writers keep text in Arrow's view layout."""
    times = pa.array(["2026-01-31T08:00:00Z"]).cast(pa.string_view())
    amounts = pa.array([b"12.5"]).cast(pa.binary_view())
    pq.write_table(pa.table({"timestamp": times, "amount": amounts}), tmp_path / "a.parquet")
    rows, rejected = read(tmp_path / "a.parquet", extras=())
    assert (rows[0]["amount"], rejected) == (12.5, [])


def test_parquet_types_are_converted(tmp_path: Path) -> None:
    """Decimals, dictionaries, whole numbers, naive and zoned datetimes, dates, booleans and 0/1."""
    when = datetime(2026, 1, 31, 8, tzinfo=UTC).replace(tzinfo=None)
    forms: dict[str, pa.Array[Any]] = {
        "naive": pa.array([when], pa.timestamp("ns")),
        "zoned": pa.array([when - timedelta(hours=1)], pa.timestamp("ms", tz="UTC")).cast(
            pa.timestamp("ms", tz="Europe/Paris")
        ),
        "text": pa.array(["2026-01-31T08:00:00"]).dictionary_encode(),
    }
    for kind, values in forms.items():
        path = tmp_path / f"{kind}.parquet"
        pq.write_table(
            pa.table(
                {
                    "transaction_id": pa.array([2**62]),
                    "timestamp": values,
                    "customer_id": pa.array(["c"]).dictionary_encode(),
                    "terminal_id": pa.nulls(1),
                    "amount": pa.array([Decimal("12.50")]),
                    "is_fraud": pa.array([1], pa.int8()),
                }
            ),
            path,
        )
        rows, rejected = read(path)
        assert rejected == []
        hour = 7 if kind == "zoned" else 8
        assert rows[0] == {
            "transaction_id": str(2**62),
            "timestamp": when.replace(hour=hour, tzinfo=UTC),
            "customer_id": "c",
            "terminal_id": None,
            "amount": 12.5,
            "is_fraud": True,
        }


OUTCOMES = "timestamp,amount,is_fraud,labelled_at\n"


def test_a_label_becomes_known_at_or_after_its_transaction(tmp_path: Path) -> None:
    """A date before it costs the row; a missing one is null, whatever form the times have."""
    lines = "2026-01-02,1,1,2026-01-05\n2026-01-02,1,0,\n2026-01-02,1,1,2026-01-01\n2026-01-02,1,1,soon\n"
    rows, rejected = read(write(tmp_path, OUTCOMES + lines + "2026-01-02,1,1,2026-01-02\n"))
    assert [row["labelled_at"] and row["labelled_at"].day for row in rows] == [5, None, 2]
    assert [(row, column, reason) for row, column, reason, _ in rejected] == [
        (2, "labelled_at", "earlier than the transaction"),
        (3, "labelled_at", "not an ISO 8601 date and time (numbers need [timestamp] unit)"),
    ]
    seconds = parse_columns({"timestamp": {"unit": "s"}}, where="test")
    rows, rejected = read(write(tmp_path, OUTCOMES + "1767312000,1,1,1767571200\n1767312000,1,0,\n"), seconds)
    assert [row["labelled_at"] and row["labelled_at"].day for row in rows] == [5, None]
    assert rejected == []


def test_the_outcome_is_not_read_where_the_label_is_not(tmp_path: Path) -> None:
    """Scoring must not see what became known later, also when the mapping names it."""
    mapping = parse_columns({"columns": {"is_fraud": "fraud", "labelled_at": "reported"}}, where="test")
    path = write(tmp_path, "timestamp,amount,fraud,reported\n2026-01-02,1,1,2026-01-05\n")
    source = open_source(path, mapping.csv)
    layout = layout_for_model(source, mapping, extras=())
    assert set(layout.columns) == {"timestamp", "amount"}
    assert layout.unknown == ()
    rows, _ = read(write(tmp_path, "timestamp,amount\n2026-01-02,1\n"), mapping, extras=())
    assert set(rows[0]) == {"transaction_id", "timestamp", "amount"}
    with pytest.raises(BadDataError, match="lacks fraud, reported"):
        read(write(tmp_path, "timestamp,amount\n2026-01-02,1\n"), mapping)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_missing_label_is_bad_or_unknown_as_the_mapping_says(tmp_path: Path, suffix: str) -> None:
    """Unknown is null, which is neither fraud nor honest; a wrong label stays a bad row."""
    path = tmp_path / f"a.{suffix}"
    labels = ["1", None, "0", "2"]
    if suffix == "csv":
        path.write_text(OUTCOMES + "".join(f"2026-01-02,1,{label or ''},\n" for label in labels))
    else:
        pq.write_table(pa.table({"timestamp": ["2026-01-02"] * 4, "amount": [1.0] * 4, "is_fraud": labels}), path)
    rows, rejected = read(path)
    assert [row["is_fraud"] for row in rows] == [True, False]
    assert [(row, reason) for row, _, reason, _ in rejected] == [(1, "missing"), (3, "not 0 or 1")]
    rows, rejected = read(path, parse_columns({"label": {"missing": "unknown"}}, where="test"))
    assert [row["is_fraud"] for row in rows] == [True, None, False]
    assert [(row, reason) for row, _, reason, _ in rejected] == [(3, "not 0 or 1")]


def test_an_optional_column_is_read_once_and_not_against_the_mapping(tmp_path: Path) -> None:
    """Not when it is ignored, feeds another column, or is a model's own number."""
    path = write(tmp_path, "timestamp,amount,device_id,merchant_id\n2026-01-02,1,7,shop\n")
    rows, _ = read(path, extras=())
    assert (rows[0]["device_id"], rows[0]["merchant_id"]) == ("7", "shop")
    rows, _ = read(path, parse_columns({"extra": {"ignore": ["device_id"]}}, where="test"), extras=())
    assert "device_id" not in rows[0]
    rows, _ = read(path, parse_columns({"columns": {"terminal_id": "merchant_id"}}, where="test"), extras=())
    assert (rows[0]["terminal_id"], "merchant_id" in rows[0]) == ("shop", False)
    rows, _ = read(path, extras=("device_id",))
    assert rows[0]["device_id"] == 7.0


def test_parquet_nulls_and_nan_cost_their_rows(tmp_path: Path) -> None:
    """Null is missing, NaN and infinity are not numbers to score."""
    path = tmp_path / "day.parquet"
    n = 5
    pq.write_table(
        pa.table(
            {
                "timestamp": pa.array([NEW_YEAR] * n, pa.timestamp("us")),
                "amount": [1.0, None, math.nan, math.inf, -1.0],
                "V1": pa.array([1.0] * n),
                "is_fraud": pa.array([False] * n),
            }
        ),
        path,
    )
    rows, rejected = read(path, parse_columns({"extra": {"numeric": ["V1"]}}, where="test"))
    assert len(rows) == 1
    assert [(row, reason) for row, _, reason, _ in rejected] == [
        (1, "missing"),
        (2, "not a finite number"),
        (3, "not a finite number"),
        (4, "negative"),
    ]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("amount", pa.array([[1.0]]), "column amount holds list<.*>, expected numbers"),
        ("amount", pa.array([True]), "column amount holds bool, expected numbers"),
        ("timestamp", pa.array([1]), "column timestamp holds numbers .*unit"),
        ("timestamp", pa.array([True]), "column timestamp holds bool, expected dates"),
        ("is_fraud", pa.array([NEW_YEAR]), "column is_fraud holds timestamp.*0 or 1"),
        ("customer_id", pa.array([{"a": 1}]), "column customer_id holds struct"),
        ("V1", pa.array([NEW_YEAR]), "column V1 holds timestamp.*expected numbers"),
    ],
)
def test_a_column_of_the_wrong_type_refuses_the_file(
    tmp_path: Path, column: str, values: pa.Array[Any], message: str
) -> None:
    """No row of such a file could be right."""
    table: dict[str, Any] = {
        "timestamp": pa.array([NEW_YEAR], pa.timestamp("us")),
        "amount": pa.array([1.0]),
        "is_fraud": pa.array([0]),
        "V1": pa.array([0.0]),
    } | {column: values}
    path = tmp_path / "day.parquet"
    pq.write_table(pa.table(table), path)
    with pytest.raises(BadDataError, match=message):
        read(path, parse_columns({"extra": {"numeric": ["V1"]}}, where="test"))


def _parquet_bytes(n_rows: int = 1000) -> bytes:
    buffer = io.BytesIO()
    table: dict[str, Any] = {
        "timestamp": ["2026-01-31"] * n_rows,
        "amount": np.random.default_rng(0).random(n_rows),
        "is_fraud": [0] * n_rows,
    }
    pq.write_table(pa.table(table), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "a.csv is empty"),
        ("a.parquet", b"", "a.parquet is empty"),
        ("a.csv", HEADER.encode(), "has a header but no readable rows"),
        ("a.csv", HEADER.encode() + b"x\ny\n", "has a header but no readable rows"),
        ("a.csv", b"\n\n", "cannot be read"),
        ("a.parquet", b"PAR1 and then nothing", "cannot be read"),
        ("a.parquet", _parquet_bytes()[:-100], "cannot be read"),
        ("a.parquet", HEADER.encode() + GOOD.encode(), "cannot be read"),
        ("a.csv", _parquet_bytes(), "lacks|cannot be read"),
        ("a.csv", bytes(range(256)) * 50, "lacks|cannot be read|delimiter"),
        ("a.csv", b"amount,amount,timestamp\n1,2,3\n", "two columns named amount"),
        ("a.csv", HEADER.encode() + b'"never closed,' + b"x" * (9 << 20), "a quote is never closed"),
        ("a.csv", "amount,é\n1,2\n".encode("latin-1"), "say \\[csv\\] encoding"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """The whole file is refused, with a reason that a person understands."""
    with pytest.raises(BadDataError, match=message):
        read(write(tmp_path, content, name))


def test_text_that_is_none_costs_its_row(tmp_path: Path) -> None:
    """A Parquet column may say that it is text and hold other bytes."""
    raw = pa.array([b"c1", b"\xff 4111-1111", b"c3"])
    table = {"timestamp": ["2026-01-31"] * 3, "amount": [1.0] * 3, "is_fraud": [0] * 3}
    pq.write_table(pa.table(table | {"customer_id": raw.view(pa.string())}), tmp_path / "a.parquet")
    rows, rejected = read(tmp_path / "a.parquet")
    assert [row["customer_id"] for row in rows] == ["c1", "c3"]
    assert [(row, reason) for row, _, reason, _ in rejected] == [(1, "not text in the file's encoding")]


def test_a_rejected_time_is_shown_to_the_nanosecond(tmp_path: Path) -> None:
    """Python's datetimes end at microseconds."""
    table = {"timestamp": pa.array([1, 1], pa.timestamp("ns")), "amount": [1.0, 1.0], "is_fraud": [0, 0]}
    late = pa.array([1, 0], pa.timestamp("ns"))
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(table | {"timestamp": pa.array([10**12 + 1] * 2, late.type), "labelled_at": late}), path)
    _, rejected = read(path)
    assert [value for *_, value in rejected] == ["1970-01-01 00:00:00.000000001", "1970-01-01 00:00:00.000000000"]


def test_a_damaged_page_refuses_the_file(tmp_path: Path) -> None:
    """A Parquet file whose footer is whole and whose data is not."""
    content = bytearray(_parquet_bytes(200_000))
    for place in range(1000, len(content) - 2000, 997):
        content[place] ^= 0xFF
    with pytest.raises(BadDataError, match="cannot be read to its end"):
        read(write(tmp_path, bytes(content), "a.parquet"))


def test_an_empty_parquet_table_is_refused(tmp_path: Path) -> None:
    """No rows is what a failed export looks like."""
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table(
            {"timestamp": pa.array([], pa.string()), "amount": pa.array([], pa.float64()), "is_fraud": pa.nulls(0)}
        ),
        path,
    )
    with pytest.raises(BadDataError, match="no readable rows"):
        read(path)


def test_missing_columns_are_named_with_the_nearest(tmp_path: Path) -> None:
    """The text lists what the file has and how to map it."""
    path = write(tmp_path, "TX_TIME,amounts,label\n1,2,0\n")
    with pytest.raises(
        BadDataError, match=r"lacks timestamp, amount \(near: amounts\).*TX_TIME, amounts, label.*--columns"
    ):
        read(path, extras=())


def test_an_unmapped_column_is_refused_in_training_only(tmp_path: Path) -> None:
    """Training must decide what a column is; scoring needs only what the model uses."""
    path = write(tmp_path, HEADER.replace("is_fraud", "is_fraud,termial_id") + GOOD.replace(",0\n", ",0,9\n"))
    with pytest.raises(BadDataError, match=r"does not cover: termial_id \(near: terminal_id\).*\[extra\]"):
        read(path)
    rows, _ = read(path, extras=())
    assert "termial_id" not in rows[0]
    assert "is_fraud" not in rows[0]
    rows, _ = read(path, parse_columns({"extra": {"ignore": ["termial_id"]}}, where="test"))
    assert len(rows) == 1


def test_numeric_all_takes_the_numbers_and_refuses_the_rest(tmp_path: Path) -> None:
    """A text column cannot be an input by accident."""
    mapping = parse_columns({"extra": {"numeric": "all"}}, where="test")
    body = "timestamp,amount,is_fraud,V1,V2\n2026-01-31,1,0,-1.5,2\n2026-01-31,1,0,bad,3\n2026-01-31,1,0,4,5\n"
    rows, rejected = read(write(tmp_path, body), mapping)
    assert [(row["V1"], row["V2"]) for row in rows] == [(-1.5, 2.0), (4.0, 5.0)]
    assert rejected == [(1, "V1", "not a number", "bad")]
    with pytest.raises(BadDataError, match="does not cover: V1"):
        read(write(tmp_path, body.replace("-1.5", "x").replace("4", "y")), mapping)


def test_scoring_requires_the_models_extras(tmp_path: Path) -> None:
    """A column that the model learned from cannot be made up."""
    path = write(tmp_path, HEADER + GOOD)
    with pytest.raises(BadDataError, match="lacks the extra columns V1, V2"):
        read(path, extras=("V1", "V2"))


def test_seen_ids_agree_with_a_set() -> None:
    """Across many calls, exactly the repeated ones are reported."""
    rng = np.random.default_rng(0)
    seen, known = SeenIds(), set[str]()
    for _ in range(40):
        ids = [str(value) for value in rng.integers(0, 3000, rng.integers(0, 200))]
        expected = []
        for name in ids:
            expected.append(name in known)
            known.add(name)
        assert seen.repeated(pa.array(ids, pa.string())).tolist() == expected


CELL = st.one_of(
    st.sampled_from(
        ["", "0", "1", "nan", "inf", "-1", "1e400", "2026-01-31", "2026-01-31T00:00:00Z", "true", "٣", "\x00"]
    ),
    st.text(max_size=12),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(CELL, min_size=6, max_size=6), min_size=1, max_size=8))
def test_any_text_is_read_or_rejected_never_both(tmp_path: Path, rows: list[list[str]]) -> None:
    """Each record is either clean, with values in range, or rejected once with a reason."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(HEADER.strip().split(","))
    writer.writerows(rows)
    try:
        clean, rejected = read(write(tmp_path, buffer.getvalue()))
    except BadDataError:
        return
    numbers = [row for row, *_ in rejected]
    assert len(set(numbers)) == len(numbers)
    assert len(clean) + len(rejected) == len(rows)
    for row in clean:
        assert 0 <= row["amount"] < 3.5e38
        assert 1970 <= row["timestamp"].year < 2200
        assert row["transaction_id"]
        assert isinstance(row["is_fraud"], bool)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=400), is_parquet=st.booleans())
def test_any_bytes_are_refused_or_read(tmp_path: Path, content: bytes, is_parquet: bool) -> None:
    """Garbage never raises anything but BadDataError."""
    name = "a.parquet" if is_parquet else "a.csv"
    prefix = b"" if is_parquet else b"timestamp,amount,is_fraud\n"
    try:
        read(write(tmp_path, prefix + content, name))
    except BadDataError as error:
        assert name in str(error)  # noqa: PT017 -- most examples raise nothing


CARD = "4111111111111111"


def lines_with(n_rows: int, place: int, **values: str) -> str:
    """Return a CSV file of n rows, one of which holds something else."""
    rows = []
    for i in range(n_rows):
        row = {
            "id": f"t{i}",
            "timestamp": "2026-01-31",
            "customer": "c1",
            "terminal": "m1",
            "amount": "5",
            "label": "0",
        }
        rows.append(",".join((row | (values if i == place else {})).values()))
    return HEADER + "\n".join(rows) + "\n"


@pytest.mark.parametrize("column", ["id", "customer", "terminal", "amount"])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_single_card_number_costs_its_row_and_is_shown_nowhere(tmp_path: Path, column: str, suffix: str) -> None:
    """In every column that is read; what is set aside shows the first six and the last four digits."""
    path = write(tmp_path, lines_with(100, 70, **{column: CARD}))
    if suffix == "parquet":
        table = pa_csv.read_csv(path)
        path = tmp_path / "day.parquet"
        pq.write_table(table, path)
    rows, rejected = read(path)
    assert len(rows) == 99
    assert [(row, reason) for row, _, reason, _ in rejected] == [(70, "holds a card number")]
    assert "411111******1111" in str(rejected[0][3]) or column == "amount"
    assert CARD not in f"{rows} {rejected}"


def test_card_numbers_in_numbers_that_a_float_cannot_hold_are_seen(tmp_path: Path) -> None:
    """As text and as decimals a card number of 19 digits is exact in the file; it is judged there."""
    mapping = parse_columns({"extra": {"numeric": ["V1"]}}, where="test")
    values = ["1.5"] * 40 + ["6212345678900000003"]
    for kind in (pa.string(), pa.decimal128(24, 2)):
        table = {"timestamp": ["2026-01-31"] * 41, "amount": [1.0] * 41, "is_fraud": [0] * 41}
        path = tmp_path / "a.parquet"
        pq.write_table(pa.table(table | {"V1": pa.array(values).cast(kind)}), path)
        rows, rejected = read(path, mapping)
        assert (len(rows), rejected[0][:3]) == (40, (40, "V1", "holds a card number"))


@pytest.mark.parametrize("column", ["transaction_id", "customer_id", "terminal_id", "device_id", "merchant_id", "note"])
def test_a_column_of_card_numbers_refuses_the_file_read_or_not(tmp_path: Path, column: str) -> None:
    """Ids, and a column that nobody asked for; listed, the latter is left alone."""
    names = HEADER.strip().split(",")
    header = HEADER if column in names else HEADER.strip() + f",{column}\n"
    cards = ["4111111111111111", "5555555555554444", "378282246310005"]
    body = []
    for i, card in enumerate(cards):
        row = {"transaction_id": f"t{i}", "timestamp": "2026-01-31", "customer_id": "c", "terminal_id": "m"}
        body.append(",".join((row | {"amount": "1", "is_fraud": "0"} | {column: card}).values()))
    path = write(tmp_path, header + "\n".join(body) + "\n")
    ignoring = {"extra": {"ignore": [column]}} if column == "note" else {}
    with pytest.raises(BadDataError, match=rf"day.csv: column {column} holds card numbers .PANs., 3 in its first 3"):
        read(path, parse_columns(ignoring, where="test"))
    if column == "note":
        assert len(read(path, parse_columns({"pan": {"columns": ["note"]}}, where="test"))[0]) == 3


CARDS = ["4111111111111111", "5555555555554444", "378282246310005", "6011111111111117", "4222222222222"]
WRITTEN = st.builds(
    lambda card, form, text: form(card) + text,
    st.sampled_from(CARDS),
    st.sampled_from(
        [
            str,
            lambda card: " ".join(card[i : i + 4] for i in range(0, len(card), 4)),
            lambda card: "-".join(card[i : i + 4] for i in range(0, len(card), 4)),
            lambda card: f"00{card}",
            lambda card: f"{card}.0",
            lambda card: f"card {card}",
            lambda card: f"x{card}=2512",
        ]
    ),
    st.sampled_from(["", " ", " ok", "/x"]),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(planted=st.dictionaries(st.tuples(st.integers(0, 59), st.integers(0, 5)), WRITTEN, max_size=5), tail=WRITTEN)
def test_no_card_number_leaves_a_file(tmp_path: Path, planted: dict[tuple[int, int], str], tail: str) -> None:
    """Wherever it stands and however it is written: not in clean rows, not in quarantine, not in an error."""
    lines = [[f"t{i}", "2026-01-31", f"c{i % 7}", f"m{i % 5}", "1", "0"] for i in range(60)]
    for (row, column), text in planted.items():
        lines[row][column] = text
    content = HEADER + "\n".join(map(",".join, lines)) + f"\nshort,{tail}\n"
    try:
        rows, rejected = read(write(tmp_path, content))
    except BadDataError as error:
        shown = str(error)
    else:
        shown = f"{rows} {rejected}"
        assert len(rows) + len(rejected) == 61
    # Digits that stand apart by one or two other signs are one number to whoever reads them.
    digits = re.sub(r"(?<=[0-9])[ .-]{1,2}(?=[0-9])", "", shown)
    assert not [card for card in CARDS if card in digits]


def test_a_card_number_in_place_of_a_time_is_seen(tmp_path: Path) -> None:
    """As microseconds it would be a day in 2100."""
    mapping = parse_columns({"timestamp": {"unit": "us"}}, where="test")
    times = [str(1_769_846_400_000_000 + i) for i in range(30)] + [CARD]
    path = write(tmp_path, "timestamp,amount,is_fraud\n" + "".join(f"{time},1,0\n" for time in times))
    rows, rejected = read(path, mapping)
    assert (len(rows), rejected) == (30, [(30, "timestamp", "holds a card number", "411111******1111")])


def test_a_card_number_in_the_header_refuses_the_file(tmp_path: Path) -> None:
    """A file without a header has its first row there; the text does not repeat it."""
    with pytest.raises(BadDataError, match="a card number among its column names") as caught:
        read(write(tmp_path, f"t1,2026-01-31,{CARD},m,1,0\n"))
    assert CARD not in str(caught.value)


def test_quarantine_and_errors_show_no_card_number(tmp_path: Path) -> None:
    """Ragged records, values in the wrong column, repeated ids, and what Arrow says of a broken record."""
    wrong = [f"t1,{CARD},c,m,1,0", f"t2,2026-01-31,c,m,{CARD}x,0", f"t3,2026-01-31,c,m,1,{CARD}", f"{CARD},2026-01-31"]
    padding = "".join(f"x{i},2026-01-31,c,m,1,0\n" for i in range(100))
    _, rejected = read(write(tmp_path, HEADER + "\n".join(wrong) + "\n" + padding))
    assert {row for row, *_ in rejected} == {0, 1, 2, 3}
    assert CARD not in str(rejected)
    with pytest.raises(BadDataError) as caught:
        read(write(tmp_path, HEADER + f'"{CARD},' + "x" * (9 << 20)))
    assert CARD not in str(caught.value)


def test_listed_columns_become_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One card is one customer however it is written; without the key the file cannot be read."""
    mapping = parse_columns(
        {"columns": {"customer_id": "card_number"}, "pan": {"columns": ["card_number"]}}, where="test"
    )
    lines = "2026-01-31,1,4111 1111 1111 1111,0\n2026-01-31,2,4111111111111111,0\n2026-01-31,3,,0\n"
    path = write(tmp_path, "timestamp,amount,card_number,is_fraud\n" + lines)
    with pytest.raises(UsageError, match=r"column card_number, which is listed under \[pan\] columns, needs the key"):
        read(path, mapping)
    monkeypatch.setenv("QUATRAIN_PAN_KEY", "ab" * 32)
    rows, rejected = read(path, mapping)
    assert rejected == []
    assert rows[0]["customer_id"] == rows[1]["customer_id"]
    assert rows[0]["customer_id"].startswith("tok_")
    assert rows[2]["customer_id"] is None
    scored, _ = read(path, mapping, extras=())
    assert [row["customer_id"] for row in scored] == [row["customer_id"] for row in rows]
    pinned = mapping.model_copy(update={"pan": mapping.pan.model_copy(update={"key_id": "aaaaaa"})})
    with pytest.raises(UsageError, match="expected tokens of the key aaaaaa, but this machine's key is"):
        read(path, pinned)


def test_files_of_labels_are_read_like_transactions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the mapping's names or the canonical ones, corrections and all; a listed id is the same token."""
    monkeypatch.setenv("QUATRAIN_PAN_KEY", "ab" * 32)
    document = {"columns": {"transaction_id": "ref", "is_fraud": "fraud"}, "pan": {"columns": ["ref"]}}
    mapping = parse_columns(document, where="test")
    path = write(tmp_path, f"ref,is_fraud,labelled_at\n{CARD},1,2026-02-01\n{CARD},0,\nx,2,\n")
    source = open_source(path, mapping.csv)
    rejected = Rejected()
    batches = read_batches(source, layout_for_labels(source, mapping), mapping, reject=rejected)
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert [row["is_fraud"] for row in rows] == [True, False]
    assert rows[0]["transaction_id"].startswith("tok_")
    assert rows[0]["transaction_id"] == rows[1]["transaction_id"]
    assert [(row, column, reason) for row, column, reason, _ in rejected] == [(2, "is_fraud", "not 0 or 1")]
    plain = mapping.model_copy(update={"pan": ColumnMap().pan})
    with pytest.raises(BadDataError, match="column ref holds card numbers"):
        list(read_batches(source, layout_for_labels(source, plain), plain, reject=rejected))
    unlabelled = open_source(write(tmp_path, "ref,when\nx,1\n"), mapping.csv)
    with pytest.raises(BadDataError, match="lacks is_fraud, which a file of labels must have; it has: ref, when"):
        layout_for_labels(unlabelled, mapping)


def test_canonical_types_are_kept(tmp_path: Path) -> None:
    """What comes out has the schema's types, extras float64 after it."""
    mapping = parse_columns({"extra": {"numeric": ["V1"]}}, where="test")
    header = HEADER.strip() + ",device_id,merchant_id,labelled_at,V1\n"
    source = open_source(write(tmp_path, header + GOOD.strip() + ",d1,shop,,1\n"), mapping.csv)
    batch = next(read_batches(source, layout_for_training(source, mapping), mapping, reject=Rejected()))
    assert {field.name: field.type for field in batch.schema} == {**TYPES, "V1": pa.float64()}
