"""Tables in the house style, and tables in which a click opens a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from quatrain.core.dashboard import formats

_HEADER_PX, _ROW_PX = 34, 36


def show(table: pd.DataFrame, *, alt: str, rows: int = 10, columns: Mapping[str, Any] | None = None) -> None:
    """Draw a table as tall as its rows; beyond `rows` of them it scrolls."""
    st.dataframe(table, alt=alt, column_config=columns, **_style(table, rows))


def pick(
    table: pd.DataFrame,
    *,
    key: str,
    row: int,
    on_pick: Callable[[int], None],
    alt: str,
    rows: int = 10,
    columns: Mapping[str, Any] | None = None,
) -> None:
    """Draw a table whose `row` is open; a click anywhere in another row calls `on_pick` with it."""
    # The table's own selection follows the open row, also after the rows have moved.
    st.session_state[key] = {"selection": {"rows": [row], "columns": [], "cells": []}}
    st.dataframe(
        table,
        key=key,
        alt=alt,
        column_config=columns,
        on_select=partial(_clicked, key, on_pick),
        selection_mode=["single-row-required", "single-cell"],
        **_style(table, rows),
    )


def _clicked(key: str, on_pick: Callable[[int], None]) -> None:
    selection = st.session_state[key]["selection"]
    clicked = [cell[0] for cell in selection["cells"]] or list(selection["rows"])
    if clicked:
        on_pick(int(clicked[0]))


def _style(table: pd.DataFrame, rows: int) -> dict[str, Any]:
    height = _HEADER_PX + _ROW_PX * min(len(table), rows)
    return {"hide_index": True, "height": height, "row_height": _ROW_PX, "placeholder": formats.NONE}
