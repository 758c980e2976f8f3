"""Card testing: stolen numbers tried with tiny amounts at a few shops, the good ones then used for large ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quatrain.fintech.simulation import drift
from quatrain.fintech.simulation.crews import Crews, fraud, hidden, kinds_of
from quatrain.fintech.simulation.draw import Bools, Floats, Ints, Rng, clipped_lognormal, running_sum, spread
from quatrain.fintech.simulation.events import BURST, CARD_TESTING, DISTRIBUTED, Events
from quatrain.fintech.simulation.world import World

_HOUR_S = 3_600.0
_DAY_S = 24 * _HOUR_S
# All numbers below are assumed. Cards per campaign: median, spread of the logarithm, and bounds.
_CARDS, _CARDS_SIGMA, _CARDS_LEAST, _CARDS_MOST = 14.0, 0.9, 3, 300
_NEW_SHARE = 0.5
# A burst takes hours, a distributed campaign days.
_BURST_H, _DISTRIBUTED_H = 2.5, 60.0
_CARDS_PER_DEVICE, _CARDS_PER_DEVICE_NEW = 20, 2
# Share of cards that turn out good, and hours until they are used.
_GOOD_SHARE = 0.35
_WAIT_H, _WAIT_SIGMA = 14.0, 1.1
_SAME_DEVICE_SHARE = 0.4
# From one purchase to the next the amounts rise by about this factor.
_STEP_UP = 1.3
_SOLD_ON = ("gift_cards", "gift_cards", "electronics_online", "marketplace", "clothing_online", "travel")


@dataclass(frozen=True, kw_only=True)
class _Cards:
    """Tested cards; arrays have one entry per card."""

    customer: Ints
    at_s: Floats
    crew: Ints
    is_distributed: Bools
    device: Ints
    # Two shops of the campaign, where it keeps to few.
    shops: Ints
    case: Ints
    campaign: Ints


def card_testing(rng: Rng, world: World, crews: Crews) -> list[Events]:
    """Return the tests and what follows them."""
    cards = _cards(rng, world, crews)
    owner, place = spread(1 + rng.binomial(2, 0.35, len(cards.customer)))
    gap_s = np.where(cards.is_distributed, 5 * _HOUR_S, 50.0)[owner] * np.exp(rng.standard_normal(len(owner)))
    at_s = cards.at_s[owner] + running_sum(gap_s, place)
    few = cards.shops[owner, rng.integers(cards.shops.shape[1], size=len(owner))]
    names = ("digital", "digital", "delivery", "charity", "marketplace")
    anywhere = world.places.explore(rng, kinds_of(rng, names, len(owner)), np.zeros(len(owner), dtype=np.int64))
    outlet = np.where(cards.is_distributed[owner], anywhere, few)
    usual = world.places.price(rng, outlet, np.full(len(owner), 0.7))
    tiny = world.places.tag(rng, outlet, rng.uniform(0.5, 3.5, len(owner)))
    tests = fraud(
        at_s=at_s,
        customer=cards.customer[owner],
        place=(outlet, world.places.till(rng, outlet)),
        device=hidden(rng, cards.device[owner]),
        amount=np.where(cards.is_distributed[owner], usual, tiny),
        kind=CARD_TESTING,
        tactic=np.where(cards.is_distributed[owner], DISTRIBUTED, BURST),
        case=cards.case[owner],
        campaign=cards.campaign[owner],
    )
    last_s = at_s[np.flatnonzero(np.append(place[1:] == 0, True))] if len(owner) else cards.at_s
    return [tests, _cash_out(rng, world, crews, cards, last_s)]


def _cards(rng: Rng, world: World, crews: Crews) -> _Cards:
    """Return every tested card with its campaign's ways."""
    sizes = _campaign_sizes(rng, int(rng.poisson(world.config.tested_cards * world.thousand_months)))
    n = len(sizes)
    start_s = drift.starts(rng, world, CARD_TESTING, n)
    crew, is_new = crews.at_work(rng, start_s), drift.is_new(rng, world, start_s, share=_NEW_SHARE)
    shops = crews.shop(rng, world, np.repeat(crew, 2), kinds_of(rng, ("digital", "digital", "charity"), 2 * n))[0]
    campaign, place = spread(sizes)
    hours = np.where(is_new, _DISTRIBUTED_H, _BURST_H)[campaign]
    per_device = np.where(is_new, _CARDS_PER_DEVICE_NEW, _CARDS_PER_DEVICE)
    n_devices = -(-sizes // per_device)
    first_device = world.devices.next + np.cumsum(n_devices) - n_devices
    world.devices.issue(int(n_devices.sum()))
    at_s = start_s[campaign] + hours * _HOUR_S * rng.beta(1.2, 1.8, len(campaign))
    return _Cards(
        customer=world.members(rng, at_s),
        at_s=at_s,
        crew=crew[campaign],
        is_distributed=is_new[campaign],
        device=first_device[campaign] + place // per_device[campaign],
        shops=shops.reshape(n, 2)[campaign],
        case=crews.cases.issue(len(campaign)),
        campaign=crews.campaigns.issue(n)[campaign],
    )


def _campaign_sizes(rng: Rng, n_cards: int) -> Ints:
    """Return the numbers of cards of campaigns that test so many together."""
    most = n_cards // _CARDS_LEAST + 1
    drawn = clipped_lognormal(rng, _CARDS, _CARDS_SIGMA, most, low=_CARDS_LEAST, high=_CARDS_MOST).astype(np.int64)
    edges = np.minimum(np.cumsum(drawn), n_cards)
    sizes = np.diff(edges, prepend=0)
    return sizes[sizes > 0]


def _cash_out(rng: Rng, world: World, crews: Crews, cards: _Cards, last_s: Floats) -> Events:
    """Return what good cards are used for, hours or days after their last test."""
    good = np.flatnonzero(rng.random(len(last_s)) < _GOOD_SHARE)
    wait_s = clipped_lognormal(rng, _WAIT_H * _HOUR_S, _WAIT_SIGMA, len(good), low=120, high=14 * _DAY_S)
    device = np.where(rng.random(len(good)) < _SAME_DEVICE_SHARE, cards.device[good], world.devices.issue(len(good)))
    owner, place = spread(rng.geometric(0.5, len(good)).clip(max=5))
    row = good[owner]
    gaps_s = np.where(place == 0, wait_s[owner], 0) + 25 * 60 * np.exp(rng.standard_normal(len(owner)))
    at_s = last_s[row] + running_sum(gaps_s, place)
    spot = crews.shop(rng, world, cards.crew[row], kinds_of(rng, _SOLD_ON, len(owner)))
    amount = world.places.price(rng, spot[0], world.people.wealth[cards.customer[row]])
    amount = amount * _STEP_UP**place * 1.3 * drift.daring(world, at_s)
    return fraud(
        at_s=at_s,
        customer=cards.customer[row],
        place=spot,
        device=hidden(rng, device[owner]),
        amount=world.places.tag(rng, spot[0], amount),
        kind=CARD_TESTING,
        tactic=np.where(cards.is_distributed[row], DISTRIBUTED, BURST),
        case=cards.case[row],
        campaign=cards.campaign[row],
    )
