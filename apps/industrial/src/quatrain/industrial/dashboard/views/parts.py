"""The inspected parts: a gallery with verdicts, and one part with its map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from quatrain.core.dashboard import panels
from quatrain.core.dashboard.card import Fact
from quatrain.core.dashboard.faults import guarded
from quatrain.core.errors import BadDataError
from quatrain.core.images import read_image
from quatrain.industrial.dashboard import sources
from quatrain.industrial.dashboard.overlay import as_seen, overlay
from quatrain.industrial.decision import VERDICTS

_COLUMNS, _ROWS = 4, 3
# Wide enough to see a defect, and the whole part without scrolling.
_WIDTH_PX = 520


def parts() -> None:
    """Draw the page."""
    guarded(_draw)


def _draw() -> None:
    frame = sources.verdicts()
    badges = [panels.SYNTHETIC] if not frame.empty and bool(frame["is_synthetic"].any()) else []
    panels.header("Inspected parts", "Those most unlike good parts first.", badges=badges)
    if frame.empty:
        panels.empty_state(
            "Nothing inspected yet",
            "Verdicts appear here after the first folder of images was inspected.",
            command="quatrain industrial score --data images",
        )
        return
    counts = frame["verdict"].value_counts()
    panels.strip([Fact(label=verdict, value=str(int(counts.get(verdict, 0)))) for verdict in reversed(VERDICTS)])
    chosen = st.multiselect("Verdicts", list(reversed(VERDICTS)), default=["fail", "review"], key="verdicts")
    shown = frame[frame["verdict"].isin(chosen)]
    if shown.empty:
        st.info("No part has such a verdict.")
        return
    _part(shown)
    panels.section("Gallery", f"{len(shown)} parts")
    for start in range(0, min(len(shown), _COLUMNS * _ROWS), _COLUMNS):
        for column, (_, row) in zip(
            st.columns(_COLUMNS), shown.iloc[start : start + _COLUMNS].iterrows(), strict=False
        ):
            with column:
                _thumbnail(row)


def _part(shown: pd.DataFrame) -> None:
    file = st.selectbox("Part", shown["file"].tolist(), key="part")
    row = shown[shown["file"] == file].iloc[0]
    left, right = st.columns([3, 2])
    with right:
        opacity = st.slider("Map", 0.0, 1.0, 0.6, 0.05, key="opacity")
        has_contour = st.toggle("Outline above the threshold", value=True, key="contour")
        panels.facts(
            {
                "Verdict": row["verdict"],
                "Score": f"{row['score']:.2f}",
                "Review above": f"{row['review_above']:.2f}",
                "Fails above": "nothing fails" if pd.isna(row["fail_above"]) else f"{row['fail_above']:.2f}",
                "Most unlike at": f"row {row['peak_row']}, column {row['peak_column']}",
                "sha256": str(row["sha256"])[:12],
                "Model": str(row["model_sha256"])[:12],
            }
        )
    with left:
        try:
            image = read_image(Path(row["folder"]) / file)
        except BadDataError as error:
            st.warning(f"The image is no longer where it was inspected: {error}")
            return
        found = sources.map_of(file)
        if found is None:
            st.image(as_seen(image), width=_WIDTH_PX)
            return
        limit = row["review_above"] if pd.isna(row["fail_above"]) else row["fail_above"]
        st.image(
            overlay(image, found, threshold=float(limit), opacity=opacity, has_contour=has_contour), width=_WIDTH_PX
        )


def _thumbnail(row: Any) -> None:
    try:
        st.image(as_seen(read_image(Path(row["folder"]) / row["file"])), width="stretch")
    except BadDataError:
        st.caption("image moved")
    tone = {"fail": "bad", "review": "warn"}.get(row["verdict"], "good")
    st.html(f"{panels.badge(row['verdict'], tone)} {row['score']:.1f}")  # type: ignore[arg-type]  # a tone by its name
