"""No feature knows what came later, or a label before it was known, and the checks of that catch those that do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.fintech.features.leaks import knows_labels_early, knows_the_future, random_events, seeded
from tests.fintech.features.oracle import DAY, DELAYS, NAMES, Event, to_table

from quatrain.fintech.features import kernels, label_kernels, offline
from quatrain.fintech.features.build import build
from quatrain.fintech.features.events import Events


def engine(delay: int) -> Callable[[Sequence[Event]], NDArray[np.float32]]:
    """Return the offline engine as the leak checks call it."""
    return lambda events: build(to_table(events), NAMES, label_delay_us=delay)


def future_leaks(delay: int, n: int = 40) -> int:
    """Return in how many of n trials a feature knew the future."""
    random = seeded(delay)
    return sum(knows_the_future(engine(delay), random_events(random), random) for _ in range(n))


def label_leaks(delay: int, n: int = 40) -> int:
    """Return in how many of n trials a feature knew a label early."""
    random = seeded(delay)
    return sum(knows_labels_early(engine(delay), random_events(random), delay, random) for _ in range(n))


@pytest.mark.parametrize("delay", DELAYS)
def test_another_future_changes_nothing(delay: int) -> None:
    """Everything after a row, at its own instant too, may be other: no feature up to it changes."""
    assert future_leaks(delay) == 0


@pytest.mark.parametrize("delay", DELAYS)
def test_labels_count_once_they_are_known(delay: int) -> None:
    """Any label that is not known at a row's time may be the opposite: none of its features changes."""
    assert label_leaks(delay) == 0


def test_the_future_check_catches_later_events_of_the_same_instant(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window by timestamp alone, as SQL's RANGE has it, lets an event see later ones of its instant."""
    honest = kernels.fill_amounts

    def by_range(out: NDArray[np.float32], groups: kernels.Groups, *rest: Any) -> None:
        honest(out, groups, *rest)
        last = np.append(np.diff(groups.at_us[: len(groups.order)]) != 0, True)
        group = np.repeat(np.arange(len(groups.starts) - 1), np.diff(groups.starts))
        last |= np.append(np.diff(group) != 0, True)
        ends = np.flatnonzero(last)[np.cumsum(last) - last]
        out[groups.order] = out[groups.order[ends]]

    monkeypatch.setattr(kernels, "fill_amounts", by_range)
    assert future_leaks(7 * DAY) > 0


def test_the_future_check_catches_a_statistic_of_the_whole_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """An amount relative to the mean over all rows, later ones among them, is a leak however small."""
    honest = offline.fill

    def relative(out: NDArray[np.float32], placed: offline.Placed, events: Events, delay_us: int) -> None:
        honest(out, placed, replace(events, amount=events.amount * 2 - int(events.amount.mean())), delay_us)

    monkeypatch.setattr(offline, "fill", relative)
    assert future_leaks(7 * DAY) > 0


def test_the_label_check_catches_labels_without_their_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fraud that counts from the moment it happens is known before anyone could know it."""
    honest = offline.fill

    def undelayed(out: NDArray[np.float32], placed: offline.Placed, events: Events, delay_us: int) -> None:
        honest(out, placed, replace(events, known_us=events.at_us), delay_us)

    monkeypatch.setattr(offline, "fill", undelayed)
    assert label_leaks(7 * DAY) > 0
    assert future_leaks(7 * DAY) == 0


def test_the_label_check_catches_an_event_that_counts_its_own_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row off is enough: a label known at once that its own row sees."""
    honest = label_kernels.fill_labels

    def own(out: NDArray[np.float32], groups: kernels.Groups, frauds: label_kernels.Frauds, *rest: Any) -> None:
        honest(out, groups, frauds._replace(visible_from=frauds.visible_from - 1), *rest)

    monkeypatch.setattr(label_kernels, "fill_labels", own)
    assert label_leaks(0) > 0
