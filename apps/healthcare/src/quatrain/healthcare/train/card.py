"""The model card that travels in the bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quatrain.healthcare.decision import Decision
from quatrain.healthcare.metrics.measure import Row

_LEFT_OUT = ("auc_",)


def write_card(*, rows: Sequence[Row], data: Mapping[str, Any], decision: Decision, training: Mapping[str, Any]) -> str:
    """Return the card as Markdown."""
    synthetic = (
        "\n> **SYNTHETIC**: trained on invented images. No number here says how it does on patients.\n"
        if data["is_synthetic"]
        else ""
    )
    model = training["model"]
    splits = ", ".join(f"{n:,} {name}" for name, n in data["splits"].items())
    return f"""# {data["name"]}

> **Not for diagnosis.** For research and for checking by a person; it is no medical device.
{synthetic}
Gives each image a calibrated probability for each of {", ".join(data["classes"])}, a set of answers that holds the
truth as often as promised, and a distance from all that it was trained on.

## Data

- {data["name"]} ({data["kind"]}): {splits} images. Licence: {data["licence"] or "the owner's own data"}.
- {data["copies_across_splits"]} images lie in two splits, {data["exact_copies_across_splits"]} of them pixel for pixel.
- sha256 of the data: `{data["sha256"]}`

## Model

- {model["members"]} residual networks of width {model["width"]}, trained from scratch for {model["fit"]["epochs"]}
  epochs each with a moving average of the weights; their logits are averaged in the graph.
- Every image is standardised by its own mean and deviation. In training it is moved and shown as another machine
  might; the validation images choose neither epoch nor weights.
- Temperature {training["temperature"]:.3f}, fitted on the validation images and {training["n_views"]} altered copies.

## Results

{_table(rows)}
AUC intervals are DeLong's, those of shares Wilson's, of the rest the bootstrap's; all 95 %.

## Decision

{_decision(decision)}

## Limits

- The promised coverage holds for images like the validation ones. At another site it breaks: check with
  `quatrain healthcare evaluate`, which says whether images differ before any label is there, and repair with
  `quatrain healthcare adapt` and 50 labels.
- An image further than {decision.distance_limit:.2f} from all that was learned from is to be looked at by a person
  first; {decision.false_alarms:.0%} of good images are, too.
- Confidence does not show every error.
"""


def _decision(decision: Decision) -> str:
    lines = [
        f"- Sets of answers aim at {decision.level:.0%} in each class; no answer is given where a set has not one."
    ]
    if decision.kind == "binary":
        lines.insert(0, f"- Called {decision.classes[1]} at a probability of {decision.threshold:.3f} or more.")
    return "\n".join(lines)


def _table(rows: Sequence[Row]) -> str:
    names = [
        name for name in dict.fromkeys(name for row in rows for name in row.metrics) if not name.startswith(_LEFT_OUT)
    ]
    lines = ["| measure | " + " | ".join(row.split for row in rows) + " |", "|---" * (len(rows) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(_cell(row, name) for row in rows) + " |" for name in names]
    return "\n".join(lines) + "\n"


def _cell(row: Row, name: str) -> str:
    if name not in row.metrics:
        return ""
    text = f"{row.metrics[name]:.3f}"
    if name in row.intervals:
        low, high = row.intervals[name]
        text += f" [{low:.3f}, {high:.3f}]"
    return text
