"""Who pays: households, wealth, hours, usual shops, friends, and journeys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quatrain.fintech.simulation.calendar import PAY_DAYS, Calendar
from quatrain.fintech.simulation.config import HardConfig
from quatrain.fintech.simulation.devices import Belongings, make_belongings
from quatrain.fintech.simulation.draw import Floats, Ints, Numbers, Rng, clipped_lognormal, spread
from quatrain.fintech.simulation.places import KINDS, Places

# People whose days look alike; see routines.py.
N_ARCHETYPES = 24
N_FAVOURITES = 4
N_FRIENDS = 6
# Activity and wealth are log-normal: some customers pay ten times as often as others (assumed, as all below).
_ACTIVITY_SIGMA = 0.65
_WEALTH_SIGMA = 0.5
# People differ by this many hours; some work at night and live so many hours later.
_CHRONOTYPE_SD_H = 1.3
_NIGHT_SHARE = 0.05
_NIGHT_SHIFT_H = 9.0
# Of one, two, ... members.
_HOUSEHOLD_SIZES = np.array([0.38, 0.32, 0.13, 0.12, 0.05])
# Payments between people that go to popular payees: clubs, landlords; one customer in a hundred is one.
_POPULAR_SHARE, _PEOPLE_PER_POPULAR = 0.25, 100
_LEAVE_PER_YEAR = 0.05
_TRIP_MEDIAN_DAYS, _TRIP_SIGMA = 4.0, 0.7


@dataclass(frozen=True, kw_only=True)
class People:
    """Every customer; arrays have one entry per customer unless they say otherwise."""

    household: Ints
    region: Ints
    archetype: Ints
    # Sittings relative to the average customer, and spending around 1.
    activity: Floats
    wealth: Floats
    # Hours by which a customer's day is later than the usual one.
    shift_h: Floats
    # Index into PAY_DAYS.
    pay_day: Ints
    # The days between which the customer is one.
    joined: Floats
    left: Floats
    # (customers, kinds, favourites): usual outlets.
    favourites: Ints
    # (customers, friends): whom the customer pays.
    friends: Ints
    # The outlet of the wallet, and the terminal in it, on which a customer is paid.
    wallet: Ints
    handle: Ints
    # (customers, days): the region of a journey, -1 at home.
    away: NDArray[np.int16]
    owns: Belongings

    def __len__(self) -> int:
        """Return the number of customers."""
        return len(self.region)

    def region_on(self, customer: Ints, day: Ints) -> Ints:
        """Return where each customer is on a day."""
        away = self.away[customer, day].astype(np.int64)
        return np.where(away >= 0, away, self.region[customer])


def make_people(rng: Rng, config: HardConfig, calendar: Calendar, places: Places, devices: Numbers) -> People:
    """Return the customers of a world."""
    n = config.customers
    household = _households(rng, n)
    region = rng.choice(places.n_regions, n, p=places.region_share)[household]
    activity = np.exp(_ACTIVITY_SIGMA * rng.standard_normal(n))
    joined, left = _membership(rng, config)
    each_kind = np.broadcast_to(np.arange(len(KINDS))[:, None], (n, len(KINDS), N_FAVOURITES))
    return People(
        household=household,
        region=region,
        archetype=rng.integers(N_ARCHETYPES, size=n),
        activity=activity / activity.mean(),
        wealth=np.exp(_WEALTH_SIGMA * rng.standard_normal(n)),
        shift_h=_CHRONOTYPE_SD_H * rng.standard_normal(n) + _NIGHT_SHIFT_H * (rng.random(n) < _NIGHT_SHARE),
        pay_day=rng.integers(len(PAY_DAYS), size=n),
        joined=joined,
        left=left,
        favourites=places.explore(rng, each_kind, np.broadcast_to(region[:, None, None], each_kind.shape)),
        friends=_friends(rng, n),
        wallet=places.wallets[rng.integers(len(places.wallets), size=n)],
        # People's own handles are numbered after the shops' tills.
        handle=places.n_tills + np.arange(n),
        away=_journeys(rng, config, calendar, places),
        owns=make_belongings(rng, config, calendar, household, devices),
    )


def _households(rng: Rng, n: int) -> Ints:
    """Return the household of each customer; its members are not neighbours in number."""
    member, _ = spread(1 + rng.choice(len(_HOUSEHOLD_SIZES), n, p=_HOUSEHOLD_SIZES))
    return rng.permutation(member[:n])


def _membership(rng: Rng, config: HardConfig) -> tuple[Floats, Floats]:
    """Return the days on which customers join and leave; most were there before and stay."""
    n = config.customers
    comes = rng.random(n) < 1 - (1 + config.growth_per_year) ** (-config.days / 365)
    joined = np.where(comes, rng.uniform(0, config.days, n), 0.0)
    return joined, joined + rng.exponential(365 / _LEAVE_PER_YEAR, n)


def _friends(rng: Rng, n: int) -> Ints:
    friends = rng.integers(n, size=(n, N_FRIENDS))
    popular = rng.integers(n, size=max(n // _PEOPLE_PER_POPULAR, 1))
    is_popular = rng.random((n, N_FRIENDS)) < _POPULAR_SHARE
    friends[is_popular] = popular[rng.integers(len(popular), size=int(is_popular.sum()))]
    return friends


def _journeys(rng: Rng, config: HardConfig, calendar: Calendar, places: Places) -> NDArray[np.int16]:
    n_trips = rng.poisson(config.trips_per_year * config.days / 365, config.customers)
    owner, _ = spread(n_trips)
    first = rng.integers(calendar.n_days, size=len(owner))
    region = rng.choice(places.n_regions, len(owner), p=places.region_share)
    length = clipped_lognormal(rng, _TRIP_MEDIAN_DAYS, _TRIP_SIGMA, len(owner), low=1, high=30).astype(np.int64)
    trip, place = spread(length)
    day = first[trip] + place
    trip, day = trip[day < calendar.n_days], day[day < calendar.n_days]
    away = np.full((config.customers, calendar.n_days), -1, dtype=np.int16)
    away[owner[trip], day] = region[trip]
    return away
