"""What follows what: the occasions of a day, the order of shops on an errand, and each customer's own routines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from quatrain.fintech.simulation.draw import Floats, Ints, Pools, Rng
from quatrain.fintech.simulation.people import N_ARCHETYPES, N_FAVOURITES, People
from quatrain.fintech.simulation.places import IS_ONLINE, KIND, KINDS

# No sitting has more purchases; a routine has at most four.
MAX_STEPS = 6
N_ROUTINES = 3
_ROUTINE_STEPS = 4
# All numbers below are assumed.
_ROUTINE_LENGTHS = np.array([[0.25, 0.4, 0.25, 0.1]])
_ROUTINE_SHARES = np.array([[0.6, 0.32, 0.08], [0.12, 0.18, 0.7]])
_ROUTINE_HOUR_SD = 1.0
# How often the first, second, ... usual shop is taken.
_FAVOURITE_SHARES: Floats = np.array([[0.5, 0.25, 0.15, 0.1]])
# Shapes of gamma noise: the lower, the more people and successions differ.
_OCCASION_SHAPE, _START_SHAPE, _SUCCESSION_SHAPE, _PERSONAL_SHAPE = 4.0, 2.0, 0.6, 2.5
# Two purchases in a row in the same kind of shop, relative to chance; shopping for clothes or apps is an exception.
_AGAIN = 0.35
_SERIAL = ("clothing", "clothing_online", "marketplace", "digital")


class Occasion(NamedTuple):
    """A time of day with what is bought then, most to least; hours are of the day."""

    hour: float
    sd_h: float
    on_weekday: float
    on_weekend: float
    first: Mapping[str, float]


OCCASIONS = (
    Occasion(7.8, 0.8, 0.21, 0.06, {"coffee": 8, "transit": 6, "fuel": 2, "groceries": 2, "pharmacy": 1, "cash": 1}),
    Occasion(12.4, 0.8, 0.15, 0.13, {"restaurant": 7, "coffee": 6, "groceries": 4, "pharmacy": 2, "cash": 1}),
    Occasion(
        16.8,
        2.2,
        0.24,
        0.36,
        {
            "groceries": 38,
            "fuel": 10,
            "pharmacy": 10,
            "clothing": 10,
            "home": 6,
            "electronics": 3,
            "cash": 8,
            "coffee": 8,
            "jewellery": 1,
            "leisure": 6,
        },
    ),
    Occasion(20.0, 1.4, 0.12, 0.19, {"restaurant": 4, "leisure": 3, "coffee": 1, "transit": 1, "groceries": 1}),
    Occasion(
        13.5,
        3.5,
        0.11,
        0.10,
        {
            "marketplace": 25,
            "clothing_online": 10,
            "delivery": 14,
            "transfers": 16,
            "digital": 14,
            "bills": 8,
            "home_online": 4,
            "electronics_online": 4,
            "travel": 3,
            "charity": 2,
            "gift_cards": 1.5,
        },
    ),
    Occasion(
        21.2,
        1.9,
        0.17,
        0.16,
        {
            "marketplace": 22,
            "clothing_online": 12,
            "delivery": 18,
            "transfers": 14,
            "digital": 24,
            "home_online": 4,
            "electronics_online": 4,
            "travel": 4,
            "charity": 1,
            "gift_cards": 1.5,
        },
    ),
)
HOUR: Floats = np.array([occasion.hour for occasion in OCCASIONS])
HOUR_SD: Floats = np.array([occasion.sd_h for occasion in OCCASIONS])


@dataclass(frozen=True, kw_only=True)
class Routines:
    """How every archetype's sittings go on, and every customer's own."""

    # Pool archetype * 2 + is_weekend: the occasion.
    occasions: Pools
    # Pool archetype * occasions + occasion: the first kind.
    starts: Pools
    # Pool archetype * kinds + kind: the next kind.
    successors: Pools
    # (customers, routines, steps): the kinds, and which favourite of each.
    kind: Ints
    favourite: Ints
    # (customers, routines): number of steps, and hour of the day.
    length: Ints
    hour: Floats
    # Pool is_weekend: the routine.
    choice: Pools

    def first(self, rng: Rng, archetype: Ints, occasion: Ints) -> Ints:
        """Return the kind of shop that each errand starts with."""
        return self.starts.draw(rng, archetype * len(OCCASIONS) + occasion)

    def following(self, rng: Rng, archetype: Ints, kind: Ints) -> Ints:
        """Return the kind of shop that comes next on each errand."""
        return self.successors.draw(rng, archetype * len(KINDS) + kind)


def make_routines(rng: Rng, people: People) -> Routines:
    """Return the archetypes' chains of shops, and routines drawn from them for every customer."""
    first = np.array([[occasion.first.get(kind.name, 0.0) for kind in KINDS] for occasion in OCCASIONS])
    starts = first * rng.gamma(_START_SHAPE, size=(N_ARCHETYPES, *first.shape))
    share = np.array([[o.on_weekday for o in OCCASIONS], [o.on_weekend for o in OCCASIONS]])
    occasions = Pools.dense((share * _noise(rng, _OCCASION_SHAPE, share.shape)).reshape(-1, len(OCCASIONS)))
    start_pools = Pools.dense(starts.reshape(-1, len(KINDS)))
    succession = _successions(first) * rng.gamma(_SUCCESSION_SHAPE, size=(len(KINDS), len(KINDS)))
    # Somewhere to go from every kind, even where noise has taken all.
    succession += 1e-3 * (IS_ONLINE[:, None] == IS_ONLINE) * (first.sum(axis=0) > 0)
    successors = Pools.dense((succession * _noise(rng, _PERSONAL_SHAPE, succession.shape)).reshape(-1, len(KINDS)))
    n = len(people)
    archetype = np.broadcast_to(people.archetype[:, None], (n, N_ROUTINES))
    occasion = occasions.draw(rng, archetype * 2 + (np.arange(N_ROUTINES) == N_ROUTINES - 1))
    steps = [start_pools.draw(rng, archetype * len(OCCASIONS) + occasion)]
    for _ in range(_ROUTINE_STEPS - 1):
        steps.append(successors.draw(rng, archetype * len(KINDS) + steps[-1]))
    slots = Pools.dense(_FAVOURITE_SHARES)
    nobody = np.zeros((n, N_ROUTINES), dtype=np.int64)
    return Routines(
        occasions=occasions,
        starts=start_pools,
        successors=successors,
        kind=np.stack(steps, axis=-1),
        favourite=slots.draw(rng, np.repeat(nobody[..., None], _ROUTINE_STEPS, axis=-1)),
        length=1 + Pools.dense(_ROUTINE_LENGTHS).draw(rng, nobody),
        hour=HOUR[occasion] + _ROUTINE_HOUR_SD * rng.standard_normal((n, N_ROUTINES)),
        choice=Pools.dense(_ROUTINE_SHARES),
    )


def favourite_slots(rng: Rng, n: int) -> Ints:
    """Return which of the usual shops is taken, n times."""
    return np.minimum(np.searchsorted(np.cumsum(_FAVOURITE_SHARES), rng.random(n)), N_FAVOURITES - 1)


def _noise(rng: Rng, shape: float, size: tuple[int, ...]) -> Floats:
    """Return gamma noise around 1 per archetype."""
    return rng.gamma(shape, 1 / shape, size=(N_ARCHETYPES, *size))


def _successions(first: Floats) -> Floats:
    """Return how often each kind follows each on average: as often as it is bought, on the same channel."""
    weight: Floats = (IS_ONLINE[:, None] == IS_ONLINE) * first.sum(axis=0) / first.sum()
    again = np.full(len(KINDS), _AGAIN)
    again[[KIND[name] for name in _SERIAL]] = 1 / _AGAIN
    weight[np.diag_indices(len(KINDS))] *= again
    return weight
