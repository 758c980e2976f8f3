"""Merchant compromise: cards read at one shop over days are misused elsewhere weeks later."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quatrain.fintech.simulation import drift
from quatrain.fintech.simulation.crews import Crews, fraud, hidden, kinds_of
from quatrain.fintech.simulation.draw import Floats, Ints, Rng, clipped_lognormal, running_sum, spread
from quatrain.fintech.simulation.events import CLONE, COMPROMISE, NOT_PRESENT, WALLET, Events
from quatrain.fintech.simulation.world import World

_HOUR_S = 3_600.0
_DAY_S = 24 * _HOUR_S
# All numbers below are assumed. Cards sold per compromise: median and spread of the logarithm; the share of those
# read that is sold at all.
_CARDS, _CARDS_SIGMA, _CARDS_MOST = 18.0, 0.7, 150
_SOLD_SHARE = 0.4
# Of so many shops the busiest is read out.
_SHOPS_SEEN = 4
# Days for which a shop is read out, and from its end to the sale of the numbers.
_READ_DAYS = (5.0, 20.0)
_SALE_DAYS, _SALE_SIGMA, _SALE_MOST = 11.0, 0.6, 60.0
# Mean days from the sale to a card's use.
_USE_DAYS = 5.0
_CLONE_SHARE = 0.45
_NEW_SHARE = 0.4
_CARDS_PER_DEVICE = 4
_GAP_MIN = 35.0
_CLONE_SPENT_ON = ("fuel", "groceries", "clothing", "electronics", "electronics", "cash", "jewellery", "pharmacy")
_NOT_PRESENT_SPENT_ON = ("electronics_online", "clothing_online", "marketplace", "gift_cards", "delivery", "travel")


@dataclass(frozen=True, kw_only=True)
class _Misuses:
    """Misused cards; arrays have one entry per card."""

    customer: Ints
    at_s: Floats
    campaign: Ints


def merchant_compromise(rng: Rng, world: World, crews: Crews, bought: Events) -> list[Events]:
    """Return the misuse of cards that were read where `bought` (all other purchases) shows them."""
    cards = _read_out(rng, world, crews, bought)
    n = len(cards.customer)
    crew = crews.at_work(rng, cards.at_s)
    is_new = drift.is_new(rng, world, cards.at_s, share=_NEW_SHARE)
    tactic = np.where(is_new, WALLET, np.where(rng.random(n) < _CLONE_SHARE, CLONE, NOT_PRESENT))
    # Clones are used in opening hours, numbers at any.
    day_s = np.floor(cards.at_s / _DAY_S) * _DAY_S
    open_s = day_s + np.clip(rng.normal(15.5, 3.0, n), 7, 23) * _HOUR_S
    start_s = np.where(tactic == NOT_PRESENT, cards.at_s, open_s)
    owner, place = spread(rng.geometric(0.42, n).clip(max=6))
    at_s = start_s[owner] + running_sum(_GAP_MIN * 60 * np.exp(rng.standard_normal(len(owner))), place)
    customer = cards.customer[owner]
    spot = _places(rng, world, crews, customer=customer, crew=crew[owner], tactic=tactic[owner])
    amount = world.places.price(rng, spot[0], world.people.wealth[customer])
    amount = amount * rng.uniform(0.9, 2.2, n)[owner] * drift.daring(world, at_s)
    events = fraud(
        at_s=at_s,
        customer=customer,
        place=spot,
        device=_devices(rng, world, cards.customer, crew, tactic)[owner],
        amount=world.places.tag(rng, spot[0], amount),
        kind=COMPROMISE,
        tactic=tactic[owner],
        case=crews.cases.issue(n)[owner],
        campaign=cards.campaign[owner],
    )
    return [events]


def _read_out(rng: Rng, world: World, crews: Crews, bought: Events) -> _Misuses:
    """Return the cards and when each is used first; compromises follow until the configured number of cards is sold."""
    span_s = float(world.calendar.span_s)
    # Numbers sold before the file begins are still used in it.
    before_s = 4 * _USE_DAYS * _DAY_S
    expected = world.config.compromised_cards * world.thousand_months * (1 + before_s / span_s)
    wanted = int(rng.poisson(expected))
    # One card each is the least, so that these are enough.
    sold_s = drift.starts(rng, world, COMPROMISE, wanted)
    is_before = rng.random(wanted) < before_s / (span_s + before_s)
    sold_s = np.where(is_before, -before_s * rng.random(wanted), sold_s)
    most_s = _SALE_MOST * _DAY_S
    until_s = sold_s - clipped_lognormal(rng, _SALE_DAYS * _DAY_S, _SALE_SIGMA, wanted, low=_DAY_S, high=most_s)
    from_s = until_s - rng.uniform(*_READ_DAYS, wanted) * _DAY_S
    size = clipped_lognormal(rng, _CARDS, _CARDS_SIGMA, wanted, low=1, high=_CARDS_MOST).astype(np.int64)
    order = np.argsort(bought.at_s)
    past_s = bought.at_s[order]
    found: list[Ints] = []
    n_sold = 0
    while n_sold < wanted:
        place = len(found)
        most = min(int(size[place]), wanted - n_sold)
        low, high = np.searchsorted(past_s, [from_s[place], until_s[place]])
        # Before the file begins nobody knows who bought where.
        is_seen = from_s[place] >= 0 and low < high
        found.append(
            _read_cards(rng, bought, order[low:high], most)
            if is_seen
            else world.members(rng, np.full(most, sold_s[place]))
        )
        n_sold += len(found[-1])
    sizes = [len(cards) for cards in found]
    customer = np.concatenate([*found, np.zeros(0, dtype=np.int64)])
    use_s = np.repeat(sold_s[: len(found)], sizes) + rng.exponential(_USE_DAYS * _DAY_S, len(customer))
    is_inside = (use_s >= 0) & (use_s < span_s)
    campaign = np.repeat(crews.campaigns.issue(len(found)), sizes)
    return _Misuses(customer=customer[is_inside], at_s=use_s[is_inside], campaign=campaign[is_inside])


def _read_cards(rng: Rng, bought: Events, rows: Ints, most: int) -> Ints:
    """Return the customers whose cards are sold after a shop was read out in the time of those rows."""
    outlet = bought.outlet[rows]
    seen = outlet[rng.integers(len(rows), size=_SHOPS_SEEN)]
    busiest = max(seen.tolist(), key=lambda shop: np.count_nonzero(outlet == shop))
    read = np.unique(bought.customer[rows[outlet == busiest]])
    return rng.choice(read, min(most, max(int(_SOLD_SHARE * len(read)), 1)), replace=False)


def _places(rng: Rng, world: World, crews: Crews, *, customer: Ints, crew: Ints, tactic: Ints) -> tuple[Ints, Ints]:
    """Return (outlet, terminal): the crew's region for clones, the victim's for wallets, online otherwise."""
    n = len(customer)
    away = crews.shop(rng, world, crew, kinds_of(rng, _CLONE_SPENT_ON, n))
    online = crews.shop(rng, world, crew, kinds_of(rng, _NOT_PRESENT_SPENT_ON, n))
    home = world.places.explore(rng, kinds_of(rng, _CLONE_SPENT_ON, n), world.people.region[customer])
    home_terminal = world.places.till(rng, home)
    is_clone, is_wallet = tactic == CLONE, tactic == WALLET
    return (
        np.where(is_clone, away[0], np.where(is_wallet, home, online[0])),
        np.where(is_clone, away[1], np.where(is_wallet, home_terminal, online[1])),
    )


def _devices(rng: Rng, world: World, customer: Ints, crew: Ints, tactic: Ints) -> Ints:
    """Return each card's device: a clone shows the victim's card, the rest one that few victims share."""
    order = np.lexsort((np.arange(len(crew)), crew))
    device = np.empty(len(crew), dtype=np.int64)
    device[order] = world.devices.next + np.arange(len(crew)) // _CARDS_PER_DEVICE
    world.devices.issue(len(crew) // _CARDS_PER_DEVICE + 1)
    shown = np.where(tactic == NOT_PRESENT, hidden(rng, device), device)
    return np.where(tactic == CLONE, world.people.owns.card(rng, customer), shown)
