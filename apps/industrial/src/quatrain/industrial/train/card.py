"""The model card that travels in the bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quatrain.industrial.decision import Rule

_WHAT = {
    "block_gaussian": "Gaussians of blocks of 4 x 4 cells",
    "cell_gaussian": "Gaussians of blocks of 2 x 2 cells",
    "texture_gaussian": "one Gaussian of the texture",
    "nearest_good": "distance to the nearest of a bank of good places",
    "template": "difference from the golden template",
}


def write_card(
    *,
    row: Mapping[str, Any],
    rule: Rule,
    training: Mapping[str, Any],
    data: Mapping[str, Any],
    suspects: Sequence[Mapping[str, Any]],
) -> str:
    """Return the card as Markdown."""
    synthetic = (
        "\n> **SYNTHETIC**: trained on drawn parts. No number here says how it does on real ones.\n"
        if data["is_synthetic"]
        else ""
    )
    height, width = training["size_hw"]
    chosen = " and ".join(_WHAT[name] for name in training["choice"]["scorers"])
    fail = "none: nothing fails by itself" if rule.fail_above is None else f"{rule.fail_above:.4g}"
    named = ", ".join(str(suspect["file"]) for suspect in suspects) or "none"
    return f"""# Surface inspection
{synthetic}
Says of an image of a part how unlike the good parts it is, and where. It learned from good parts only.

## Data

- {data["name"]} ({data["layout"]}): {data["n_good"]} good parts; {data["unread"]} images could not be read.
- Parts that stood out among the good ones, to be looked at: {named}.
- sha256 of the images' digests: `{data["sha256"]}`

## Model

{training["backbone"]} at {height} x {width} pixels, two of its layers; {chosen}. Chosen among the following on parts
that each scorer had not seen, told from the same parts with pasted defects:

{_trials(training["choice"]["trials"])}
The graph gives torch's scores and maps within {training["parity"]:.1g} deviations of good parts.

## Decision

- Fail above: {fail}. Review above: {rule.review_above:.4g}. The unit is the deviation of good places.
- {rule.promise.text()}
- The scores behind it are of parts left out of the fit in ten folds (cross-conformal). The bounds are those of a
  separate calibration set; with folds they hold as far as one tenth fewer parts make no other model.

## Limits

- A change that good parts also show is no defect to it; a defect smaller than a few pixels of the resized image is
  not seen. It was told nothing of what defects look like: measure escapes on your own defects before you trust it.
- It holds for parts from the same line, camera and light. After a change, train again: seconds are enough.
- On {row["n"]} good parts, each scored by a model without it, {row["metrics"]["overkill"]:.1%} failed.
"""


def _trials(trials: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| scorer | image AUROC | pixel AUROC |", "|---|---|---|"]
    for trial in trials:
        name = " + ".join(trial["scorers"])
        lines.append(f"| {name} | {trial['image_auroc']:.3f} | {trial['pixel_auroc']:.3f} |")
    return "\n".join(lines) + "\n"
