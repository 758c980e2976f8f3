"""Each type of fraud works by its own mechanism."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from quatrain.fintech.simulation import events as names
from quatrain.fintech.simulation.calendar import DAY_S
from quatrain.fintech.simulation.config import HardConfig
from quatrain.fintech.simulation.draw import Ints
from quatrain.fintech.simulation.events import Events
from quatrain.fintech.simulation.hard import HardSimulation, simulate_hard
from quatrain.fintech.simulation.places import IS_ONLINE, KIND

DAYS = 120


@pytest.fixture(scope="module")
def world() -> HardSimulation:
    """Return a world in which every type is frequent."""
    config = HardConfig(
        customers=2_500, merchants=800, days=DAYS, tested_cards=60, takeovers=30, compromised_cards=60, rings=4
    )
    return simulate_hard(config, seed=21)


def of_tactic(events: Events, tactic: int) -> Events:
    """Return the rows of one tactic, in time order."""
    return events.take(np.flatnonzero(events.tactic == tactic))


def groups(events: Events, key: Ints) -> Iterator[Events]:
    """Yield the rows of each case or campaign."""
    for one in np.unique(key):
        yield events.take(np.flatnonzero(key == one))


def test_card_testing_is_a_burst_of_tiny_amounts_at_two_shops_then_large_ones(world: HardSimulation) -> None:
    """Per campaign: hours, one or two shops, every card begins with a tiny amount, a third goes on to large ones."""
    tested = of_tactic(world.events, names.BURST)
    n_large = 0
    for campaign in groups(tested, tested.campaign):
        tests = campaign.take(np.flatnonzero(campaign.amount <= 10))
        cards = np.unique(campaign.customer)
        if len(cards) > 5:
            assert np.quantile(tests.at_s, 0.9) - tests.at_s.min() < 4 * 3_600
            assert len(np.unique(tests.outlet[np.argsort(tests.at_s)][: len(cards)])) <= 2
        for case in groups(campaign, campaign.case):
            # A shop that sells in steps of ten has nothing cheaper.
            assert case.amount[np.argmin(case.at_s)] <= 10
            n_large += bool((case.amount > 20).any())
    n_cards = len(np.unique(tested.case))
    assert n_large / n_cards == pytest.approx(0.33, abs=0.1)


def test_takeovers_come_from_a_device_that_nobody_used_and_amounts_rise(world: HardSimulation) -> None:
    """No honest row shows the new device; from a case's first to its last amount there is a rise in most cases."""
    events = world.events
    taken = of_tactic(events, names.NEW_DEVICE)
    honest = events.take(np.flatnonzero(events.kind == 0))
    assert not np.isin(taken.device[taken.device >= 0], honest.device).any()
    long = [case for case in groups(taken, taken.case) if len(case) >= 4]
    assert len(long) > 30
    assert np.mean([case.amount[-1] > case.amount[0] for case in long]) > 0.8
    assert np.median([np.ptp(case.at_s) for case in long]) < DAY_S
    own = of_tactic(events, names.OWN_DEVICE)
    assert np.mean(np.isin(own.device, honest.device)) > 0.9


def test_slow_takeovers_keep_to_the_victims_own_shops(world: HardSimulation) -> None:
    """Every row is at a usual outlet of the victim, and a case lasts for days."""
    slow = of_tactic(world.events, names.LOW_AND_SLOW)
    assert len(slow) > 20
    usual = world.world.people.favourites[slow.customer].reshape(len(slow), -1)
    assert (usual == slow.outlet[:, None]).any(axis=1).all()
    assert np.median([np.ptp(case.at_s) for case in groups(slow, slow.case)]) > 2 * DAY_S


