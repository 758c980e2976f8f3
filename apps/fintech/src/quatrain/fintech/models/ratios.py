"""Which inputs are worth dividing by one another, read off their names: a tree would need many splits for one ratio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from quatrain.core.graphs import quotients
from quatrain.fintech.features.names import Feature, parse
from quatrain.fintech.models.fold import X

Pairs = tuple[tuple[int, int], ...]


def ratios_of(names: Sequence[str]) -> Pairs:
    """Return pairs of places (i, j) where input i over input j says how unusual i is.

    The amount over each mean of a key, unless that ratio is an input already, and a key's means
    over its mean of the longest window: is this day dearer than this card's month? The amount and
    the largest amounts of late over what the key usually paid, before anything that may still turn
    out as fraud.
    """
    place = {name: at for at, name in enumerate(names)}
    features = [feature for name in names if (feature := parse(name)) is not None]
    pairs: list[tuple[str, str]] = []
    for by in dict.fromkeys(feature.by for feature in features):
        means, usual, largest = (
            sorted((f for f in features if f.by == by and f.kind == kind), key=lambda f: f.window_us)
            for kind in ("mean", "usual", "max")
        )
        pairs += [("amount", mean.name) for mean in means if _as_ratio(mean).name not in place]
        pairs += [(mean.name, means[-1].name) for mean in means[:-1]]
        pairs += [("amount", mean.name) for mean in usual]
        pairs += [(one.name, mean.name) for mean in usual[-1:] for one in largest]
    return tuple((place[above], place[below]) for above, below in pairs if above in place)


def with_ratios(x: X, pairs: Pairs) -> X:
    """Return the inputs with the quotients of the pairs as further columns."""
    return np.column_stack([x, quotients(x, pairs)]) if pairs else x


def _as_ratio(mean: Feature) -> Feature:
    return Feature(kind="ratio", by=mean.by, window_us=mean.window_us)
