"""The model card that travels in the bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quatrain.fintech.evaluate.protocol import Row
from quatrain.fintech.features.names import extra_names, needs_history
from quatrain.fintech.wording import wording

# The settings of the trees that are told; the parts of a recipe, and what they are called.
_SETTINGS = ("learning_rate", "num_leaves", "min_child_samples", "lambda_l2", "max_bin")
_PARTS = {
    "ratios": "Quotients of inputs",
    "isolation": "An isolation forest's path length as an input",
    "tabm": "A network (TabM) beside the trees",
}
_NETWORKS = {
    "mlp": "A perceptron",
    "tabm": "TabM, several networks in one",
    "transformer": "A Transformer over the inputs, one token to each (FT-Transformer)",
}
# The columns of the results table; the rest of the measures is in the manifest.
_SHOWN = ("ap", "auc", "value_recall", "precision", "recall", "alert_rate", "ece")


def write_card(
    *,
    rows: Sequence[Row],
    data: Mapping[str, Any],
    decision: Mapping[str, Any],
    training: Mapping[str, Any],
    names: Sequence[str],
) -> str:
    """Return the card as Markdown."""
    synthetic = (
        "\n> **SYNTHETIC**: trained and tested on generated transactions. "
        "No number here says how it does on real fraud.\n"
        if data["is_synthetic"]
        else ""
    )
    delay = decision["label_delay_days"]
    rate, calibration = decision["alert_rate"], decision["calibration"]
    return f"""# Card fraud
{synthetic}
Gives each card transaction a score, a calibrated probability of fraud and bounds for it; transactions whose
score is at or above the threshold become alerts for a person.

## Data

- {data["name"]}: {data["rows"]:,} transactions, {data["frauds"]:,} of them fraud, {data["from"]} to {data["to"]}.
- Split by time: {data["train"]:,} rows to train, then {data["valid"]:,} to validate, then {data["test"]:,} to test.
  Labels were taken as known {delay:g} days after the transaction where the data does not say when; the
  {data["waiting"]:,} rows that still waited for theirs when the test began were learned from by no model.
- {data["rejected"]:,} bad rows were left out. Licence: {data["licence"] or "the owner's own data"}.
- sha256 of the data: `{data["sha256"]}`

## Model

{_recipe(training["recipe"])}

## Inputs

{_inputs(names)}

## Results on the test rows

{_table(rows)}
Intervals are 95 % bootstrap, over whole days where there are enough of them. Value recall is the share of the stolen
amount among the {decision["alert_budget"]:.2%} of transactions with the highest scores; precision, recall and alert
rate are those at the sealed threshold.

## Decision

An alert at a score of {decision["threshold"]:.4g} or more. That was {rate["rate"]:.2%} of the transactions that it
was set on; of the next {rate["horizon_days"]} days {rate["low"]:.2%} to {rate["high"]:.2%} are to be expected if they
are alike. Reasons compare each thing about a transaction with its median over legitimate ones.

The probability is the score after {calibration["method"]} calibration on {calibration["n"]:,} validation rows with
{calibration["n_frauds"]:,} frauds; low and high are what Venn-ABERS predicts if the transaction is legitimate, and if
it is fraud: their distance says how much that one label would matter, and is no confidence interval. Where the share of
frauds changes, probabilities are off in proportion; the ranking is not.

## Intended use

Ranking transactions for review by a person. Not for refusing a customer without review, not for credit decisions.

## Limits

- Fraud changes: the numbers hold for the period above. Measure newer data with `quatrain fintech evaluate`.
- Frauds that nobody reported count as legitimate, in training and in these results.
- A model with history features needs the transactions of the last weeks; without them every card looks new.
- Amounts are taken in one currency.
"""


def _recipe(recipe: Mapping[str, Any]) -> str:
    """Return what the model is made of, and how everything that was tried did on the validation folds."""
    if "model" in recipe:
        return _network(recipe)
    tried = recipe["valid_ap"]
    ratios = f"with {recipe['ratios']} quotients of inputs made inside the graph" if recipe["ratios"] else ""
    settings = {key: value for key, value in recipe.items() if key not in ("trees", "valid_ap", *_PARTS, "stack")}
    lines = [
        f"- LightGBM, {settings.pop('n_seeds')} seeds of {settings.pop('max_rounds')} trees averaged {ratios}".rstrip(),
        f"- Settings: {', '.join(f'{key} {value:g}' for key, value in settings.items() if key in _SETTINGS)}",
        *(f"- {told}: {_verdict(part, recipe)}" for part, told in _PARTS.items() if part != "ratios"),
    ]
    if recipe["stack"]:
        weights = ", ".join(f"{weight:.2f}" for weight in recipe["stack"]["weights"])
        lines.append(f"- Weights of the trees' and the network's log odds: {weights}")
    table = "\n".join(f"| {name} | {ap:.4f} |" for name, ap in tried.items())
    return "\n".join(lines) + f"\n\n| tried on the validation folds | AP |\n|---|---|\n{table}"


def _network(recipe: Mapping[str, Any]) -> str:
    kind = recipe["model"]
    left_out = ("model", "ratios", "valid_ap")
    settings = ", ".join(f"{key} {_written(value)}" for key, value in recipe.items() if key not in left_out)
    ratios = f", with {len(recipe['ratios'])} quotients of inputs made inside the graph" if recipe["ratios"] else ""
    return f"""- {_NETWORKS[kind]}{ratios}; each input enters by the shares of its quantile bins
- Settings: {settings}
- Validation AP at the epochs chosen there: {recipe["valid_ap"][kind]:.4f}. It was asked for in place of the trees and
  compared with none: look at the results below."""


def _written(value: Any) -> str:
    return " x ".join(map(str, value)) if isinstance(value, list | tuple) else f"{value:g}"


def _verdict(part: str, recipe: Mapping[str, Any]) -> str:
    if recipe[part]:
        return "kept, its gain on the validation folds is beyond chance"
    is_tried = any(name.endswith(part) for name in recipe["valid_ap"])
    return "tried and left out, its gain on the validation folds may be chance" if is_tried else "not tried"


def _inputs(names: Sequence[str]) -> str:
    own = set(extra_names(names))
    things: dict[str, list[str]] = {}
    for name in names:
        things.setdefault("columns of the data" if name in own else wording(name).thing, []).append(f"`{name}`")
    lines = "\n".join(f"- {thing}: {', '.join(members)}" for thing, members in things.items())
    looks_back = (
        "They look at the transaction itself and at earlier ones, never at later ones nor at labels not yet known."
        if needs_history(names)
        else "Each is a function of one transaction; nothing looks at other transactions or at later knowledge."
    )
    return f"{looks_back}\n\n{lines}"


def _table(rows: Sequence[Row]) -> str:
    shown = [name for name in _SHOWN if any(name in row.metrics for row in rows)]
    shown += [name for name in rows[0].metrics if name.startswith("cp_")]
    lines = ["| model | " + " | ".join(shown) + " |", "|---" * (len(shown) + 1) + "|"]
    for row in rows:
        cells = [_cell(row, name) for name in shown]
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(row: Row, name: str) -> str:
    if name not in row.metrics:
        return ""
    text = f"{row.metrics[name]:.4f}" if name in ("ece", "alert_rate") else f"{row.metrics[name]:.3f}"
    if name in row.intervals:
        low, high = row.intervals[name]
        text += f" [{low:.3f}, {high:.3f}]"
    return text
