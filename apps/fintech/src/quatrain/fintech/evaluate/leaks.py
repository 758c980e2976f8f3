"""Columns that say more than anybody knew when the transaction had to be decided on."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from quatrain.fintech.data.arrays import Array, from_numpy, to_numpy
from quatrain.fintech.data.columns import ENTITIES
from quatrain.fintech.data.table import Labelled
from quatrain.fintech.evaluate.alone import Judge, Strength
from quatrain.fintech.evaluate.entities import Entity
from quatrain.fintech.evaluate.suspects import Suspect, id_suspect, subsecond, suspect
from quatrain.fintech.features.row import DAY_US
from quatrain.fintech.metrics.scored import Floats, Ints

_LOG = logging.getLogger(__name__)
# Words for what is found out after a transaction.
_TELLING = re.compile(
    r"charge_?back|case_?id|outcome|scenario|label|fraud|dispute|verdict|resolution|investigat|confirmed|write_?off",
    re.IGNORECASE,
)
# Instants that lie in the future and are known nevertheless.
_PLANNED = re.compile(r"expir|valid|due|matur|until|planned", re.IGNORECASE)
# Clocks of two systems differ by this much; and so many rows must be later for a column to be.
_CLOCKS_S = 60.0
_LATER_SHARE = 0.001
_LATER_ROWS = 10


@dataclass(frozen=True, kw_only=True)
class Leak:
    """A column that may say what nobody knew yet."""

    column: str
    # strong, missing, fill, later, entity or name.
    kind: str
    reason: str
    fix: str
    measures: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return dict(vars(self))


def find_leaks(
    labelled: Labelled, *, others: Mapping[str, Array] | None = None, decimal: str = ".", seed: int = 0
) -> tuple[Leak, ...]:
    """Return the columns of labelled rows that a model should not have, each with why, how strongly, and what to do.

    Looked at are the extras, the ids, the amount, how finely times are given, and `others`: columns
    of any type, by name, in the order of the rows, texts with this decimal mark. Every column is
    judged alone, on later rows than it is looked at on; names and later times are judged without
    labels. It finds what is blatant: a column that is not listed may still hold what nobody knew.
    """
    return tuple(_Search(labelled, decimal=decimal, seed=seed).run(others or {}))


class _Search:
    def __init__(self, labelled: Labelled, *, decimal: str, seed: int) -> None:
        self._decimal = decimal
        self._table = labelled.table.filter(from_numpy(labelled.is_labelled))
        self._extras = labelled.extras
        self._is_labelled = labelled.is_labelled
        self._at_us: Ints = labelled.timestamp_us[self._is_labelled]
        label, amount = labelled.label[self._is_labelled], labelled.amount[self._is_labelled]
        self._amount = amount
        self._judge = Judge(label, self._at_us // DAY_US, seed=seed)
        self._entities = {name: Entity(self._code(name), amount, label) for name in ENTITIES if name in self._names}

    @property
    def _names(self) -> list[str]:
        return self._table.column_names

    def run(self, others: Mapping[str, Array]) -> Iterator[Leak]:
        if not self._judge.can_judge:
            _LOG.warning("too few frauds to judge columns by: only their names and times are looked at for leaks")
        for own in self._own():
            yield from self._strong(own, _RECORDED)
        around_s = (self._at_us[0] / 1e6, self._at_us[-1] / 1e6) if len(self._at_us) else (0.0, 0.0)
        columns = {name: self._table[name].combine_chunks() for name in self._extras}
        columns |= {name: array.filter(from_numpy(self._is_labelled)) for name, array in others.items()}
        for name, array in columns.items():
            found = suspect(name, array, around_s=around_s, decimal=self._decimal)
            yield from self._name(found)
            yield from self._later(found)
            yield from self._entity(found)
            yield from self._strong(found, _ignored(name))

    def _own(self) -> Iterator[Suspect]:
        """Yield what every file has, and models of history features look at."""
        nowhere = np.zeros(len(self._table), dtype=bool)
        yield Suspect(name="amount", is_missing=nowhere, values=self._amount)
        yield Suspect(name="timestamp", is_missing=nowhere, values=subsecond(self._at_us))
        for name in ("transaction_id", *self._entities):
            yield id_suspect(name, self._table[name].combine_chunks())

    def _code(self, name: str) -> Ints:
        indices = self._table[name].combine_chunks().dictionary_encode().indices.fill_null(-1)
        return to_numpy(indices).astype(np.int64)

    def _name(self, found: Suspect) -> Iterator[Leak]:
        match = _TELLING.search(found.name)
        if match:
            yield Leak(
                column=found.name,
                kind="name",
                reason=f"its name says {match.group().lower()!r}, which is found out after the transaction",
                fix=f"unless it was known by then, {_ignored(found.name)}",
                measures={},
            )

    def _later(self, found: Suspect) -> Iterator[Leak]:
        if found.at_s is None or _PLANNED.search(found.name):
            return
        is_later = found.at_s > self._at_us / 1e6 + _CLOCKS_S
        n_later, n_given = int(is_later.sum()), int((~np.isnan(found.at_s)).sum())
        if n_later < max(_LATER_ROWS, _LATER_SHARE * n_given):
            return
        hours = float(np.median(found.at_s[is_later] - self._at_us[is_later] / 1e6) / 3600)
        yield Leak(
            column=found.name,
            kind="later",
            reason=f"in {n_later:,} of {n_given:,} rows it holds a time after the transaction, by {hours:,.1f} hours "
            "in the middle",
            fix=f"it was written later; {_ignored(found.name)}",
            measures={"later_rows": n_later, "rows": n_given, "median_hours": hours},
        )

    def _entity(self, found: Suspect) -> Iterator[Leak]:
        if found.values is None:
            return
        for column, entity in self._entities.items():
            aggregate = entity.aggregate_like(found.values)
            if aggregate:
                yield Leak(
                    column=found.name,
                    kind="entity",
                    reason=f"it is the same in all rows of a {column} and ranks them as {aggregate} over the whole "
                    "file does: later rows are in it",
                    fix=f"{_ignored(found.name)}; history features count what was known at each row",
                    measures={},
                )
                return

    def _strong(self, found: Suspect, fix: str) -> Iterator[Leak]:
        """Yield why a column tells too much: that it is missing, that it is filled in, or what it holds."""
        if not self._judge.can_judge:
            return
        ways = (
            ("missing", "whether it is missing follows the label", self._flags(found.is_missing)),
            ("fill", "whether it holds anything but its usual value follows the label", self._flags(found.is_filled())),
            ("strong", "alone it tells frauds better than any column that is known to be honest", self._content(found)),
        )
        for kind, reason, codes in ways:
            strength = None if codes is None else self._judge.strength(codes)
            if strength and strength.is_implausible:
                yield Leak(
                    column=found.name,
                    kind=kind,
                    reason=f"{reason}: {_described(strength)} on later rows",
                    fix=fix,
                    measures=dict(vars(strength)),
                )
                return

    def _flags(self, flags: Any) -> Ints | None:
        return np.asarray(flags, dtype=np.int64) if flags.any() and not flags.all() else None

    def _content(self, found: Suspect) -> Ints | None:
        if found.codes is not None:
            return found.codes
        values: Floats | None = found.values
        return None if values is None else self._judge.bins(values)


_RECORDED = "ask how it came to be recorded so: a model would learn how frauds were written down, not what they are"


def _ignored(name: str) -> str:
    return f"leave it out: [extra] ignore = [{name!r}] in columns.toml"


def _described(strength: Strength) -> str:
    return (
        f"AUC {strength.auc:.3f} (at least {strength.auc_low:.3f}), AP {strength.ap:.3f} "
        f"(at least {strength.ap_low:.3f}), {strength.precision:.1%} frauds where it was always fraud before, "
        f"which is {strength.recall:.1%} of the frauds"
    )
