"""A rewritten file has tokens in place of its card numbers, and is otherwise the same."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from quatrain.core.errors import BadDataError, UsageError
from quatrain.fintech.data.columns import parse_columns
from quatrain.fintech.data.named import find_data
from quatrain.fintech.data.table import load_labelled
from quatrain.fintech.data.tokenise import tokenise_file

CARDS = ["4111111111111111", "4111 1111 1111 1111", "5555555555554444"]
MAPPING = parse_columns({"columns": {"customer_id": "card"}, "pan": {"columns": ["card"]}}, where="test")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUATRAIN_PAN_KEY", "ab" * 32)


def write_csv(path: Path, *, encoding: str = "utf-8", note: str = 'Zoë, "no"', n_rows: int = 3) -> list[list[str]]:
    """Write a file of cards and return its rows, header first."""
    header = ["transaction_id", "timestamp", "card", "amount", "is_fraud", "note"]
    rows = [[f"t{i}", "2026-01-31", CARDS[i % 3], "1.50", "0", note] for i in range(n_rows)]
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return [header, *rows]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16"])
def test_a_csv_file_keeps_everything_else(tmp_path: Path, encoding: str) -> None:
    """Quotes, characters and encoding; the same mapping reads both files, to the same rows."""
    before = write_csv(tmp_path / "a.csv", encoding=encoding)
    form = {"csv": {"encoding": encoding}, "extra": {"ignore": ["note"]}}
    mapping = parse_columns(MAPPING.model_dump() | form, where="test")
    facts = tokenise_file(tmp_path / "a.csv", mapping, tmp_path / "out" / "b.csv")
    with (tmp_path / "out" / "b.csv").open(encoding=encoding, newline="") as file:
        after = list(csv.reader(file))
    assert [row[:2] + row[3:] for row in after] == [row[:2] + row[3:] for row in before]
    tokens = [row[2] for row in after[1:]]
    assert tokens[0] == tokens[1] != tokens[2]
    assert all(token.startswith(f"tok_{facts['key_id']}_") for token in tokens)
    assert (facts["rows"], facts["bad_rows"]) == (3, 0)
    raw, rewritten = (load_labelled(tmp_path / name, mapping) for name in ("a.csv", "out/b.csv"))
    assert rewritten.table == raw.table


def test_a_parquet_file_keeps_its_types(tmp_path: Path) -> None:
    """Also the mark of generated rows; whole-number cards become text."""
    table = pa.table(
        {
            "timestamp": pa.array([datetime(2026, 1, 31, tzinfo=UTC)] * 2, pa.timestamp("ms", tz="UTC")),
            "card": pa.array([int(CARDS[0]), None]),
            "amount": pa.array([Decimal("1.50")] * 2),
            "tags": pa.array([["a"], []]),
        }
    ).replace_schema_metadata({"quatrain.synthetic": "true", "pandas": "{}"})
    pq.write_table(table, tmp_path / "a.parquet")
    tokenise_file(tmp_path / "a.parquet", MAPPING, tmp_path / "b.parquet")
    after = pq.read_table(tmp_path / "b.parquet")
    assert after.drop_columns(["card"]).schema.types == table.drop_columns(["card"]).schema.types
    assert after.drop_columns(["card"]).to_pylist() == table.drop_columns(["card"]).to_pylist()
    assert after.schema.metadata == {b"quatrain.synthetic": b"true"}
    tokens = after["card"].to_pylist()
    assert tokens[0].startswith("tok_")
    assert tokens[1] is None


def test_tokenising_twice_changes_nothing(tmp_path: Path) -> None:
    """Tokens are kept, so a folder of old and new files can be worked through again."""
    write_csv(tmp_path / "a.csv")
    tokenise_file(tmp_path / "a.csv", MAPPING, tmp_path / "b.csv")
    tokenise_file(tmp_path / "b.csv", MAPPING, tmp_path / "c.csv")
    assert (tmp_path / "c.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_card_numbers_elsewhere_are_not_written(tmp_path: Path) -> None:
    """A single one costs its row, a column of them the file; nothing is left behind."""
    path = tmp_path / "a.csv"
    write_csv(path, n_rows=60)
    path.write_text(path.read_text() + f't99,2026-01-31,x,1,0,"call {CARDS[1]} back"\n')
    facts = tokenise_file(path, MAPPING, tmp_path / "b.csv")
    assert (facts["rows"], facts["reasons"]) == (60, {"note: holds a card number": 1})
    assert facts["examples"][0]["value"] == "call 411111******1111 back"
    assert CARDS[1] not in (tmp_path / "b.csv").read_text() + str(facts)
    write_csv(path, note=CARDS[2])
    with pytest.raises(BadDataError, match="column note holds card numbers"):
        tokenise_file(path, MAPPING, tmp_path / "c.csv")
    assert sorted(each.name for each in tmp_path.iterdir() if "c.csv" in each.name) == []


def test_a_file_with_many_broken_rows_is_not_rewritten(tmp_path: Path) -> None:
    """A copy with a third of the rows would pass for the file."""
    path = tmp_path / "a.csv"
    write_csv(path)
    path.write_text(path.read_text() + "ragged\n")
    with pytest.raises(BadDataError, match=r"1 of 4 rows cannot be written: expected 6 values, got 1 \(1\)"):
        tokenise_file(path, MAPPING, tmp_path / "b.csv")
    assert not (tmp_path / "b.csv").exists()


@pytest.mark.parametrize(
    ("mapping", "error", "message"),
    [
        ({}, UsageError, r"which columns hold card numbers\?"),
        ({"pan": {"columns": ["cards"]}}, BadDataError, "a.csv lacks the column cards; did you mean 'card'"),
    ],
)
def test_what_to_tokenise_must_be_said(
    tmp_path: Path, mapping: dict[str, Any], error: type[Exception], message: str
) -> None:
    """A misspelled column would be copied as it is."""
    write_csv(tmp_path / "a.csv")
    with pytest.raises(error, match=message):
        tokenise_file(tmp_path / "a.csv", parse_columns(mapping, where="test"), tmp_path / "b.csv")


def test_a_file_is_never_replaced_by_its_copy(tmp_path: Path) -> None:
    """The original is the only thing from which tokens of another key can be made."""
    write_csv(tmp_path / "a.csv")
    before = (tmp_path / "a.csv").read_bytes()
    (tmp_path / "link.csv").symlink_to(tmp_path / "a.csv")
    for out in ("a.csv", "link.csv"):
        with pytest.raises(UsageError, match="must be another file"):
            tokenise_file(tmp_path / "a.csv", MAPPING, tmp_path / out)
    with pytest.raises(UsageError, match="cannot write"):
        tokenise_file(tmp_path / "a.csv", MAPPING, tmp_path / "a.csv" / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == before


def test_a_mapping_that_tokenises_names_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is trained with it holds the key's id, so that scoring under another key is refused."""
    write_csv(tmp_path / "a.csv")
    (tmp_path / "columns.toml").write_text(
        '[columns]\ncustomer_id = "card"\n[extra]\nignore = ["note"]\n[pan]\ncolumns = ["card"]\n'
    )
    found = find_data(str(tmp_path / "a.csv"), columns=tmp_path / "columns.toml")
    facts = tokenise_file(tmp_path / "a.csv", found.mapping, tmp_path / "b.csv")
    assert found.mapping.pan.key_id == facts["key_id"]
    monkeypatch.setenv("QUATRAIN_PAN_KEY", "cd" * 32)
    with pytest.raises(UsageError, match="was the key changed"):
        load_labelled(tmp_path / "a.csv", found.mapping)
    monkeypatch.delenv("QUATRAIN_PAN_KEY")
    assert find_data(str(tmp_path / "a.csv"), columns=tmp_path / "columns.toml").mapping.pan.key_id is None
