"""What describe and validate say of files, before anything is trained or scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quatrain.core.errors import BadDataError
from quatrain.fintech.data.columns import parse_columns
from quatrain.fintech.data.named import NamedData
from quatrain.fintech.data.summary import describe_labelled, validate_files

HEADER = "transaction_id,timestamp,customer_id,device_id,amount,is_fraud\n"


def named(path: Path, **mapping: Any) -> NamedData:
    """Return a file as a data set of its own."""
    return NamedData(
        name=path.name, path=path, mapping=parse_columns(mapping, where="test"), is_synthetic=False, licence=None
    )


def test_describe_counts_only_labelled_rows_in_the_rate(tmp_path: Path) -> None:
    """An unlabelled row is no honest one; every kind of id is counted."""
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "a,2026-01-01,c1,d1,1,1\nb,2026-01-02,c2,d1,1,0\nc,2026-01-03,c2,d1,1,\n")
    facts = describe_labelled(named(path, label={"missing": "unknown"}))
    assert (facts["rows"], facts["unlabelled_rows"], facts["frauds"], facts["fraud_rate"]) == (3, 1, 1, 0.5)
    assert (facts["customer_ids"], facts["device_ids"]) == (2, 1)
    with pytest.raises(BadDataError, match="has no good row"):
        describe_labelled(named(path, timestamp={"unit": "s"}))


def test_validate_checks_labels_where_there_are_any(tmp_path: Path) -> None:
    """A wrong label costs its row in training, so it is told before; without labels there is nothing to check."""
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "a,2026-01-01,c1,d1,1,2\nb,2026-01-02,c2,d1,1,0\nc,2026-01-03,c2,d1,1,\n")
    file = validate_files(named(path))["files"][0]
    assert (file["good"], file["reasons"]) == (1, {"is_fraud: not 0 or 1": 1, "is_fraud: missing": 1})
    file = validate_files(named(path, label={"missing": "unknown"}))["files"][0]
    assert (file["good"], file["reasons"]) == (2, {"is_fraud: not 0 or 1": 1})
    file = validate_files(named(path, columns={"is_fraud": "fraud"}))["files"][0]
    assert (file["good"], file["reasons"]) == (3, {})
