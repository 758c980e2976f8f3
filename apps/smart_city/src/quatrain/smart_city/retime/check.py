"""Whether a fixed plan keeps a signal's limits: its rows played to the independent checker."""

from __future__ import annotations

from quatrain.smart_city.retime.plan import Plan
from quatrain.smart_city.signals.checker import Checker, Violation
from quatrain.smart_city.signals.model import SignalModel

# The change from the last row to the first shows in the second cycle.
_CYCLES = 3


def check_plan(plan: Plan, model: SignalModel) -> list[Violation]:
    """Return each limit that the plan breaks, once per kind and links; none for a plan that may be shown."""
    checker, now = Checker(model), 0.0
    for _ in range(_CYCLES):
        for row in plan.rows:
            if row.duration_s > 0:
                checker.read(now, row.state)
            now += max(row.duration_s, 0.0)
    checker.close(now)
    found = {(violation.kind, violation.links): violation for violation in reversed(checker.violations)}
    return sorted(found.values(), key=lambda violation: (violation.time_s, violation.kind, violation.links))


def in_words(violation: Violation) -> str:
    """Return a broken limit as an engineer would say it."""
    links = " and ".join(map(str, violation.links))
    times = f": {violation.got_s:g} s, at least {violation.expected_s:g} s are needed" if violation.expected_s else ""
    if violation.kind == "long red":
        times = f": {violation.got_s:g} s, at most {violation.expected_s:g} s are allowed"
    return f"{violation.kind[:1].upper()}{violation.kind[1:]} for link {links}{times}"
