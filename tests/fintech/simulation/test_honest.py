"""Honest life: heavy tails, routines with an order of their own, growth, and oddities that look like fraud."""

from __future__ import annotations

import numpy as np
import pytest

from quatrain.fintech.simulation import lookalikes
from quatrain.fintech.simulation.calendar import DAY_S
from quatrain.fintech.simulation.config import HardConfig
from quatrain.fintech.simulation.draw import Ints
from quatrain.fintech.simulation.events import Events
from quatrain.fintech.simulation.habits import ordinary
from quatrain.fintech.simulation.lookalikes import honest_oddities
from quatrain.fintech.simulation.places import IS_ONLINE, KINDS
from quatrain.fintech.simulation.world import World, make_world

CONFIG = HardConfig(customers=2_000, merchants=800, days=100)
STORIES = (
    "_new_phones",
    "_sprees",
    "_first_orders",
    "_wallet_set_ups",
    "_gifts",
    "_removals",
    "_trials",
    "_collections",
    "_passed_on",
    "_borrowed",
)


@pytest.fixture(scope="module")
def world() -> World:
    """Return a world of people and shops."""
    return make_world(np.random.default_rng(1), CONFIG)


@pytest.fixture(scope="module")
def life(world: World) -> Events:
    """Return its ordinary transactions in the order of customer and time."""
    events = ordinary(np.random.default_rng(2), world)
    return events.take(np.lexsort((events.at_s, events.customer)))


def repeated_pairs(customer: Ints, outlet: Ints) -> float:
    """Return the share of steps from shop to shop that the same customer made more than once."""
    is_step = customer[1:] == customer[:-1]
    step = np.stack([customer[1:], outlet[:-1], outlet[1:]])[:, is_step]
    _, place, count = np.unique(step, axis=1, return_inverse=True, return_counts=True)
    return float((count[place.ravel()] > 1).mean())


def test_shops_follow_one_another_in_an_order_of_the_customers_own(life: Events, world: World) -> None:
    """Steps between two shops recur far more often than in shuffled purchases, or without routines."""
    rng = np.random.default_rng(0)
    shuffled = np.lexsort((rng.random(len(life)), life.customer))
    in_order = repeated_pairs(life.customer, life.outlet)
    assert in_order > 1.2 * repeated_pairs(life.customer, life.outlet[shuffled])
    free = World(**(vars(world) | {"config": CONFIG.model_copy(update={"routine_share": 0.0})}))
    other = ordinary(np.random.default_rng(2), free)
    other = other.take(np.lexsort((other.at_s, other.customer)))
    assert in_order > 1.2 * repeated_pairs(other.customer, other.outlet)


def test_activity_and_amounts_have_heavy_tails(life: Events) -> None:
    """The busiest customers buy over three times as often as the median, and the dearest rows are far above it."""
    counts = np.bincount(life.customer, minlength=CONFIG.customers)
    assert np.quantile(counts, 0.99) > 3 * np.median(counts)
    assert np.quantile(life.amount, 0.9999) > 50 * np.median(life.amount)
    assert life.amount.max() <= 25_000


def test_prices_have_the_median_and_spread_of_their_kind(world: World) -> None:
    """Over one kind's outlets and equal customers: the table's median, and its sigma with that of the price levels."""
    rng = np.random.default_rng(3)
    for name in ("groceries", "clothing_online", "travel"):
        code = [kind.name for kind in KINDS].index(name)
        outlet = np.flatnonzero(world.places.kind == code)
        many = np.repeat(outlet, 40_000 // len(outlet))
        price = np.log(world.places.price(rng, many, np.ones(len(many))))
        level = world.places.level[outlet]
        assert np.median(price) == pytest.approx(np.median(level), abs=0.1)
        quartiles = np.subtract(*np.quantile(price, [0.75, 0.25])) / (2 * 0.6745)
        assert quartiles == pytest.approx(np.hypot(KINDS[code].sigma, level.std()), rel=0.1)


def test_people_are_where_their_shops_are(life: Events, world: World) -> None:
    """Outside journeys, present purchases lie in the home region."""
    region = world.places.region[life.outlet]
    is_present = ~IS_ONLINE[world.places.kind[life.outlet]]
    day = (life.at_s // DAY_S).astype(np.int64)
    # An evening out may end after midnight, on the first day of a journey.
    at_home = (world.people.away[life.customer, day] < 0) & (
        world.people.away[life.customer, np.maximum(day - 1, 0)] < 0
    )
    rows = is_present & at_home
    assert (region[rows] == world.people.region[life.customer[rows]]).all()
    assert (region[is_present & ~at_home] != world.people.region[life.customer[is_present & ~at_home]]).mean() > 0.5


def test_customers_join_over_the_span_and_buy_only_while_they_are_customers(life: Events, world: World) -> None:
    """The number of customers seen grows, and no row lies before joining or after leaving."""
    day = life.at_s / DAY_S
    assert (day >= world.people.joined[life.customer]).all()
    assert (day < world.people.left[life.customer]).all()
    grown = make_world(np.random.default_rng(1), CONFIG.model_copy(update={"growth_per_year": 1.0}))
    events = ordinary(np.random.default_rng(2), grown)
    first, last = (np.unique(events.customer[(events.at_s // (25 * DAY_S)) == part]).size for part in (0, 3))
    assert last > 1.1 * first


@pytest.mark.parametrize("story", STORIES)
def test_every_story_happens_and_is_honest(story: str, world: World) -> None:
    """Each yields rows, none of them a fraud."""
    events = getattr(lookalikes, story)(np.random.default_rng(5), world)
    assert len(events) > 0
    assert not events.kind.any()


def test_the_knob_turns_oddities_off_but_for_new_phones(world: World) -> None:
    """At 0 only what follows from the life of phones is left; at 2 there is about twice as much."""
    sizes = {}
    for factor in (0.0, 1.0, 2.0):
        changed = World(**(vars(world) | {"config": CONFIG.model_copy(update={"lookalikes": factor})}))
        sizes[factor] = len(honest_oddities(np.random.default_rng(5), changed))
    assert sizes[2.0] - sizes[0.0] == pytest.approx(2 * (sizes[1.0] - sizes[0.0]), rel=0.15)


def test_a_new_phone_is_bought_before_it_is_used(world: World) -> None:
    """Rows after the change may show the new phone, none before it."""
    events = lookalikes._new_phones(np.random.default_rng(5), world)
    is_new = np.isin(events.device, world.people.owns.next_phone)
    assert (events.at_s[is_new] >= world.people.owns.phone_until_s[events.customer[is_new]]).all()
    assert is_new.sum() > 50


def test_members_of_a_household_share_a_device(world: World) -> None:
    """Those who have one have the same as everybody in their household, and no other household's."""
    shared, household = world.people.owns.shared, world.people.household
    for device in np.unique(shared[shared >= 0])[:200]:
        assert len(np.unique(household[shared == device])) == 1
    several = np.bincount(household[shared >= 0])
    assert (several > 1).any()
