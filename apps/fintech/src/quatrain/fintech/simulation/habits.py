"""The ordinary life of customers: routines, errands, evenings online, payments among friends, subscriptions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quatrain.fintech.simulation.calendar import DAY_S
from quatrain.fintech.simulation.draw import Bools, Floats, Ints, Rng, spread
from quatrain.fintech.simulation.events import Events, concatenate, legitimate
from quatrain.fintech.simulation.places import IS_ONLINE, KIND
from quatrain.fintech.simulation.routines import HOUR, HOUR_SD, MAX_STEPS, favourite_slots
from quatrain.fintech.simulation.world import World

_HOUR_S = 3_600.0
# All numbers below are assumed. A customer's weeks differ: gamma noise of this shape on the number of sittings.
_WEEK_SHAPE = 3.0
# Steps of a routine that are left out, and how punctual one is.
_SKIP_SHARE = 0.12
_PUNCTUAL_SD_H = 0.4
# An errand goes on after each purchase with this probability.
_GO_ON = 0.43
# Median minutes between two purchases of a sitting, in shops and online, with the logarithm's spread.
_GAP_MIN, _GAP_ONLINE_MIN, _GAP_SIGMA = 19.0, 6.0, 0.8
# Subscriptions per customer; charged between these hours, with no device, and changed in price now and then.
_SUBSCRIPTIONS = 2.2
_CHARGE_HOURS = (1.0, 7.0)
_NEW_PRICE_SHARE = 0.02


@dataclass(frozen=True, kw_only=True)
class _Sittings:
    """Each time that a customer goes out or online to buy; arrays have one entry per sitting."""

    customer: Ints
    day: Ints
    at_s: Floats
    is_away: Bools
    # -1 where it is no routine.
    routine: Ints
    length: Ints
    first: Ints


def ordinary(rng: Rng, world: World) -> Events:
    """Return the transactions of ordinary life, in no order."""
    sittings = _sit(rng, world)
    return world.within(concatenate([*_steps(rng, world, sittings), _subscriptions(rng, world)]))


def _sit(rng: Rng, world: World) -> _Sittings:
    people, calendar, routines, config = world.people, world.calendar, world.routines, world.config
    customer, day = _visits(rng, world)
    n = len(customer)
    archetype, is_weekend = people.archetype[customer], calendar.is_weekend[day].astype(np.int64)
    is_away = people.away[customer, day] >= 0
    is_routine = (rng.random(n) < config.routine_share) & ~is_away
    routine = np.where(is_routine, routines.choice.draw(rng, is_weekend), -1)
    occasion = routines.occasions.draw(rng, archetype * 2 + is_weekend)
    own_hour = routines.hour[customer, routine] + _PUNCTUAL_SD_H * rng.standard_normal(n)
    hour = np.where(is_routine, own_hour, HOUR[occasion] + HOUR_SD[occasion] * rng.standard_normal(n))
    errand = np.minimum(rng.geometric(1 - _GO_ON, n), MAX_STEPS)
    first = routines.first(rng, archetype, occasion)
    return _Sittings(
        customer=customer,
        day=day,
        at_s=day * float(DAY_S) + (hour + people.shift_h[customer]) % 24 * _HOUR_S,
        is_away=is_away,
        routine=routine,
        length=np.where(is_routine, routines.length[customer, routine], errand),
        first=np.where(is_routine, routines.kind[customer, routine, 0], first),
    )


def _visits(rng: Rng, world: World) -> tuple[Ints, Ints]:
    """Return (customer, day) of each sitting."""
    people, calendar = world.people, world.calendar
    n_weeks = -(-calendar.n_days // 7)
    week = rng.gamma(_WEEK_SHAPE, 1 / _WEEK_SHAPE, size=(len(people), n_weeks))
    daily = np.repeat(week, 7, axis=1)[:, : calendar.n_days] * calendar.weight * calendar.pay[people.pay_day]
    count = rng.poisson(daily * (world.config.sittings_per_day * people.activity)[:, None])
    cell = np.repeat(np.arange(count.size), count.ravel())
    return cell // calendar.n_days, cell % calendar.n_days


def _steps(rng: Rng, world: World, sittings: _Sittings) -> list[Events]:
    """Return the first purchases of all sittings, then the second ones, and so on."""
    people, routines = world.people, world.routines
    found = []
    live = np.arange(len(sittings.customer))
    kind, at_s = sittings.first, sittings.at_s.copy()
    for step in range(MAX_STEPS):
        live = live[sittings.length[live] > step]
        customer, routine = sittings.customer[live], sittings.routine[live]
        is_routine = routine >= 0
        place = min(step, routines.kind.shape[2] - 1)
        if step:
            following = routines.following(rng, people.archetype[customer], kind[live])
            kind[live] = np.where(is_routine, routines.kind[customer, routine, place], following)
            median_s = 60 * np.where(IS_ONLINE[kind[live]], _GAP_ONLINE_MIN, _GAP_MIN)
            at_s[live] += median_s * np.exp(_GAP_SIGMA * rng.standard_normal(len(live)))
        slot = np.where(is_routine, routines.favourite[customer, routine, place], favourite_slots(rng, len(live)))
        is_done = ~is_routine | (rng.random(len(live)) > _SKIP_SHARE)
        rows = live[is_done]
        found.append(
            _purchases(
                rng,
                world,
                customer=customer[is_done],
                day=sittings.day[rows],
                at_s=at_s[rows],
                kind=kind[rows],
                slot=slot[is_done],
                is_usual=is_routine[is_done],
                is_away=sittings.is_away[rows],
            )
        )
    return found


def _purchases(
    rng: Rng,
    world: World,
    *,
    customer: Ints,
    day: Ints,
    at_s: Floats,
    kind: Ints,
    slot: Ints,
    is_usual: Bools,
    is_away: Bools,
) -> Events:
    people, places, config = world.people, world.places, world.config
    n = len(customer)
    is_online = IS_ONLINE[kind]
    is_usual = (is_usual | (rng.random(n) < config.habit_share)) & ~(is_away & ~is_online)
    outlet = places.explore(rng, kind, people.region_on(customer, day))
    outlet = np.where(is_usual, people.favourites[customer, kind, slot], outlet)
    terminal = places.till(rng, outlet)
    is_transfer = kind == KIND["transfers"]
    outlet[is_transfer], terminal[is_transfer] = world.to_friends(rng, customer[is_transfer])
    return legitimate(
        at_s=at_s,
        customer=customer,
        outlet=outlet,
        terminal=terminal,
        device=people.owns.choose(rng, customer, at_s, is_online, unknown=config.unknown_device_share),
        amount=places.price(rng, outlet, people.wealth[customer]),
    )


def _subscriptions(rng: Rng, world: World) -> Events:
    """Return the monthly charges of each customer: same shop, same amount, same day of the month, at night."""
    people, places, calendar = world.people, world.places, world.calendar
    owner, _ = spread(rng.poisson(_SUBSCRIPTIONS, len(people)))
    kinds = np.array([KIND["digital"], KIND["digital"], KIND["bills"], KIND["bills"], KIND["delivery"]])
    outlet = places.explore(rng, kinds[rng.integers(len(kinds), size=len(owner))], people.region[owner])
    terminal = places.till(rng, outlet)
    price = places.price(rng, outlet, people.wealth[owner])
    month_day = rng.integers(1, 29, size=len(owner))
    charged, day = np.nonzero(month_day[:, None] == calendar.month_day)
    amount = price[charged]
    is_new = rng.random(len(charged)) < _NEW_PRICE_SHARE
    amount[is_new] = places.price(rng, outlet[charged[is_new]], people.wealth[owner[charged[is_new]]])
    return legitimate(
        at_s=day * float(DAY_S) + rng.uniform(*_CHARGE_HOURS, len(charged)) * _HOUR_S,
        customer=owner[charged],
        outlet=outlet[charged],
        terminal=terminal[charged],
        device=np.full(len(charged), -1),
        amount=amount,
    )
