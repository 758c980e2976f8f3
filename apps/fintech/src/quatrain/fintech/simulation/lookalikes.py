"""Honest behaviour that looks like fraud: new phones, sprees, bulk gifts, removals, collections, borrowed devices.

Each story happens at its own rate, so many per 1,000 customers and 30 days (assumed, as every number here), times
the knob `lookalikes`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from quatrain.fintech.simulation.calendar import DAY_S
from quatrain.fintech.simulation.draw import Floats, Ints, Rng, clipped_lognormal, running_sum, spread
from quatrain.fintech.simulation.events import Events, concatenate, legitimate
from quatrain.fintech.simulation.places import KIND
from quatrain.fintech.simulation.world import World

_HOUR_S, _MINUTE_S = 3_600.0, 60.0
_SPREES, _SPREES_ON_SALE = 12.0, 60.0
_FIRST_ORDERS = 14.0
_WALLETS = 14.0
_GIFTS, _GIFTS_IN_ADVENT = 4.0, 30.0
_REMOVALS = 1.5
_TRIALS, _TRIAL_CUSTOMERS = 0.35, 25
_COLLECTIONS, _COLLECTION_PAYERS = 0.5, 9
_PASSED_ON = 3.0
_BORROWED = 18.0


def honest_oddities(rng: Rng, world: World) -> Events:
    """Return the transactions of all such stories."""
    stories = (
        _new_phones,
        _sprees,
        _first_orders,
        _wallet_set_ups,
        _gifts,
        _removals,
        _trials,
        _collections,
        _passed_on,
        _borrowed,
    )
    return world.within(concatenate([story(rng, world) for story in stories]))


def _starts(rng: Rng, world: World, rate: float, *, peak: Floats | None = None, peak_rate: float = 0.0) -> Floats:
    """Return waking moments of Poisson many stories, in seconds; `peak` (days,) mixes in `peak_rate`."""
    calendar = world.calendar
    per_day = np.full(calendar.n_days, rate)
    if peak is not None:
        per_day = rate + (peak_rate - rate) * peak
    unit = len(world.people) / 1_000 / 30 * world.config.lookalikes
    day, _ = spread(rng.poisson(per_day * unit))
    start_s: Floats = (day + rng.normal(0.66, 0.15, len(day)).clip(0.02, 0.98)) * DAY_S
    return start_s


def _kinds(rng: Rng, names: Sequence[str], n: int) -> Ints:
    codes = np.array([KIND[name] for name in names])
    return codes[rng.integers(len(codes), size=n)]


def _series(
    rng: Rng,
    world: World,
    customer: Ints,
    start_s: Floats,
    counts: Ints,
    *,
    gap_s: float,
    names: Sequence[str],
    factor: Floats,
) -> Events:
    """Return `counts` purchases of each customer, with log-normal gaps and `factor` times the usual amounts."""
    owner, place = spread(counts)
    gaps = gap_s * np.exp(rng.standard_normal(len(owner)))
    at_s = start_s[owner] + running_sum(gaps, place)
    buyer = customer[owner]
    outlet, terminal = world.shop(rng, buyer, at_s, _kinds(rng, names, len(owner)))
    amount = world.places.price(rng, outlet, world.people.wealth[buyer]) * factor[owner]
    return legitimate(
        at_s=at_s,
        customer=buyer,
        outlet=outlet,
        terminal=terminal,
        device=world.own_device(rng, buyer, at_s, outlet),
        amount=world.places.tag(rng, outlet, amount),
    )


def _new_phones(rng: Rng, world: World) -> Events:
    """A phone is bought, and the first hours with it go into apps and new accounts."""
    owner = np.flatnonzero(np.isfinite(world.people.owns.phone_until_s))
    until_s = world.people.owns.phone_until_s[owner]
    n = len(owner)
    bought_s = until_s - clipped_lognormal(rng, 10 * _HOUR_S, 1.0, n, low=_HOUR_S, high=6.0 * DAY_S)
    outlet, terminal = world.shop(rng, owner, bought_s, _kinds(rng, ("electronics", "electronics_online"), n))
    bought = legitimate(
        at_s=bought_s,
        customer=owner,
        outlet=outlet,
        terminal=terminal,
        device=world.own_device(rng, owner, bought_s, outlet),
        amount=world.places.tag(rng, outlet, clipped_lognormal(rng, 480, 0.5, n, low=90, high=2_200)),
    )
    names = ("digital", "digital", "marketplace", "transfers", "delivery", "gift_cards")
    counts = rng.binomial(6, 0.4, n)
    apps = _series(rng, world, owner, until_s, counts, gap_s=40 * _MINUTE_S, names=names, factor=np.ones(n))
    return concatenate([bought, apps])


def _sprees(rng: Rng, world: World) -> Events:
    """Many purchases online in an hour or two, above all when there is a sale."""
    is_sale = world.calendar.is_sale.astype(np.float64)
    start_s = _starts(rng, world, _SPREES, peak=is_sale, peak_rate=_SPREES_ON_SALE)
    names = ("clothing_online", "marketplace", "home_online", "electronics_online", "digital", "gift_cards")
    n = len(start_s)
    counts = 2 + rng.geometric(0.3, n).clip(max=9)
    factor = rng.uniform(0.8, 2.6, n)
    return _series(
        rng, world, world.members(rng, start_s), start_s, counts, gap_s=11 * _MINUTE_S, names=names, factor=factor
    )


def _first_orders(rng: Rng, world: World) -> Events:
    """A small first order in a shop that is new to the customer, and a large one when it went well."""
    start_s = _starts(rng, world, _FIRST_ORDERS)
    n = len(start_s)
    customer, kind = (
        world.members(rng, start_s),
        _kinds(rng, ("electronics_online", "marketplace", "travel", "home_online"), n),
    )
    outlet, terminal = world.shop(rng, customer, start_s, kind)
    later_s = start_s + clipped_lognormal(rng, 30 * _HOUR_S, 1.2, n, low=_MINUTE_S, high=20.0 * DAY_S)
    large = world.places.price(rng, outlet, world.people.wealth[customer]) * rng.uniform(1, 4, n)
    both = np.concatenate([outlet, outlet])
    payer, at_s = np.concatenate([customer, customer]), np.concatenate([start_s, later_s])
    return legitimate(
        at_s=at_s,
        customer=payer,
        outlet=both,
        terminal=np.concatenate([terminal, terminal]),
        device=world.own_device(rng, payer, at_s, both),
        amount=world.places.tag(rng, both, np.concatenate([rng.uniform(1, 20, n), large])),
    )


def _wallet_set_ups(rng: Rng, world: World) -> Events:
    """A card is added to a wallet with a tiny charge, and money goes to somebody new."""
    start_s = _starts(rng, world, _WALLETS)
    n = len(start_s)
    customer, payee = world.members(rng, start_s), rng.integers(len(world.people), size=n)
    outlet = world.people.wallet[payee]
    delay_s = clipped_lognormal(rng, 25 * _MINUTE_S, 1.3, n, low=20, high=3.0 * DAY_S)
    paid = np.rint(clipped_lognormal(rng, 90, 1.0, n, low=1, high=3_000))
    phone = world.people.owns.phone_at(customer, start_s)
    return legitimate(
        at_s=np.concatenate([start_s, start_s + delay_s]),
        customer=np.concatenate([customer, customer]),
        outlet=np.concatenate([outlet, outlet]),
        terminal=np.concatenate([world.places.till(rng, outlet), world.people.handle[payee]]),
        device=np.concatenate([phone, phone]),
        amount=np.concatenate([np.rint(rng.uniform(1, 200, n)) / 100, paid]),
    )


def _gifts(rng: Rng, world: World) -> Events:
    """Several vouchers of the same amount in a few minutes, above all before Christmas."""
    start_s = _starts(rng, world, _GIFTS, peak=world.calendar.advent, peak_rate=_GIFTS_IN_ADVENT)
    n = len(start_s)
    customer = world.members(rng, start_s)
    outlet, terminal = world.shop(rng, customer, start_s, np.full(n, KIND["gift_cards"]))
    each = np.array([20.0, 25.0, 30.0, 50.0, 100.0])[rng.integers(5, size=n)]
    owner, place = spread(1 + rng.geometric(0.45, n).clip(max=7))
    gaps = clipped_lognormal(rng, 3 * _MINUTE_S, 0.6, len(owner), low=20, high=_HOUR_S)
    at_s = start_s[owner] + running_sum(gaps, place)
    return legitimate(
        at_s=at_s,
        customer=customer[owner],
        outlet=outlet[owner],
        terminal=terminal[owner],
        device=world.own_device(rng, customer[owner], start_s[owner], outlet[owner]),
        amount=each[owner],
    )


def _removals(rng: Rng, world: World) -> Events:
    """A week of large purchases and deposits for a new home."""
    start_s = _starts(rng, world, _REMOVALS)
    names = ("home", "home_online", "electronics", "electronics_online", "transfers", "bills", "restaurant")
    n = len(start_s)
    counts = rng.integers(5, 15, size=n)
    factor = rng.uniform(1.2, 3.5, n)
    return _series(
        rng, world, world.members(rng, start_s), start_s, counts, gap_s=7 * _HOUR_S, names=names, factor=factor
    )


def _trials(rng: Rng, world: World) -> Events:
    """A shop's trial offer: in two days many customers pay it almost nothing for the first time."""
    start_s = _starts(rng, world, _TRIALS)
    n = len(start_s)
    outlet = world.places.explore(rng, _kinds(rng, ("digital", "delivery", "charity"), n), np.zeros(n, dtype=np.int64))
    price = np.array([0.5, 0.99, 1.0, 1.49, 1.99, 2.0])[rng.integers(6, size=n)]
    offer, _ = spread(rng.poisson(_TRIAL_CUSTOMERS, n))
    at_s = start_s[offer] + rng.exponential(0.6 * DAY_S, len(offer))
    customer = world.members(rng, at_s)
    return legitimate(
        at_s=at_s,
        customer=customer,
        outlet=outlet[offer],
        terminal=world.places.till(rng, outlet[offer]),
        device=world.own_device(rng, customer, at_s, outlet[offer]),
        amount=price[offer],
    )


