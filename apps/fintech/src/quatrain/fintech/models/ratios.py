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

    The amount over each mean of a key, unless that ratio is an input already; and a key's means
    over its mean of the longest window: is this day dearer than this card's month?
    """
    place = {name: at for at, name in enumerate(names)}
    means: dict[tuple[str, ...], list[Feature]] = {}
    for name in names:
        feature = parse(name)
        if feature is not None and feature.kind == "mean":
            means.setdefault(feature.by, []).append(feature)
    pairs: list[tuple[int, int]] = []
    for of_key in means.values():
        of_key.sort(key=lambda mean: mean.window_us)
        if "amount" in place:
            missing = [mean for mean in of_key if _as_ratio(mean).name not in place]
            pairs += [(place["amount"], place[mean.name]) for mean in missing]
        pairs += [(place[mean.name], place[of_key[-1].name]) for mean in of_key[:-1]]
    return tuple(pairs)


def with_ratios(x: X, pairs: Pairs) -> X:
    """Return the inputs with the quotients of the pairs as further columns."""
    return np.column_stack([x, quotients(x, pairs)]) if pairs else x


def _as_ratio(mean: Feature) -> Feature:
    return Feature(kind="ratio", by=mean.by, window_us=mean.window_us)
