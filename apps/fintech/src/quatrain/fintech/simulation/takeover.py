"""Account takeover: a probe and rising amounts within hours, or small ones for days, mostly from a new device."""

from __future__ import annotations

import numpy as np

from quatrain.fintech.simulation import drift
from quatrain.fintech.simulation.crews import Crews, fraud, hidden, kinds_of
from quatrain.fintech.simulation.draw import Bools, Floats, Ints, Rng, clipped_lognormal, running_sum, spread
from quatrain.fintech.simulation.events import LOW_AND_SLOW, NEW_DEVICE, OWN_DEVICE, TAKEOVER, Events
from quatrain.fintech.simulation.routines import favourite_slots
from quatrain.fintech.simulation.world import World

_HOUR_S = 3_600.0
# All numbers below are assumed.
_NEW_SHARE = 0.35
# Takeovers from the victim's own device (malware, remote control) at first and by the end.
_OWN_DEVICE_SHARES = (0.12, 0.45)
_PROBE_SHARE = 0.5
# First large amount, and the factor from one to the next.
_FIRST, _FIRST_SIGMA = 55.0, 0.7
_STEP_UP_LEAST, _STEP_UP_MOST = 1.15, 1.8
_LIMIT = 3_000.0
_GAP_MIN, _GAP_SIGMA = 28.0, 1.0
_SLOW_GAP_H = 26.0
_SPENT_ON = (
    "transfers",
    "transfers",
    "transfers",
    "gift_cards",
    "gift_cards",
    "electronics_online",
    "marketplace",
    "travel",
    "digital",
)


def account_takeover(rng: Rng, world: World, crews: Crews) -> list[Events]:
    """Return what is bought and sent from accounts taken over."""
    n = int(rng.poisson(world.config.takeovers * world.thousand_months))
    start_s = drift.starts(rng, world, TAKEOVER, n)
    victim, crew = world.members(rng, start_s), crews.at_work(rng, start_s)
    is_slow = drift.is_new(rng, world, start_s, share=_NEW_SHARE)
    low, high = _OWN_DEVICE_SHARES
    own_share = low + (high - low) * world.config.drift * start_s / world.calendar.span_s
    is_own = (rng.random(n) < own_share) & ~is_slow
    device = np.where(is_own, world.people.owns.phone_at(victim, start_s), world.devices.issue(n))
    counts = np.where(is_slow, 3 + rng.poisson(3, n), 1 + rng.geometric(0.28, n).clip(max=8))
    owner, place = spread(counts)
    slow = is_slow[owner]
    median_s = np.where(slow, _SLOW_GAP_H * _HOUR_S, _GAP_MIN * 60)
    gaps_s = median_s * np.exp(np.where(slow, 0.5, _GAP_SIGMA) * rng.standard_normal(len(owner)))
    at_s = start_s[owner] + running_sum(gaps_s, place)
    spot = _places(rng, world, crews, victim=victim[owner], crew=crew[owner], slow=slow)
    usual = world.places.price(rng, spot[0], world.people.wealth[victim[owner]])
    rising = _rising(rng, n, owner, place) * drift.daring(world, at_s)
    events = fraud(
        at_s=at_s,
        customer=victim[owner],
        place=spot,
        device=np.where(is_own[owner], device[owner], hidden(rng, device[owner])),
        amount=np.where(slow, usual, world.places.tag(rng, spot[0], rising)),
        kind=TAKEOVER,
        tactic=np.where(is_slow, LOW_AND_SLOW, np.where(is_own, OWN_DEVICE, NEW_DEVICE))[owner],
        case=crews.cases.issue(n)[owner],
        campaign=crews.campaigns.issue(n)[owner],
    )
    return [events]


def _places(rng: Rng, world: World, crews: Crews, *, victim: Ints, crew: Ints, slow: Bools) -> tuple[Ints, Ints]:
    """Return (outlet, terminal): the crew's, or for slow takeovers the victim's own usual online shops."""
    n = len(victim)
    outlet, terminal = crews.shop(rng, world, crew, kinds_of(rng, _SPENT_ON, n))
    names = ("marketplace", "clothing_online", "delivery", "electronics_online", "digital", "home_online")
    kind = kinds_of(rng, names, n)
    usual = world.people.favourites[victim, kind, favourite_slots(rng, n)]
    return np.where(slow, usual, outlet), np.where(slow, world.places.till(rng, usual), terminal)


def _rising(rng: Rng, n: int, owner: Ints, place: Ints) -> Floats:
    """Return amounts that rise from case to case by another factor, some after a tiny probe."""
    first = clipped_lognormal(rng, _FIRST, _FIRST_SIGMA, n, low=5, high=600)
    factor = rng.uniform(_STEP_UP_LEAST, _STEP_UP_MOST, n)
    has_probe = rng.random(n) < _PROBE_SHARE
    noise = np.exp(0.25 * rng.standard_normal(len(owner)))
    amount = np.minimum(first[owner] * factor[owner] ** place * noise, _LIMIT * noise)
    is_probe = has_probe[owner] & (place == 0)
    return np.where(is_probe, rng.uniform(1, 9, len(owner)), amount)
