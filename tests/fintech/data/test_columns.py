"""The column mapping is checked before a row is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from quatrain.core.errors import UsageError
from quatrain.fintech.data.columns import ColumnMap, parse_columns, read_columns


def test_the_contract_example_is_read(tmp_path: Path) -> None:
    """Every key of the documented example has its place."""
    path = tmp_path / "columns.toml"
    path.write_text(
        '[columns]\ntimestamp = "TX_DATETIME"\namount = "TX_AMOUNT"\nis_fraud = "TX_FRAUD"\n'
        '[timestamp]\nunit = "s"\norigin = "2013-09-01T00:00:00Z"\nzone = "Europe/Paris"\n'
        '[extra]\nnumeric = ["V1", "V2"]\nignore = ["note"]\n[csv]\ndelimiter = ";"\ndecimal = ","\n'
    )
    mapping = read_columns(path)
    assert mapping.source("timestamp") == "TX_DATETIME"
    assert mapping.source("customer_id") == "customer_id"
    assert mapping.timestamp.origin.isoformat() == "2013-09-01T00:00:00+00:00"
    assert mapping.extra.numeric == ("V1", "V2")
    assert mapping.csv.delimiter == ";"


def test_a_mapping_survives_its_own_json() -> None:
    """The manifest keeps the mapping as JSON values; reading it back gives the same mapping."""
    mapping = ColumnMap.model_validate({"columns": {"amount": "x"}, "extra": {"numeric": "all"}})
    assert ColumnMap.model_validate(mapping.model_dump(mode="json")) == mapping


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"columns": {"amout": "x"}}, "no canonical column 'amout'; did you mean 'amount'"),
        ({"column": {"amount": "x"}}, "unknown key column; did you mean 'columns'"),
        ({"timestamp": {"units": "s"}}, "unknown key timestamp.units; did you mean 'unit'"),
        ({"timestamp": {"unit": "minutes"}}, "timestamp.unit: Input should be 's', 'ms', 'us' or 'ns'"),
        ({"timestamp": {"zone": "Europe/Atlantis"}}, "IANA time zone"),
        ({"timestamp": {"zone": "../../etc/passwd"}}, "IANA time zone"),
        ({"csv": {"encoding": "latin-99"}}, "encoding that Python knows"),
        ({"csv": {"delimiter": ""}}, "csv.delimiter"),
        ({"label": {"missing": "ignore"}}, "label.missing: Input should be 'bad' or 'unknown'"),
        (
            {"pan": {"columns": ["x"]}, "columns": {"amount": "x"}},
            "become tokens, which only an id can be, and x is none",
        ),
        ({"pan": {"columns": ["V1"]}, "extra": {"numeric": ["V1"]}}, "and V1 is none"),
        ({"pan": {"key": "secret"}}, "unknown key pan.key; did you mean 'key_id'"),
        ({"extra": {"numeric": ["device_id"]}}, "may not name device_id: the schema has such a column"),
        ({"columns": {"amount": "x", "timestamp": "x"}}, "x is named twice"),
        ({"columns": {"amount": "x"}, "extra": {"ignore": ["x"]}}, "x is named twice"),
    ],
)
def test_a_wrong_mapping_says_what_is_wrong(document: dict[str, object], message: str) -> None:
    """The text names the key and, where one is near, the key that was meant."""
    with pytest.raises(UsageError, match=message):
        parse_columns(document, where="columns.toml")


def test_an_unreadable_mapping_is_named(tmp_path: Path) -> None:
    """A missing file and broken TOML are the user's to fix."""
    with pytest.raises(UsageError, match="cannot read the column mapping"):
        read_columns(tmp_path / "nowhere.toml")
    (tmp_path / "broken.toml").write_text("[columns\n")
    with pytest.raises(UsageError, match="not valid TOML"):
        read_columns(tmp_path / "broken.toml")
