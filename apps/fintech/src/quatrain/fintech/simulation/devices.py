"""What customers pay with: cards, phones, laptops, a household's tablet; and how each is replaced."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quatrain.fintech.simulation.calendar import DAY_S, Calendar
from quatrain.fintech.simulation.config import HardConfig
from quatrain.fintech.simulation.draw import Bools, Floats, Ints, Numbers, Rng

# No customer has more cards.
N_CARDS = 3
# All of the shares below are assumed.
_MORE_CARDS_SHARE = 0.25
_FIRST_CARD_SHARE = 0.8
_SHARED_DEVICE_SHARE = 0.45
_LAPTOP_SHARE = 0.6
_PHONE_PAYERS_SHARE = 0.35
_PAY_BY_PHONE_SHARE = 0.6
# Online purchases made on a laptop, and on the household's device, by those who have one.
_ON_LAPTOP_SHARE, _ON_SHARED_SHARE = 0.35, 0.15
# Some browsers show the same fingerprint for everybody who uses them; so many people share one.
_BLURRED_SHARE = 0.03
_PEOPLE_PER_BLUR = 40


@dataclass(frozen=True, kw_only=True)
class Belongings:
    """The devices of every customer; arrays have one entry per customer unless they say otherwise."""

    # (customers, cards), numbered without gaps, and what replaces each; a customer has the first n_cards.
    cards: Ints
    next_cards: Ints
    n_cards: Ints
    phone: Ints
    next_phone: Ints
    # Seconds from the start at which the phone, and the cards, are replaced; infinite if never.
    phone_until_s: Floats
    card_until_s: Floats
    # -1 where there is none.
    laptop: Ints
    shared: Ints
    pays_by_phone: Bools

    def choose(self, rng: Rng, customer: Ints, at_s: Floats, is_online: Bools, *, unknown: float) -> Ints:
        """Return what each customer pays with: a card or the phone in a shop, any of their devices online.

        `unknown` is the share of online purchases that show none (-1).
        """
        choice = rng.random(customer.shape)
        phone = self.phone_at(customer, at_s)
        device = phone.copy()
        laptop, shared = self.laptop[customer], self.shared[customer]
        device = np.where((choice < _ON_LAPTOP_SHARE) & (laptop >= 0), laptop, device)
        device = np.where((choice > 1 - _ON_SHARED_SHARE) & (shared >= 0), shared, device)
        device[rng.random(customer.shape) < unknown] = -1
        by_phone = self.pays_by_phone[customer] & (choice < _PAY_BY_PHONE_SHARE)
        return np.where(is_online, device, np.where(by_phone, phone, self.card(rng, customer)))

    def phone_at(self, customer: Ints, at_s: Floats) -> Ints:
        """Return the phone that each customer has at a moment."""
        return np.where(at_s < self.phone_until_s[customer], self.phone[customer], self.next_phone[customer])

    def card(self, rng: Rng, customer: Ints) -> Ints:
        """Return one of each customer's cards, mostly the first, as it was before any replacement."""
        is_other = rng.random(customer.shape) > _FIRST_CARD_SHARE
        slot = np.where(is_other, np.floor(rng.random(customer.shape) * N_CARDS), 0).astype(np.int64)
        return self.cards[customer, np.minimum(slot, self.n_cards[customer] - 1)]

    def as_replaced(self, device: Ints, at_s: Floats, reported_at_s: Floats) -> Ints:
        """Return the devices with each card replaced that has run out, or whose owner had it blocked.

        `reported_at_s` is when each customer reported a fraud, infinite if never.
        """
        place = device - self.cards[0, 0]
        is_card = (place >= 0) & (place < self.cards.size)
        owner = np.where(is_card, place // N_CARDS, 0)
        until_s = np.minimum(self.card_until_s, reported_at_s)[owner]
        return np.where(is_card & (at_s >= until_s), device - self.cards[0, 0] + self.next_cards[0, 0], device)


def make_belongings(rng: Rng, config: HardConfig, calendar: Calendar, household: Ints, devices: Numbers) -> Belongings:
    """Return what every customer has; members of a household share a tablet."""
    n = config.customers
    shared_of_home = devices.issue(int(household.max()) + 1)
    has_shared = rng.random(len(shared_of_home)) < _SHARED_DEVICE_SHARE
    laptop = np.where(rng.random(n) < _LAPTOP_SHARE, devices.issue(n), -1)
    blurs = devices.issue(max(int(n * _BLURRED_SHARE) // _PEOPLE_PER_BLUR, 1))
    is_blurred = rng.random(n) < _BLURRED_SHARE
    laptop[is_blurred] = blurs[rng.integers(len(blurs), size=int(is_blurred.sum()))]
    return Belongings(
        cards=devices.issue(n * N_CARDS).reshape(n, N_CARDS),
        next_cards=devices.issue(n * N_CARDS).reshape(n, N_CARDS),
        n_cards=1 + rng.binomial(N_CARDS - 1, _MORE_CARDS_SHARE, n),
        phone=devices.issue(n),
        next_phone=devices.issue(n),
        phone_until_s=_replaced_at(rng, n, calendar, life_days=config.phone_life_days),
        card_until_s=_replaced_at(rng, n, calendar, life_days=config.card_life_days),
        laptop=laptop,
        shared=np.where(has_shared, shared_of_home, -1)[household],
        pays_by_phone=rng.random(n) < _PHONE_PAYERS_SHARE,
    )


def _replaced_at(rng: Rng, n: int, calendar: Calendar, *, life_days: float) -> Floats:
    """Return the second at which something of that mean life is replaced, infinite if after the span."""
    at_s = rng.exponential(life_days, n) * DAY_S
    return np.where(at_s < calendar.span_s, at_s, np.inf)
