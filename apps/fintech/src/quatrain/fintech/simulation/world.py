"""All that stands still while transactions are made, and single purchases in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quatrain.fintech.simulation.calendar import DAY_S, Calendar, make_calendar
from quatrain.fintech.simulation.config import HardConfig
from quatrain.fintech.simulation.draw import Floats, Ints, Numbers, Rng
from quatrain.fintech.simulation.events import Events
from quatrain.fintech.simulation.people import N_FRIENDS, People, make_people
from quatrain.fintech.simulation.places import IS_ONLINE, KIND, Places, make_places
from quatrain.fintech.simulation.routines import Routines, make_routines

# A payment between people goes to the closest friend with this probability, else to the next one, ... (assumed).
_CLOSEST_SHARE = 0.55
# How often somebody else is looked for in place of one who has not joined yet; one in ten at most has not.
_ATTEMPTS = 6


@dataclass(frozen=True, kw_only=True)
class World:
    """The calendar, the shops, the people and their ways."""

    config: HardConfig
    calendar: Calendar
    places: Places
    people: People
    routines: Routines
    # Gives out the devices of those who come later, fraudsters among them.
    devices: Numbers

    @property
    def thousand_months(self) -> float:
        """How many times 1,000 customers and 30 days the span holds: the unit of the rates."""
        return len(self.people) / 1_000 * self.calendar.n_days / 30

    def within(self, events: Events) -> Events:
        """Return the events inside the span, of people who are customers by then."""
        day = events.at_s / DAY_S
        is_member = (day >= self.people.joined[events.customer]) & (day < self.people.left[events.customer])
        return events.take((events.at_s >= 0) & (events.at_s < self.calendar.span_s) & is_member)

    def members(self, rng: Rng, at_s: Floats) -> Ints:
        """Return one customer for each moment: somebody who is one by then, as likely as active."""
        day = at_s / DAY_S
        chance = self.people.activity / self.people.activity.sum()
        customer = rng.choice(len(self.people), len(at_s), p=chance)
        for _ in range(_ATTEMPTS):
            is_wrong = (day < self.people.joined[customer]) | (day >= self.people.left[customer])
            customer[is_wrong] = rng.choice(len(self.people), int(is_wrong.sum()), p=chance)
        return customer

    def shop(
        self, rng: Rng, customer: Ints, at_s: Floats, kind: Ints, *, region: Ints | None = None
    ) -> tuple[Ints, Ints]:
        """Return (outlet, terminal) by popularity where each customer is, or in `region`; friends for transfers."""
        if region is None:
            day = np.clip(at_s / DAY_S, 0, self.calendar.n_days - 1).astype(np.int64)
            region = self.people.region_on(customer, day)
        outlet = self.places.explore(rng, kind, region)
        terminal = self.places.till(rng, outlet)
        is_transfer = kind == KIND["transfers"]
        outlet[is_transfer], terminal[is_transfer] = self.to_friends(rng, customer[is_transfer])
        return outlet, terminal

    def to_friends(self, rng: Rng, customer: Ints) -> tuple[Ints, Ints]:
        """Return (outlet, terminal) of somebody whom each customer pays now and then."""
        rank = np.minimum(rng.geometric(_CLOSEST_SHARE, len(customer)) - 1, N_FRIENDS - 1)
        friend = self.people.friends[customer, rank]
        return self.people.wallet[friend], self.people.handle[friend]

    def own_device(self, rng: Rng, customer: Ints, at_s: Floats, outlet: Ints) -> Ints:
        """Return what each customer pays with there."""
        is_online = IS_ONLINE[self.places.kind[outlet]]
        return self.people.owns.choose(rng, customer, at_s, is_online, unknown=self.config.unknown_device_share)


def make_world(rng: Rng, config: HardConfig) -> World:
    """Return a world without transactions."""
    calendar, places, devices = make_calendar(config), make_places(rng, config), Numbers()
    people = make_people(rng, config, calendar, places, devices)
    return World(
        config=config,
        calendar=calendar,
        places=places,
        people=people,
        routines=make_routines(rng, people),
        devices=devices,
    )