def _collections(rng: Rng, world: World) -> Events:
    """Colleagues pay one of them for a present or a journey."""
    start_s = _starts(rng, world, _COLLECTIONS)
    n = len(start_s)
    payee, each = rng.integers(len(world.people), size=n), np.rint(clipped_lognormal(rng, 22, 0.9, n, low=3, high=500))
    event, _ = spread(2 + rng.poisson(_COLLECTION_PAYERS, n))
    customer = rng.integers(len(world.people), size=len(event))
    at_s = start_s[event] + rng.exponential(0.7 * DAY_S, len(event))
    return _payments(rng, world, (customer, payee[event]), at_s, each[event])


def _passed_on(rng: Rng, world: World) -> Events:
    """What one gets from a friend one passes on within the day: rents, bills, tickets."""
    start_s = _starts(rng, world, _PASSED_ON)
    n = len(start_s)
    chain = rng.integers(len(world.people), size=(n, 3))
    amount = np.rint(clipped_lognormal(rng, 160, 1.0, n, low=5, high=3_000))
    later_s = start_s + clipped_lognormal(rng, 5 * _HOUR_S, 0.9, n, low=_MINUTE_S, high=4.0 * DAY_S)
    first = _payments(rng, world, (chain[:, 0], chain[:, 1]), start_s, amount)
    return concatenate([first, _payments(rng, world, (chain[:, 1], chain[:, 2]), later_s, amount)])


def _payments(rng: Rng, world: World, payer_payee: tuple[Ints, Ints], at_s: Floats, amount: Floats) -> Events:
    customer, payee = payer_payee
    outlet = world.people.wallet[payee]
    return legitimate(
        at_s=at_s,
        customer=customer,
        outlet=outlet,
        terminal=world.people.handle[payee],
        device=world.own_device(rng, customer, at_s, outlet),
        amount=amount,
    )


def _borrowed(rng: Rng, world: World) -> Events:
    """A purchase or two on the phone of a friend, or on one at the office."""
    start_s = _starts(rng, world, _BORROWED)
    n = len(start_s)
    names = ("marketplace", "delivery", "travel", "digital", "clothing_online", "transfers", "electronics_online")
    counts = 1 + rng.binomial(2, 0.25, n)
    customer = world.members(rng, start_s)
    bought = _series(
        rng, world, customer, start_s, counts, gap_s=15 * _MINUTE_S, names=names, factor=rng.uniform(0.8, 1.6, n)
    )
    lender = rng.integers(len(world.people), size=n)
    owner, _ = spread(counts)
    bought.device[:] = world.people.owns.phone_at(lender[owner], bought.at_s)
    return bought
