"""Fraud without a crew: the finder of a lost card, customers who vanish with a debt, customers who deny a purchase."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from quatrain.fintech.simulation import drift
from quatrain.fintech.simulation.crews import Crews, fraud, is_online, kinds_of
from quatrain.fintech.simulation.draw import Rng, running_sum, spread
from quatrain.fintech.simulation.events import BUST_OUT, CONTACTLESS, FIRST_PARTY, FRIENDLY, LOST_CARD, Events
from quatrain.fintech.simulation.world import World

_HOUR_S = 3_600.0
# Without the PIN a card pays at most 50, five times in a row (EU 2018/389, article 11).
_CONTACTLESS_MOST, _CONTACTLESS_TIMES = 50.0, 5
# The rest is assumed.
_FILLED_SHARE = 0.5
_FOUND_SPENT_ON = ("groceries", "groceries", "fuel", "pharmacy", "coffee", "restaurant", "leisure", "transit")
_DEBT_SPENT_ON = ("electronics_online", "electronics", "jewellery", "gift_cards", "travel", "marketplace", "transfers")
# Customers of at most so many days are this much likelier to vanish.
_NEW_DAYS, _NEW_FACTOR = 90.0, 8.0
_DENIED_LEAST = 25.0


def lost_cards(rng: Rng, world: World, crews: Crews) -> list[Events]:
    """Return what finders buy near by without a PIN in the hours after."""
    n = int(rng.poisson(world.config.lost_cards * world.thousand_months))
    start_s = drift.starts(rng, world, LOST_CARD, n)
    start_s = np.floor(start_s / (24 * _HOUR_S)) * 24 * _HOUR_S + rng.normal(16, 4, n) * _HOUR_S
    victim = world.members(rng, start_s)
    owner, place = spread(rng.integers(2, _CONTACTLESS_TIMES, size=n, endpoint=True))
    at_s = start_s[owner] + running_sum(30 * 60 * np.exp(rng.standard_normal(len(owner))), place)
    spot = world.shop(rng, victim[owner], at_s, kinds_of(rng, _FOUND_SPENT_ON, len(owner)))
    amount = world.places.price(rng, spot[0], np.ones(len(owner)))
    # Most baskets are filled up to the limit, and none goes over it.
    is_filled = (rng.random(len(owner)) < _FILLED_SHARE) | (amount > _CONTACTLESS_MOST)
    amount = np.where(is_filled, rng.uniform(20, _CONTACTLESS_MOST, len(owner)), amount)
    events = fraud(
        at_s=at_s,
        customer=victim[owner],
        place=spot,
        device=world.people.owns.card(rng, victim)[owner],
        amount=np.minimum(world.places.tag(rng, spot[0], amount), _CONTACTLESS_MOST),
        kind=LOST_CARD,
        tactic=np.full(len(owner), CONTACTLESS),
        case=crews.cases.issue(n)[owner],
        campaign=crews.campaigns.issue(n)[owner],
    )
    return [events]


def bust_outs(rng: Rng, world: World, crews: Crews) -> list[Events]:
    """Return the last days of customers who buy up to their limit and never pay."""
    n = int(rng.poisson(world.config.bust_outs * world.thousand_months))
    start_s = drift.starts(rng, world, FIRST_PARTY, n)
    customer = np.empty(n, dtype=np.int64)
    for case in range(n):
        age = start_s[case] / (24 * _HOUR_S) - world.people.joined
        weight = np.where((age > 0) & (age < _NEW_DAYS) & (world.people.joined > 0), _NEW_FACTOR, 1.0) * (age > 0)
        customer[case] = rng.choice(len(weight), p=weight / weight.sum())
    owner, place = spread(3 + rng.poisson(3, n))
    gaps_s = 4 * _HOUR_S * np.exp(1.1 * rng.standard_normal(len(owner)))
    at_s = start_s[owner] + running_sum(gaps_s, place)
    spot = world.shop(rng, customer[owner], at_s, kinds_of(rng, _DEBT_SPENT_ON, len(owner)))
    amount = world.places.price(rng, spot[0], world.people.wealth[customer[owner]])
    amount = amount * (1.4 + 0.25 * place) * drift.daring(world, at_s)
    events = fraud(
        at_s=at_s,
        customer=customer[owner],
        place=spot,
        device=world.own_device(rng, customer[owner], at_s, spot[0]),
        amount=world.places.tag(rng, spot[0], amount),
        kind=FIRST_PARTY,
        tactic=np.full(len(owner), BUST_OUT),
        case=crews.cases.issue(n)[owner],
        campaign=crews.campaigns.issue(n)[owner],
    )
    return [events]


def with_denied(rng: Rng, world: World, crews: Crews, bought: Events) -> Events:
    """Return the honest transactions, some of which their own customers will deny: fraud that nothing shows."""
    n = int(rng.poisson(world.config.denied_purchases * world.thousand_months))
    candidates = np.flatnonzero((bought.amount >= _DENIED_LEAST) & is_online(world, bought.outlet) & (bought.kind == 0))
    if not n or not len(candidates):
        return bought
    # Those nearest to where the course of drift puts them; a purchase is denied once.
    candidates = candidates[np.argsort(bought.at_s[candidates], kind="stable")]
    wanted_s = drift.starts(rng, world, FIRST_PARTY, n)
    place = np.searchsorted(bought.at_s[candidates], wanted_s)
    rows = np.unique(candidates[np.minimum(place, len(candidates) - 1)])
    kind, tactic = bought.kind.copy(), bought.tactic.copy()
    case, campaign = bought.case.copy(), bought.campaign.copy()
    kind[rows], tactic[rows] = FIRST_PARTY, FRIENDLY
    case[rows], campaign[rows] = crews.cases.issue(len(rows)), crews.campaigns.issue(len(rows))
    return replace(bought, kind=kind, tactic=tactic, case=case, campaign=campaign)
