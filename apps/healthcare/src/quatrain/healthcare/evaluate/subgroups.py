"""Whether a model does as well for some as for others: the same measures group by group."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.healthcare.data.labelled import Part
from quatrain.healthcare.decision import Decision
from quatrain.healthcare.metrics.measure import Row, measure

# Groups smaller than this have intervals too wide to say anything.
_MIN_ROWS = 30
# Columns with more values are cut at these ages or, for other numbers, at their quartiles.
_MAX_VALUES = 8
_AGES = (40, 60, 75)
_LEFT_OUT = ("patient",)


@dataclass(frozen=True, kw_only=True)
class Group:
    """One value of one column."""

    column: str
    value: str
    row: Row

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"column": self.column, "value": self.value} | self.row.to_dict()


def audit(probability: NDArray[Any], part: Part, decision: Decision, *, n_resamples: int = 200) -> list[Group]:
    """Return the measures of every group of at least 30 images, in the order of columns and values."""
    found = []
    for column, values in part.groups.items():
        if column in _LEFT_OUT:
            continue
        names = group_names(column, values)
        for value in sorted(set(names.tolist())):
            rows = np.flatnonzero(names == value)
            if len(rows) < _MIN_ROWS:
                continue
            row = measure(value, column, probability[rows], part.labels[rows], decision, n_resamples=n_resamples)
            found.append(Group(column=column, value=value, row=row))
    return found


def group_names(column: str, values: NDArray[Any]) -> NDArray[np.str_]:
    """Return each row's group; numbers with many values are cut into ranges."""
    if values.dtype.kind not in "iuf" or len(np.unique(values)) <= _MAX_VALUES:
        return values.astype(str)
    edges = np.array(_AGES if column == "age" else np.quantile(values, (0.25, 0.5, 0.75)))
    place = np.searchsorted(edges, values, side="right")
    names = [
        f"under {edges[0]:g}",
        *(f"{a:g} to {b:g}" for a, b in pairwise(edges)),
        f"from {edges[-1]:g}",
    ]
    return np.array(names)[place]
