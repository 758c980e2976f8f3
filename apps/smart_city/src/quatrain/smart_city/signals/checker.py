"""An independent reading of what a signal showed: every broken limit, found in the log alone.

Written against the limits only and not against the shield: it shares no code with it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from quatrain.core.errors import BadDataError
from quatrain.smart_city.data.markup import MarkupError, elements
from quatrain.smart_city.signals.model import SignalModel

_EPSILON_S = 1e-6


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One broken limit: which, of which links, when, and by how much."""

    tls: str
    time_s: float
    kind: str
    links: tuple[int, ...]
    expected_s: float = 0.0
    got_s: float = 0.0


class _Lamp:
    """What one link has shown so far."""

    def __init__(self) -> None:
        self.colour = ""
        self.since = float("-inf")
        self.green_end = float("-inf")
        self.last_green_s = float("inf")
        self.was_seen_starting = False


class Checker:
    """Reads one signal's states in order of time and keeps what was broken.

    Times before the first state are not known, so nothing is said about a green or yellow that was
    already showing in it.
    """

    def __init__(self, model: SignalModel, *, max_red_allowance_s: float = 0.0) -> None:
        self.model = model
        self.violations: list[Violation] = []
        self.n_states = 0
        self._lamps = [_Lamp() for _ in range(model.n_links)]
        self._greens: set[int] = set()
        self._last = ""
        self._max_red_s = model.max_red_s + max_red_allowance_s
        self._pairs = [(int(i), int(j)) for i, j in zip(*model.conflicts.nonzero(), strict=True)]
        self._foes: dict[int, list[int]] = defaultdict(list)
        for i, j in self._pairs:
            self._foes[j].append(i)

    def read(self, time_s: float, state: str) -> None:
        """Take the state shown from `time_s` on."""
        self.n_states += 1
        if state == self._last:
            return
        if len(state) != self.model.n_links:
            self._add(time_s, "wrong length", (), self.model.n_links, len(state))
            return
        for link, char in enumerate(state):
            self._turn(time_s, link, char)
        self._check_together(time_s, state)
        self._last = state

    def close(self, time_s: float) -> None:
        """Count reds that were still too long at the end of the log."""
        for link in self.model.served:
            lamp = self._lamps[link]
            if lamp.colour and lamp.colour not in "Gg" and lamp.green_end > float("-inf"):
                self._check_red(time_s, link)

    def _turn(self, time_s: float, link: int, char: str) -> None:
        lamp = self._lamps[link]
        old, shown = lamp.colour, "G" if char in "Gg" else char
        if shown == old:
            return
        lasted, known = time_s - lamp.since, lamp.was_seen_starting
        if old == "G":
            lamp.green_end = time_s
            if known and lasted < self.model.min_green_s[link] - _EPSILON_S:
                self._add(time_s, "short green", (link,), float(self.model.min_green_s[link]), lasted)
            if shown != "y" and self.model.yellow_s[link] > 0:
                self._add(time_s, "no yellow", (link,), float(self.model.yellow_s[link]), 0.0)
        if old == "y" and known and lasted < self.model.yellow_s[link] - _EPSILON_S:
            self._add(time_s, "short yellow", (link,), float(self.model.yellow_s[link]), lasted)
        if shown == "G" and old:
            self._check_start(time_s, link)
        lamp.was_seen_starting = bool(old)
        lamp.colour, lamp.since = shown, time_s

    def _check_start(self, time_s: float, link: int) -> None:
        for foe in self._foes[link]:
            cleared = time_s - self._lamps[foe].green_end
            expected = float(self.model.intergreen_s[foe, link])
            if self._lamps[foe].colour != "G" and cleared < expected - _EPSILON_S:
                self._add(time_s, "short intergreen", (foe, link), expected, cleared)
        if self._lamps[link].green_end > float("-inf"):
            self._check_red(time_s, link)

    def _check_red(self, time_s: float, link: int) -> None:
        lasted = time_s - self._lamps[link].green_end
        if lasted > self._max_red_s + _EPSILON_S:
            self._add(time_s, "long red", (link,), self._max_red_s, lasted)

    def _check_together(self, time_s: float, state: str) -> None:
        green = {link for link, char in enumerate(state) if char in "Gg"}
        for i in green:
            for j in green:
                if i < j and self.model.conflicts[i, j]:
                    self._add(time_s, "conflicting greens", (i, j))
                elif i < j and self.model.permitted[i, j] and state[i] == state[j] == "G":
                    self._add(time_s, "conflicting priorities", (i, j))

    def _add(self, time_s: float, kind: str, links: tuple[int, ...], expected: float = 0.0, got: float = 0.0) -> None:
        self.violations.append(
            Violation(tls=self.model.tls, time_s=time_s, kind=kind, links=links, expected_s=expected, got_s=got)
        )


def check_log(path: Path, models: dict[str, SignalModel], **limits: float) -> tuple[int, list[Violation]]:
    """Return how many states a SUMO tlsStates file (`SaveTLSStates`) holds, and what is broken in it.

    Raises BadDataError where the file is not such a log.
    """
    checkers = {tls: Checker(model, **limits) for tls, model in models.items()}
    last = 0.0
    for last, tls, state in _logged(path):
        if tls in checkers:
            checkers[tls].read(last, state)
    for checker in checkers.values():
        checker.close(last)
    found = [violation for checker in checkers.values() for violation in checker.violations]
    return sum(checker.n_states for checker in checkers.values()), found


def count_by_kind(violations: Iterable[Violation]) -> dict[str, int]:
    """Return how often each kind of limit was broken."""
    return dict(Counter(violation.kind for violation in violations))


def _logged(path: Path) -> Iterator[tuple[float, str, str]]:
    try:
        for _, element in elements(path):
            if element.tag == "tlsState":
                yield float(element.attrib["time"]), element.attrib["id"], element.attrib["state"]
                element.clear()
    except (MarkupError, KeyError, ValueError) as error:
        raise BadDataError(f"{path} is not a log of signal states: {error}") from error
