"""The worklist: the most urgent picture first, its findings with their doubt, and the picture itself."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from quatrain.core.dashboard import formats, grid, panels
from quatrain.core.dashboard.card import Fact
from quatrain.healthcare.dashboard import picture, sources
from quatrain.healthcare.score.scorer import LOOK_FIRST, NO_ANSWER

_PURPOSE = "Images by urgency. Where the model has no answer it says so. Not for diagnosis."
_PROBABILITY = "probability:"
# More rows than anyone scrolls through; the most urgent are among them.
_MAX_ROWS = 500
_ROW = "worklist-row"
# The whole image without scrolling.
_WIDTH_PX = 440


def worklist() -> None:
    """Draw numbers, table and the open picture."""
    with panels.loading():
        frame = sources.findings()
    is_synthetic = bool(len(frame)) and bool(frame["is_synthetic"].any())
    badges = [panels.badge("Not for diagnosis", "warn"), *([panels.SYNTHETIC] if is_synthetic else [])]
    panels.header("Worklist", _PURPOSE, badges=badges)
    if frame.empty:
        panels.empty_state(
            "No images have been scored yet",
            "Score a folder of images or DICOM files; the most urgent will be at the top here.",
            command="quatrain healthcare score --bundle healthcare/chest-phantoms --data images",
        )
        return
    _draw_numbers(frame)
    only = st.segmented_control(
        "Show", ["All", "With an answer", "Left to a person"], default="All", key="worklist-show"
    )
    is_open = frame["answer"].isin([LOOK_FIRST, NO_ANSWER])
    shown = {"With an answer": frame[~is_open], "Left to a person": frame[is_open]}.get(str(only), frame)
    if shown.empty:
        panels.empty_state("No image is of this kind", "Choose another kind above.")
        return
    shown = shown.head(_MAX_ROWS).reset_index(drop=True)
    left, right = st.columns([3, 4], gap="medium")
    with left:
        grid.show(_table(shown), alt="Images by urgency", rows=12)
        place = st.number_input("Open image number", 1, len(shown), 1, key=_ROW)
    with right, st.container(border=True):
        _draw_image(shown.iloc[int(place) - 1])


def _draw_numbers(frame: pd.DataFrame) -> None:
    n_first = int((frame["answer"] == LOOK_FIRST).sum())
    n_none = int((frame["answer"] == NO_ANSWER).sum())
    run = sources.last_batch()
    panels.strip(
        [
            Fact(label="Images", value=formats.count(len(frame))),
            Fact(label="To look at first", value=formats.count(n_first), note="unlike what was learned from"),
            Fact(label="No answer", value=formats.count(n_none), note="several answers are possible"),
            Fact(label="Last batch", value=formats.ago(run.started) if run else "none"),
        ]
    )


def _table(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "No.": range(1, len(frame) + 1),
            "Image": frame["file"],
            "Urgency": [formats.share(value) for value in frame["urgency"]],
            "Answer": frame["answer"],
        }
    )


def _draw_image(row: Any) -> None:
    panels.section(str(row["file"]), f"{row['source']} {row['modality']}".strip())
    if row["faults"]:
        st.warning(f"Look at the image first: {row['faults']}.")
    preset = st.selectbox("Window", list(picture.PRESETS), key="window-preset")
    centre, width = picture.PRESETS[preset]
    level, span, opacity = st.columns(3)
    centre = level.slider("Level", 0, 255, centre, key=f"level-{preset}")
    width = span.slider("Width", 1, 256, width, key=f"width-{preset}")
    share = opacity.slider("Where the model looked", 0, 100, 0, format="%d%%", key="saliency") / 100
    pixels = sources.preview_of(row)
    saliency = _saliency(row, pixels) if share else None
    shown = picture.with_saliency(picture.through_window(pixels, centre=centre, width=width), saliency, opacity=share)
    st.image(shown, width=_WIDTH_PX, caption=f"{row['file']}, level {centre}, width {width}. Not for diagnosis")
    _draw_findings(row)


def _saliency(row: Any, pixels: Any) -> Any:
    columns = [name for name in row.index if name.startswith(_PROBABILITY) and pd.notna(row[name])]
    strongest = max(range(len(columns)), key=lambda place: float(row[columns[place]]))
    found = sources.saliency_of(str(row["model"]), str(hash(row["preview"])), pixels, strongest)
    if found is None:
        st.caption("The model that made this finding is not in the store, so nobody can ask it where it looked.")
    return found


def _draw_findings(row: Any) -> None:
    values = {
        "Answer": str(row["answer"]),
        "Possible at the promised coverage": str(row["set"]),
        "Called by the threshold alone": str(row["called"]),
    }
    for name in row.index:
        if name.startswith(_PROBABILITY) and pd.notna(row[name]):
            values[f"Probability of {name.removeprefix(_PROBABILITY)}"] = formats.share(float(row[name]))
    values["Distance from what was learned"] = formats.measure(float(row["distance"]), digits=2)
    values["Model"] = str(row["model"])
    panels.facts(values)