def test_cards_of_a_compromise_have_one_shop_in_common_weeks_before(world: HardSimulation) -> None:
    """All of a campaign's customers bought at one outlet before the first misuse; random customers did not."""
    events, rng = world.events, np.random.default_rng(0)
    honest = events.take(np.flatnonzero(events.kind == 0))
    misused = events.take(np.flatnonzero(events.kind == names.COMPROMISE))

    def shared(customers: Ints, before_s: float) -> int:
        """Return the number of customers who visited the outlet that most of them visited."""
        rows = np.isin(honest.customer, customers) & (honest.at_s < before_s)
        visits = np.unique(np.stack([honest.outlet[rows], honest.customer[rows]]), axis=1)
        return int(np.unique(visits[0], return_counts=True)[1].max())

    n_checked = n_random = 0
    for campaign in groups(misused, misused.campaign):
        victims = np.unique(campaign.customer)
        # Early campaigns were read out before the file begins.
        if len(victims) < 8 or campaign.at_s.min() < 90 * DAY_S:
            continue
        n_checked += 1
        assert shared(victims, float(campaign.at_s.min())) == len(victims)
        n_random += shared(rng.permutation(2_500)[: len(victims)], float(campaign.at_s.min())) == len(victims)
    assert n_checked >= 3
    assert n_random < n_checked


def test_clones_show_the_victims_own_card_in_shops_and_stolen_numbers_a_foreign_device(world: HardSimulation) -> None:
    """Clones are present and on the victim's card; online misuse is on devices that several victims share."""
    people, places = world.world.people, world.world.places
    clones, online = of_tactic(world.events, names.CLONE), of_tactic(world.events, names.NOT_PRESENT)
    assert (people.owns.cards[clones.customer] == clones.device[:, None]).any(axis=1).all()
    assert not IS_ONLINE[places.kind[clones.outlet]].any()
    assert IS_ONLINE[places.kind[online.outlet]].all()
    assert not np.isin(online.device[online.device >= 0], clones.device).any()
    per_device = [len(np.unique(online.customer[online.device == one])) for one in np.unique(online.device) if one >= 0]
    assert np.mean(per_device) > 1.5


def test_rings_share_devices_and_pay_one_another(world: HardSimulation) -> None:
    """At most three devices, payments to members only, money gathered and passed on in falling amounts."""
    people = world.world.people
    shared = of_tactic(world.events, names.SHARED_DEVICES)
    payee = shared.terminal - people.handle[0]
    assert (world.world.places.kind[shared.outlet] == KIND["transfers"]).all()
    n_rings = 0
    for campaign in np.unique(shared.campaign):
        rows = shared.campaign == campaign
        n_rings += 1
        devices = shared.device[rows]
        assert len(np.unique(devices[devices >= 0])) <= 3
        # A member may only ever be paid, but who pays is a member, and nobody pays himself.
        assert (payee[rows] != shared.customer[rows]).all()
        assert len(np.unique(np.concatenate([payee[rows], shared.customer[rows]]))) <= 20
    assert n_rings > 10
    separate = of_tactic(world.events, names.SEPARATE_DEVICES)
    assert not np.isin(separate.device[separate.device >= 0], shared.device).any()


def test_finders_stay_within_what_a_card_pays_without_its_pin(world: HardSimulation) -> None:
    """At most 50 a time and five times (EU 2018/389, article 11), in shops, on the victim's card."""
    lost = of_tactic(world.events, names.CONTACTLESS)
    assert lost.amount.max() <= 50
    assert np.unique(lost.case, return_counts=True)[1].max() <= 5
    assert not IS_ONLINE[world.world.places.kind[lost.outlet]].any()
    assert (world.world.people.owns.cards[lost.customer] == lost.device[:, None]).any(axis=1).all()


def test_denied_purchases_are_honest_rows_but_for_the_claim() -> None:
    """Without the knob the same rows are there, and legitimate."""
    config = HardConfig(customers=400, merchants=200, days=40, denied_purchases=20)
    with_them = simulate_hard(config, seed=3).events
    without = simulate_hard(config.model_copy(update={"denied_purchases": 0}), seed=3).events
    denied = with_them.take(np.flatnonzero(with_them.tactic == names.FRIENDLY))
    assert len(denied) > 5
    honest = set(zip(without.at_s.tolist(), without.customer.tolist(), without.amount.tolist(), strict=True))
    assert set(zip(denied.at_s.tolist(), denied.customer.tolist(), denied.amount.tolist(), strict=True)) <= honest
