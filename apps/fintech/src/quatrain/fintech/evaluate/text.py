"""An evaluation in words, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

# What a line of a terminal has room for; the JSON has every measure.
_SHOWN = ("ap", "auc", "value_recall", "precision", "recall", "alert_rate", "ece")
# The measures whose differences are shown.
_COMPARED = ("ap", "auc", "value_recall")
_CARD_PRECISION = "cp_"


def shown_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with the measures that a terminal has room for, and the intervals of the first three."""
    return [
        {
            **row,
            "metrics": {name: row["metrics"][name] for name in _ordered(row["metrics"], _SHOWN)},
            "intervals": {name: row["intervals"][name] for name in _ordered(row["intervals"], _COMPARED)},
        }
        for row in rows
    ]


def notes_of(document: dict[str, Any]) -> Iterator[str]:
    """Yield the lines below the table: the protocol, differences, possible leaks, and what could not be done."""
    protocol = document.get("protocol")
    if protocol:
        yield from _protocol_lines(protocol)
    for difference in document.get("differences", ()):
        yield _difference_line(difference)
    for leak in document.get("leaks", ()):
        yield f"possible leak: {leak['column']}: {leak['reason']}. {leak['fix']}"
    yield from document.get("notes", ())


def _protocol_lines(protocol: dict[str, Any]) -> Iterator[str]:
    yield (
        f"each fold trains on {protocol['train_days']} days, waits {protocol['delay_days']} for labels, "
        f"and is tested on {protocol['test_days']}; means over folds, intervals over days"
    )
    if protocol["chosen_on"]:
        first, last = protocol["chosen_on"][0], protocol["chosen_on"][-1]
        yield f"chosen on {len(protocol['chosen_on'])} earlier folds, {first['test_from']} to {last['test_to']}"
    for fold in protocol["folds"]:
        yield (
            f"trained on {fold['train_from']} to {fold['train_to']} ({fold['n_train']:,} rows, "
            f"{fold['n_train_frauds']:,} frauds), tested on {fold['test_from']} to {fold['test_to']} "
            f"({fold['n_test']:,} rows; {fold['removed_cards']:,} known compromised cards removed)"
        )


def _difference_line(difference: dict[str, Any]) -> str:
    parts = []
    for name in _ordered(difference["intervals"], _COMPARED):
        low, high = difference["intervals"][name]
        parts.append(f"{name} {difference['metrics'][name]:+.4f} [{low:+.4f}, {high:+.4f}]")
    return f"{difference['name']} against {difference['against']}: {', '.join(parts)}"


def _ordered(names: Sequence[str], shown: Sequence[str]) -> list[str]:
    """Return the names to show, card precision third."""
    cards = [name for name in names if name.startswith(_CARD_PRECISION)]
    return [name for name in (*shown[:2], *cards, *shown[2:]) if name in names]
