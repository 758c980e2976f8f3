"""Those who commit organised fraud: their favourite shops, their region, their mules, and their time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quatrain.fintech.simulation.draw import Bools, Floats, Ints, Numbers, Rng
from quatrain.fintech.simulation.events import Events
from quatrain.fintech.simulation.places import IS_ONLINE, KIND, KINDS
from quatrain.fintech.simulation.world import World

# All numbers here are assumed. One crew at work per so many customers, two at least.
_CUSTOMERS_PER_CREW = 900
# A crew is busy for this share of the span on average.
_BUSY_SHARE = 0.5
_N_SHOPS = 3
_N_MULES = 14
# How often a crew keeps to its own shops.
_LOYALTY = 0.6
# Fraudsters hide their device more often than others.
_HIDDEN_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Crews:
    """Every crew; arrays have one entry per crew unless they say otherwise."""

    # (crews, kinds, shops): where goods are easily turned into money.
    shops: Ints
    region: Ints
    # (crews, mules): customers whose accounts pass money on.
    mules: Ints
    from_s: Floats
    until_s: Floats
    # Numbers of cases and campaigns, from 1.
    cases: Numbers
    campaigns: Numbers

    def at_work(self, rng: Rng, at_s: Floats) -> Ints:
        """Return one crew that is busy at each moment, or any where none is."""
        is_busy = (self.from_s <= at_s[:, None]) & (at_s[:, None] < self.until_s)
        # The largest of uniform numbers picks one evenly; idle crews come last.
        crew: Ints = np.argmax(rng.random(is_busy.shape) + is_busy, axis=1)
        return crew

    def shop(self, rng: Rng, world: World, crew: Ints, kind: Ints) -> tuple[Ints, Ints]:
        """Return (outlet, terminal) where each crew buys that kind; a mule's account for transfers."""
        own = self.shops[crew, kind, rng.integers(_N_SHOPS, size=crew.shape)]
        is_own = rng.random(crew.shape) < _LOYALTY
        outlet = np.where(is_own, own, world.places.explore(rng, kind, self.region[crew]))
        terminal = world.places.till(rng, outlet)
        mule = self.mules[crew, rng.integers(_N_MULES, size=crew.shape)]
        is_transfer = kind == KIND["transfers"]
        outlet[is_transfer] = world.people.wallet[mule[is_transfer]]
        terminal[is_transfer] = world.people.handle[mule[is_transfer]]
        return outlet, terminal


def make_crews(rng: Rng, world: World) -> Crews:
    """Return the crews that work in a world, some throughout and some for weeks."""
    n = 2 + len(world.people) // _CUSTOMERS_PER_CREW
    span_s = world.calendar.span_s
    region = rng.choice(world.places.n_regions, n, p=world.places.region_share)
    kind = np.broadcast_to(np.arange(len(KINDS))[:, None], (n, len(KINDS), _N_SHOPS))
    from_s = rng.uniform(-_BUSY_SHARE, 1, n) * span_s
    return Crews(
        shops=world.places.explore(rng, kind, np.broadcast_to(region[:, None, None], kind.shape)),
        region=region,
        mules=rng.integers(len(world.people), size=(n, _N_MULES)),
        from_s=from_s,
        until_s=from_s + rng.gamma(2, _BUSY_SHARE / 2, n) * span_s,
        cases=Numbers(1),
        campaigns=Numbers(1),
    )


def fraud(
    *,
    at_s: Floats,
    customer: Ints,
    place: tuple[Ints, Ints],
    device: Ints,
    amount: Floats,
    kind: int,
    tactic: Ints,
    case: Ints,
    campaign: Ints,
) -> Events:
    """Return fraudulent transactions at (outlet, terminal) of one type."""
    return Events(
        at_s=at_s,
        customer=customer,
        outlet=place[0],
        terminal=place[1],
        device=device,
        amount=amount,
        kind=np.full(len(at_s), kind, dtype=np.int8),
        tactic=tactic.astype(np.int8),
        case=case,
        campaign=campaign,
    )


def hidden(rng: Rng, device: Ints) -> Ints:
    """Return the devices, some of them blocked from view (-1)."""
    return np.where(rng.random(device.shape) < _HIDDEN_SHARE, -1, device)


def kinds_of(rng: Rng, names: tuple[str, ...], n: int) -> Ints:
    """Return n kinds of shops, each of the names as likely as it is often named."""
    codes = np.array([KIND[name] for name in names])
    return codes[rng.integers(len(codes), size=n)]


def is_online(world: World, outlet: Ints) -> Bools:
    """Return which outlets are online."""
    return IS_ONLINE[world.places.kind[outlet]]
