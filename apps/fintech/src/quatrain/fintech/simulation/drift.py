"""How frauds change over the span: how often each type comes, which tactics are new, what amounts are dared."""

from __future__ import annotations

from collections.abc import Mapping

from quatrain.fintech.simulation.draw import Bools, Floats, Rng, moments
from quatrain.fintech.simulation.events import (
    CARD_TESTING,
    COMPROMISE,
    FIRST_PARTY,
    LOST_CARD,
    MULE_RING,
    TAKEOVER,
)
from quatrain.fintech.simulation.world import World

# Frequency at equal steps over the span, relative to its mean (assumed): testing is fought back, takeovers and mules
# rise, compromises come in waves, lost cards stay what they are.
COURSES: Mapping[int, tuple[float, ...]] = {
    CARD_TESTING: (1.5, 1.4, 0.9, 0.6, 0.6),
    TAKEOVER: (0.5, 0.7, 1.0, 1.3, 1.5),
    COMPROMISE: (0.8, 1.4, 0.7, 1.3, 0.8),
    MULE_RING: (0.5, 0.6, 1.0, 1.4, 1.5),
    LOST_CARD: (1.0, 1.0, 1.0, 1.0, 1.0),
    FIRST_PARTY: (0.7, 0.8, 1.0, 1.2, 1.3),
}
# By the end, amounts are this share lower than at the start: what is caught is not tried again.
_AMOUNTS_FALL = 0.3


def starts(rng: Rng, world: World, kind: int, n: int) -> Floats:
    """Return when each of n frauds of a type begins, in seconds since the start."""
    flat = world.config.drift
    course = [1 + flat * (level - 1) for level in COURSES[kind]]
    return moments(rng, course, n) * world.calendar.span_s


def is_new(rng: Rng, world: World, at_s: Floats, *, share: float) -> Bools:
    """Return which frauds use their type's new tactic: that share of those after it has appeared."""
    appears_s = world.config.new_tactics_from * world.calendar.span_s
    return (at_s >= appears_s) & (rng.random(at_s.shape) < share)


def daring(world: World, at_s: Floats) -> Floats:
    """Return by what factor amounts are dared at each moment."""
    return 1 - _AMOUNTS_FALL * world.config.drift * at_s / world.calendar.span_s
