"""Tabular sets come out under the column names of their descriptor."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from quatrain.core.data.descriptor import Descriptor, Label, Layout, UserPath
from quatrain.core.data.table import read_file
from quatrain.core.errors import BadDataError, UsageError


def descriptor(**changes: object) -> Descriptor:
    """Return the descriptor of a small tabular set."""
    values = {
        "name": "a-set",
        "title": "A set",
        "app": "fintech",
        "task": "fraud",
        "licence": "CC0-1.0",
        "citation": "Nobody, 2026.",
        "synthetic": False,
        "file": "set.csv",
        "source": UserPath(kind="user-path", instructions="Ask."),
        "label": Label(column="y", positive=1, meaning="yes"),
        "n_rows": 2,
    }
    return Descriptor.model_validate(values | changes)


def test_csv_with_a_header_is_read_as_it_is(tmp_path: Path) -> None:
    """Commas under a header line need no layout."""
    (tmp_path / "set.csv").write_text('"x","y"\n1.5,"0"\n2.5,"1"\n')
    assert read_file(tmp_path / "set.csv", descriptor()).to_pydict() == {"x": [1.5, 2.5], "y": [0, 1]}


def test_file_without_a_header_takes_its_names_from_the_layout(tmp_path: Path) -> None:
    """The Statlog form: spaces, and no header line."""
    (tmp_path / "set.data").write_text("A11 1\nA12 2\n")
    table = read_file(tmp_path / "set.data", descriptor(layout=Layout(delimiter=" ", names=("x", "y"))))
    assert table.to_pydict() == {"x": ["A11", "A12"], "y": [1, 2]}


def test_parquet_is_read_by_its_suffix(tmp_path: Path) -> None:
    """Parquet carries its own layout."""
    pq.write_table(pa.table({"y": [0, 1]}), tmp_path / "set.parquet")
    assert read_file(tmp_path / "set.parquet", descriptor()).num_rows == 2


def test_rows_that_the_catalogue_does_not_promise_are_refused(tmp_path: Path) -> None:
    """The descriptor's number of rows is held to."""
    (tmp_path / "set.csv").write_text("y\n1\n")
    with pytest.raises(BadDataError, match="has 1 rows, the catalogue says 2"):
        read_file(tmp_path / "set.csv", descriptor())


def test_missing_label_is_refused_with_the_columns_there_are(tmp_path: Path) -> None:
    """A layout that does not fit shows at once."""
    (tmp_path / "set.csv").write_text("x;y\n1;2\n3;4\n")
    with pytest.raises(BadDataError, match="no label column 'y', only x;y"):
        read_file(tmp_path / "set.csv", descriptor())


def test_set_that_is_no_table_says_so(tmp_path: Path) -> None:
    """Images are not read as text."""
    (tmp_path / "set.npz").write_bytes(b"PK")
    with pytest.raises(UsageError, match="is not a table"):
        read_file(tmp_path / "set.npz", descriptor())
