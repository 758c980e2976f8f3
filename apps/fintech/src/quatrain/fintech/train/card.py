"""The model card that travels in the bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quatrain.fintech.evaluate.protocol import Row

_COLUMNS = ("ap", "auc", "value_recall", "ece")


def write_card(
    *, champion: str, rows: Sequence[Row], data: Mapping[str, Any], decision: Mapping[str, Any], names: Sequence[str]
) -> str:
    """Return the card as Markdown."""
    synthetic = (
        "\n> **SYNTHETIC**: trained and tested on generated transactions. "
        "No number here says how it does on real fraud.\n"
        if data["is_synthetic"]
        else ""
    )
    return f"""# Card fraud: {champion}
{synthetic}
Gives each card transaction a probability of fraud; transactions at or above the threshold become alerts for a person.

## Data

- {data["name"]}: {data["rows"]:,} transactions, {data["frauds"]:,} of them fraud, {data["from"]} to {data["to"]}.
- Split by time: {data["train"]:,} rows to train, then {data["valid"]:,} to validate, then {data["test"]:,} to test.
- {data["rejected"]:,} bad rows were left out. Licence: {data["licence"] or "the owner's own data"}.
- sha256 of the data: `{data["sha256"]}`

## Inputs

{", ".join(names)}. Each is a function of one transaction; nothing looks at other transactions or at later knowledge.

## Results on the test rows

{_table(rows)}
Intervals are 95 % bootstrap. Value recall is the share of the stolen amount among the
{decision["alert_budget"]:.2%} of transactions with the highest scores.

## Decision

An alert at a score of {decision["threshold"]:.4g} or more: on the validation rows that were
{decision["alert_budget"]:.2%} of the transactions. Reasons compare each input with its median over legitimate
transactions.

## Intended use

Ranking transactions for review by a person. Not for refusing a customer without review, not for credit decisions.

## Limits

- Fraud changes: the numbers hold for the period above. Measure newer data with `quatrain fintech evaluate`.
- It does not know a card's history, so it misses fraud that shows only in a card's habits.
- Labels of frauds found late are missing at training; the last days look better than they were.
- Amounts are taken in one currency.
"""


def _table(rows: Sequence[Row]) -> str:
    shown = [*_COLUMNS, *(name for name in rows[0].metrics if name not in _COLUMNS)]
    lines = ["| model | " + " | ".join(shown) + " |", "|---" * (len(shown) + 1) + "|"]
    for row in rows:
        cells = [_cell(row, name) for name in shown]
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(row: Row, name: str) -> str:
    if name not in row.metrics:
        return ""
    text = f"{row.metrics[name]:.4f}" if name == "ece" else f"{row.metrics[name]:.3f}"
    if name in row.intervals:
        low, high = row.intervals[name]
        text += f" [{low:.3f}, {high:.3f}]"
    return text
