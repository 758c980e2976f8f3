"""Mule rings: recruited accounts that share devices, gather money on one, and pass it on in chains."""

from __future__ import annotations

import numpy as np

from quatrain.fintech.simulation import drift
from quatrain.fintech.simulation.crews import Crews, fraud, hidden
from quatrain.fintech.simulation.draw import Floats, Ints, Rng, clipped_lognormal
from quatrain.fintech.simulation.events import MULE_RING, SEPARATE_DEVICES, SHARED_DEVICES, Events, concatenate
from quatrain.fintech.simulation.world import World

_HOUR_S = 3_600.0
_DAY_S = 24 * _HOUR_S
# All numbers below are assumed.
_MEMBERS = (5, 16)
_ROUNDS_MEAN = 6.0
_ROUND_GAP_DAYS = 2.2
_NEW_SHARE = 0.6
_SHARED_DEVICES = 3
# Members who have just become customers, where there are such.
_RECENT_SHARE, _RECENT_DAYS = 0.5, 45.0
# What one round moves, and the share that each mule keeps of what it passes on.
_MOVED, _MOVED_SIGMA, _MOVED_MOST = 320.0, 0.7, 2_900.0
_FEE = (0.02, 0.1)
_PASS_ON_H, _PASS_ON_SIGMA = 3.0, 0.9
_GATHER_SHARE = 0.4


def mule_rings(rng: Rng, world: World, crews: Crews) -> list[Events]:
    """Return the payments inside every ring."""
    n = int(rng.poisson(world.config.rings * world.thousand_months))
    start_s = drift.starts(rng, world, MULE_RING, n)
    crew = crews.at_work(rng, start_s)
    is_new = drift.is_new(rng, world, start_s, share=_NEW_SHARE)
    return [
        _ring(rng, world, crews, float(start_s[ring]), int(crew[ring]), is_separate=bool(is_new[ring]))
        for ring in range(n)
    ]


def _ring(rng: Rng, world: World, crews: Crews, start_s: float, crew: int, *, is_separate: bool) -> Events:
    """Return one ring's rounds: fan-in to a collector, or a chain, each some days after the last."""
    members = _members(rng, world, crews, start_s, crew)
    n = len(members)
    # With separate devices each mule pays on its own phone.
    phones = world.people.owns.phone_at(members, np.full(n, start_s))
    stock = world.devices.issue(_SHARED_DEVICES)
    device = phones if is_separate else stock[rng.integers(1 + rng.integers(_SHARED_DEVICES), size=n)]
    n_rounds = 1 + int(rng.poisson(_ROUNDS_MEAN))
    round_s = start_s + np.cumsum(rng.exponential(_ROUND_GAP_DAYS * _DAY_S, n_rounds))
    campaign = crews.campaigns.issue(1)
    case = crews.cases.issue(n)
    rounds = []
    for at_s in round_s:
        chosen = rng.permutation(n)[: int(rng.integers(2, min(n, 7) + 1))]
        is_gathering = rng.random() < _GATHER_SHARE
        payer, payee, paid_s, amount = (_gather if is_gathering else _chain)(rng, chosen, float(at_s))
        amount = amount * drift.daring(world, paid_s)
        rounds.append(
            fraud(
                at_s=paid_s,
                customer=members[payer],
                place=(world.people.wallet[members[payee]], world.people.handle[members[payee]]),
                device=hidden(rng, device[payer]),
                amount=world.places.tag(rng, world.people.wallet[members[payee]], amount),
                kind=MULE_RING,
                tactic=np.full(len(payer), SEPARATE_DEVICES if is_separate else SHARED_DEVICES),
                case=case[payer],
                campaign=np.repeat(campaign, len(payer)),
            )
        )
    return concatenate(rounds)


def _members(rng: Rng, world: World, crews: Crews, start_s: float, crew: int) -> Ints:
    """Return the ring's customers: the crew's own mules, new customers, and others."""
    n = int(rng.integers(*_MEMBERS, endpoint=True))
    joined_s = world.people.joined * _DAY_S
    recent = np.flatnonzero((joined_s > 0) & (joined_s < start_s) & (joined_s > start_s - _RECENT_DAYS * _DAY_S))
    n_recent = min(int(_RECENT_SHARE * n), len(recent))
    own = rng.choice(crews.mules[crew], max(n // 4, 1), replace=False)
    others = rng.integers(len(world.people), size=n - n_recent)
    return rng.permutation(np.unique(np.concatenate([own, rng.choice(recent, n_recent, replace=False), others])))


def _gather(rng: Rng, chosen: Ints, at_s: float) -> tuple[Ints, Ints, Floats, Floats]:
    """Return (payer, payee, when, amount) of payments that all go to the last one within hours."""
    n = len(chosen) - 1
    amount = clipped_lognormal(rng, _MOVED, _MOVED_SIGMA, n, low=15, high=_MOVED_MOST)
    return chosen[:-1], np.repeat(chosen[-1:], n), at_s + rng.exponential(4 * _HOUR_S, n), amount


def _chain(rng: Rng, chosen: Ints, at_s: float) -> tuple[Ints, Ints, Floats, Floats]:
    """Return (payer, payee, when, amount) of one sum that passes through all, a fee staying with each."""
    n = len(chosen) - 1
    first = clipped_lognormal(rng, _MOVED, _MOVED_SIGMA, 1, low=15, high=_MOVED_MOST)
    kept = np.concatenate([[1.0], 1 - rng.uniform(*_FEE, n - 1)])
    waits_s = clipped_lognormal(rng, _PASS_ON_H * _HOUR_S, _PASS_ON_SIGMA, n, low=60, high=3 * _DAY_S)
    return chosen[:-1], chosen[1:], at_s + np.cumsum(waits_s), first * np.cumprod(kept)
