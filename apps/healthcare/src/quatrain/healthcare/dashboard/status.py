"""Where the medical app stands now, for the overview."""

from __future__ import annotations

from quatrain.core.dashboard import formats
from quatrain.core.dashboard.card import Fact, Status
from quatrain.healthcare.dashboard import sources
from quatrain.healthcare.score.scorer import LOOK_FIRST, NO_ANSWER


def status() -> Status:
    """Return model, worklist and what needs a person, or the exact next command."""
    versions = sources.versions()
    if not versions:
        return Status(
            state="empty",
            headline="No model yet",
            next_step="Train one on invented chest radiographs of two sites",
            command="quatrain healthcare train --data chest-phantoms",
        )
    model = Fact(label="Models", value=formats.count(len(versions)), note=versions[0].reference)
    frame = sources.findings()
    if frame.empty:
        return Status(
            state="attention",
            headline="Nothing scored yet",
            facts=(model,),
            next_step="Score a folder of images or DICOM files",
            command=f"quatrain healthcare score --bundle {versions[0].name} --data images",
        )
    n_open = int(frame["answer"].isin([LOOK_FIRST, NO_ANSWER]).sum())
    return Status(
        state="good",
        headline="Worklist ready, not for diagnosis",
        facts=(
            Fact(label="Images", value=formats.count(len(frame))),
            Fact(label="Without an answer", value=formats.count(n_open), note="left to a person"),
            model,
        ),
        is_synthetic=bool(frame["is_synthetic"].any()),
    )
