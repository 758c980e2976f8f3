"""The hard layer between any controller and the lamps: whatever is asked, only safe states come out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quatrain.smart_city.signals.model import GREENS, UNPROTECTED, SignalModel

_LONG_AGO = -1.0e9


@dataclass(frozen=True)
class _Change:
    """A change under way: when each ending link turns, and when each starting link may go."""

    ends_at: dict[int, float]
    starts_at: dict[int, float]
    done_at: float


class Shield:
    """Turns wished-for stages into a lamp state per second that keeps every limit of the model.

    Signal groups change one by one: a link starts as soon as the links it conflicts with have been
    dark for its intergreens, and a link that stays green in the next stage stays green throughout.
    A wish that comes while a change is under way, or before the minimum greens are over, is not
    kept. A link red for longer than the maximum gets its stage, whatever is wished.
    """

    def __init__(self, model: SignalModel, *, stage: int, now: float) -> None:
        self.model = model
        self.stage = stage
        self.state = model.stages[stage].state
        self._whole_since = now
        self._target = stage
        self._change: _Change | None = None
        green = model.stages[stage].green
        self._green_since = [now if link in green else _LONG_AGO for link in range(model.n_links)]
        # When a link was last green: now for those that are, long ago for the others.
        self._dark_since = [_LONG_AGO] * model.n_links
        self._red_since = dict.fromkeys(model.served - green, now)
        self._conflicts = [frozenset(np.flatnonzero(row).tolist()) for row in model.conflicts]
        self._permitted = [frozenset(np.flatnonzero(row).tolist()) for row in model.permitted]
        self._trigger_s = _trigger_s(model)
        self._due_at = now + self._trigger_s
        # The lamps change on whole seconds: a limit of 2.5 s is kept as 3.
        self._yellow: list[float] = np.ceil(model.yellow_s).tolist()
        self._between: list[list[float]] = np.ceil(model.intergreen_s).tolist()
        self._least: list[float] = np.ceil(model.min_green_s).tolist()
        self._free_at = now + max((self._least[link] for link in green), default=0.0)

    @property
    def is_changing(self) -> bool:
        """Whether a change between stages is under way."""
        return self._change is not None

    @property
    def target(self) -> int:
        """The stage that is shown, or that the change under way leads to."""
        return self._target

    def is_ready(self, now: float) -> bool:
        """Return whether a wish for another stage would be kept at `now` (seconds)."""
        return self._change is None and now >= self._free_at

    def green_s(self, now: float) -> float:
        """Return for how long the stage has been shown whole."""
        return now - self._whole_since

    def red_s(self, link: int, now: float) -> float:
        """Return for how long `link` has not been green; 0 where it is, or where no stage serves it."""
        return now - self._red_since.get(link, now)

    def step(self, now: float, wish: int) -> str:
        """Return the state to show from `now` for one second, moving towards stage `wish` if that is allowed.

        Raises ValueError for a stage that the model does not have.
        """
        if not 0 <= wish < len(self.model.stages):
            raise ValueError(f"signal {self.model.tls} has stages 0 to {len(self.model.stages) - 1}, got {wish}")
        if self._change is None and now >= self._free_at:
            if now >= self._due_at:
                wish = self._overdue_stage(now, wish)
            if wish != self.stage:
                self._begin(now, wish)
        if self._change is not None:
            self._advance(now, self._change)
        return self.state

    def _overdue_stage(self, now: float, wish: int) -> int:
        """Return the stage that serves the link that has been red longest, if that is longer than allowed."""
        late = [(since, link) for link, since in self._red_since.items() if now - since >= self._trigger_s]
        if not late:
            self._due_at = min(self._red_since.values(), default=now) + self._trigger_s
            return wish
        link = min(late)[1]
        serving = [stage for stage in self.model.stages if link in stage.green]
        return max(serving, key=lambda stage: sum(other in stage.green for _, other in late)).index

    def _begin(self, now: float, wish: int) -> None:
        before, after = self.model.stages[self.stage], self.model.stages[wish]
        ending, starting = before.green - after.green, after.green - before.green
        free_at = {i: max(now, self._green_since[i] + self._least[i]) for i in ending}
        starts_at = {j: self._start(now, j, wish, free_at) for j in starting}
        ends_at = {i: self._end(i, wish, free_at[i], starts_at) for i in ending}
        dark = [ends_at[i] + self._yellow[i] for i in ending]
        self._target = wish
        self._change = _Change(ends_at, starts_at, max([now, *dark, *starts_at.values()]))

    def _start(self, now: float, j: int, wish: int, free_at: dict[int, float]) -> float:
        """Return when `j` may turn green: all it conflicts with dark for long enough."""
        between = self._between
        running = [free_at[i] + between[i][j] for i in free_at if self._excludes(i, j, wish)]
        past = [self._dark_since[i] + between[i][j] for i in self._conflicts[j] if i not in free_at]
        return max([now, *running, *past])

    def _end(self, i: int, wish: int, free_at: float, starts_at: dict[int, float]) -> float:
        """Return when `i` leaves green: as late as the links that wait for it allow."""
        between = self._between
        waiting = [at - between[i][j] for j, at in starts_at.items() if self._excludes(i, j, wish)]
        return max(free_at, min(waiting, default=free_at))

    def _excludes(self, i: int, j: int, wish: int) -> bool:
        """Return whether ending `i` and starting `j` may not be green together, as the two stages show them."""
        if i in self._conflicts[j]:
            return True
        both = self.model.stages[self.stage].state[i], self.model.stages[wish].state[j]
        return both == ("G", "G") and i in self._permitted[j]

    def _advance(self, now: float, change: _Change) -> None:
        before, after = self.model.stages[self.stage], self.model.stages[self._target]
        if now >= change.done_at:
            for j in after.green - before.green:
                self._turned_green(j, change.starts_at[j])
            for i, at in change.ends_at.items():
                self._turned_dark(i, at)
            self._whole_since = max(change.starts_at.values(), default=change.done_at)
            self._change, self.stage, self.state = None, self._target, after.state
            started = [self._green_since[j] + self._least[j] for j in after.green - before.green]
            self._free_at = max([now, *started])
            return
        self.state = "".join(self._lamp(link, now, change, before.state, after.state) for link in self._links)

    @property
    def _links(self) -> range:
        return range(self.model.n_links)

    def _lamp(self, link: int, now: float, change: _Change, before: str, after: str) -> str:
        old, new = before[link], after[link]
        if link in change.ends_at:
            end = change.ends_at[link]
            if now < end:
                return old
            return "y" if now < end + self._yellow[link] else new
        if link in change.starts_at:
            return new if now >= change.starts_at[link] else (old if old in UNPROTECTED else "r")
        if old in GREENS and new in GREENS:
            return "g" if "g" in (old, new) else "G"
        return new

    def _turned_green(self, link: int, at: float) -> None:
        self._green_since[link] = at
        self._red_since.pop(link, None)

    def _turned_dark(self, link: int, at: float) -> None:
        self._dark_since[link] = at
        self._red_since[link] = at
        self._due_at = min(self._due_at, at + self._trigger_s)


def _trigger_s(model: SignalModel) -> float:
    """Return the red after which a link is served next, so that even the last of several is in time.

    The longest red goes first, so nobody waits for more than one shortest green and change of each stage.
    """
    vehicles = ~model.is_crossing
    change = float(np.ceil(model.intergreen_s[vehicles].max(initial=0.0)))
    walk = float(np.ceil(model.intergreen_s[~vehicles].max(initial=0.0)))
    least = [
        max((float(np.ceil(model.min_green_s[link])) for link in stage.green), default=0) for stage in model.stages
    ]
    return max(0.0, model.max_red_s - sum(least) - len(least) * max(change, walk))
