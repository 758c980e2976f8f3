"""What becomes of transactions: frauds reported late or never, honest ones denied, labels lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quatrain.fintech.simulation.calendar import DAY_S
from quatrain.fintech.simulation.config import HardConfig
from quatrain.fintech.simulation.crews import is_online
from quatrain.fintech.simulation.draw import Bools, Codes, Floats, Ints, Rng
from quatrain.fintech.simulation.events import FIRST_PARTY, FRAUD_TYPES, Events
from quatrain.fintech.simulation.world import World

# A reported customer's cards are replaced after so many days (assumed); one who vanished gets none.
_REPLACED_AFTER_DAYS = 1.5
# Card issuers and acquirers send labels in files; so many senders.
_N_SENDERS = 20
_ABUSED_LEAST = 20.0


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """The labels; arrays have one entry per transaction."""

    # What the file says, where it says anything.
    label: Bools
    is_labelled: Bools
    # When a fraud's label became known, in seconds since the start; infinite where there is none.
    known_s: Floats
    # (customers,) When the customer's cards were replaced after a report; infinite where there was none.
    replaced_s: Floats


def outcomes(rng: Rng, world: World, events: Events) -> Outcomes:
    """Return the labels that a bank would have some months after the span."""
    config = world.config
    known_s = _reports(rng, config, events)
    closed_s = world.calendar.span_s + config.closed_after_days * DAY_S
    known_s[known_s > closed_s] = np.inf
    replaced_s = np.full(len(world.people), np.inf)
    is_victim = np.isfinite(known_s) & (events.kind != FIRST_PARTY)
    np.minimum.at(replaced_s, events.customer[is_victim], known_s[is_victim] + _REPLACED_AFTER_DAYS * DAY_S)
    abused = _abused(rng, world, events, int(np.isfinite(known_s).sum()))
    abused_s = events.at_s[abused] + _delay_s(rng, config, events.kind[abused] + np.int8(FIRST_PARTY))
    known_s[abused] = np.where(abused_s <= closed_s, abused_s, np.inf)
    return Outcomes(
        label=np.isfinite(known_s),
        is_labelled=~_lost(rng, world, events),
        known_s=known_s,
        replaced_s=replaced_s,
    )


def by_type(config: HardConfig, knob: str) -> Floats:
    """Return a knob's value per fraud type, 0 for legitimate, such as knob="delay"."""
    return np.array([0.0, *(float(getattr(config, f"{knob}_{name}")) for name in FRAUD_TYPES[1:])])


def _delay_s(rng: Rng, config: HardConfig, kind: Codes) -> Floats:
    median_s = by_type(config, "delay")[kind] * DAY_S
    return median_s * np.exp(config.delay_sigma * rng.standard_normal(len(kind)))


def _reports(rng: Rng, config: HardConfig, events: Events) -> Floats:
    """Return when each fraud is reported: a case's rows all at once, some time after the last of them."""
    known_s = np.full(len(events), np.inf)
    rows = np.flatnonzero(events.kind > 0)
    _, first, case = np.unique(events.case[rows], return_index=True, return_inverse=True)
    kind = events.kind[rows][first]
    last_s = np.full(len(first), -np.inf)
    np.maximum.at(last_s, case, events.at_s[rows])
    report_s = last_s + _delay_s(rng, config, kind)
    report_s[rng.random(len(first)) < by_type(config, "unreported")[kind]] = np.inf
    is_overlooked = (events.amount[rows] < config.tiny_amount) & (rng.random(len(rows)) < config.overlooked_tiny)
    known_s[rows] = np.where(is_overlooked, np.inf, report_s[case])
    return known_s


def _abused(rng: Rng, world: World, events: Events, n_reported: int) -> Ints:
    """Return honest online purchases that are disputed as fraud all the same."""
    candidates = np.flatnonzero((events.kind == 0) & (events.amount >= _ABUSED_LEAST) & is_online(world, events.outlet))
    n = min(int(rng.poisson(world.config.abuse_share * n_reported)), len(candidates))
    return rng.choice(candidates, n, replace=False)


def _lost(rng: Rng, world: World, events: Events) -> Bools:
    """Return whose labels never arrived: those of single senders on single days."""
    is_lost = rng.random((_N_SENDERS, world.calendar.n_days)) < world.config.lost_labels
    sender = world.places.merchant[events.outlet] % _N_SENDERS
    day = np.minimum(events.at_s // DAY_S, world.calendar.n_days - 1).astype(np.int64)
    return is_lost[sender, day]
