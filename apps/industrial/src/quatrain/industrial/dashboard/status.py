"""Where surface inspection stands now, for the overview."""

from __future__ import annotations

from quatrain.core.dashboard import formats
from quatrain.core.dashboard.card import Fact, Status
from quatrain.industrial.dashboard import sources
from quatrain.industrial.decision import Rule


def status() -> Status:
    """Return model, promise and verdicts, or the exact next command."""
    version = sources.production_version()
    if version is None:
        return Status(
            state="empty",
            headline="No model yet",
            next_step="Train one on a folder of good parts",
            command="quatrain industrial train --data parts/good",
        )
    manifest = sources.sealed_model(version).manifest
    promise = Rule.of(manifest).promise
    note = "cannot promise its target" if promise.expected is None else f"{promise.expected:.1%} overkill expected"
    model = Fact(label="Model", value=version.reference, note=note)
    frame = sources.verdicts()
    if frame.empty:
        return Status(
            state="attention",
            headline="Nothing inspected yet",
            facts=(model,),
            next_step="Inspect a folder of images",
            command="quatrain industrial score --data images",
        )
    counts = frame["verdict"].value_counts()
    failed, review = int(counts.get("fail", 0)), int(counts.get("review", 0))
    return Status(
        state="attention" if review else "good",
        headline=f"{formats.plural(review, 'part')} to review" if review else "Up to date",
        facts=(
            Fact(label="Inspected", value=formats.count(len(frame)), note=f"{failed} failed, {review} to review"),
            model,
        ),
        is_synthetic=bool(frame["is_synthetic"].any()),
    )
