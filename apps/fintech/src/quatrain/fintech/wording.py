"""What a model's inputs are called in front of people: "terminal fraud rate in 7 days 12.5 %"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from quatrain.fintech.features.names import LONGEST_US, Feature, parse
from quatrain.fintech.features.row import AMOUNT, DAY_OF_WEEK, DAY_US, HOUR_US, TIME_OF_DAY

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MINUTE_US = 60_000_000
_HOURS_A_DAY = 24
# What "never" comes as.
_CAP_HOURS = LONGEST_US / HOUR_US
# Inputs that say one thing are usual or unusual together.
_STATELESS: Mapping[str, tuple[str, ...]] = {
    "amount": AMOUNT,
    "time of day": TIME_OF_DAY,
    "day of week": DAY_OF_WEEK,
}
_FAMILIES: Mapping[str, str] = {
    "count": "activity",
    "matured": "activity",
    "since": "activity",
    "sum": "spending",
    "mean": "spending",
    "ratio": "spending",
    "max": "spending",
    "usual": "spending",
    "frauds": "frauds",
    "risk": "frauds",
    "fraud_mean": "frauds",
    "streak": "frauds",
    "first_fraud": "frauds",
    "since_fraud": "frauds",
    "distinct": "links",
    "component": "links",
}


@dataclass(frozen=True, kw_only=True)
class Wording:
    """How one input is told: its label, and its value as text."""

    label: str
    # Inputs of one thing are compared with a usual transaction together.
    thing: str
    text: Callable[[float], str]

    def told(self, value: float, *, usual: float) -> str:
        """Return such as "amount 950.00, usually 22.00"."""
        return f"{self.label} {self.text(value)}, usually {self.text(usual)}"


@cache
def wording(name: str) -> Wording:
    """Return how an input is told; a column of the file itself is called what the file calls it."""
    for thing, members in _STATELESS.items():
        if name in members:
            return Wording(label=thing, thing=thing, text=_TEXTS[thing])
    feature = parse(name)
    if feature is None:
        return Wording(label=name, thing=name, text=lambda value: f"{value:.4g}")
    thing = f"{' and '.join(feature.by)} {_FAMILIES[feature.kind]}"
    return Wording(label=_label(feature), thing=thing, text=_text(feature.kind))


def _label(feature: Feature) -> str:
    key = feature.by[0]
    who = key if len(feature.by) == 1 else f"{key} with this {feature.by[1]}"
    within = f" in {_span(feature.window_us)}" if feature.window_us else ""
    labels = {
        "count": f"{who}: transactions{within}",
        "sum": f"{who}: spent{within}",
        "mean": f"{who}: average amount{within}",
        "ratio": f"{who}: amount against the average{within}",
        "max": f"{who}: largest amount before{within}",
        "usual": f"{who}: average amount of transactions with a known outcome{within}",
        "fraud_mean": f"{who}: average amount of known frauds{within}",
        "streak": f"{who}: transactions with a known outcome since the last known fraud{within}",
        "first_fraud": f"{who}: time since the first known fraud{within}",
        "matured": f"{who}: transactions with a known outcome{within}",
        "risk": f"{who}: fraud rate{within}",
        "frauds": f"{who}: known frauds{within}",
        "since": f"{who}: time since the last transaction",
        "since_fraud": f"{who}: time since the last known fraud",
        "distinct": f"{who}: different {feature.of}s{within}",
        "component": "customers linked by shared devices",
    }
    return labels[feature.kind]


def _span(window_us: int) -> str:
    for unit_us, unit in ((DAY_US, "day"), (HOUR_US, "hour"), (_MINUTE_US, "minute")):
        if window_us % unit_us == 0:
            n = window_us // unit_us
            return f"{n} {unit}{'s' if n > 1 else ''}"
    return f"{window_us / _MINUTE_US:.1f} minutes"


def _text(kind: str) -> Callable[[float], str]:
    if kind in ("sum", "mean", "max", "usual", "fraud_mean"):
        return _money
    if kind in ("since", "since_fraud", "first_fraud"):
        return _elapsed
    if kind == "ratio":
        return lambda value: f"{value:.1f} times"
    if kind == "risk":
        return lambda value: f"{value:.1%}"
    return lambda value: f"{value:,.0f}"


def _money(value: float) -> str:
    return f"{value:,.2f}"


def _elapsed(hours: float) -> str:
    if hours >= _CAP_HOURS:
        return f"none in {_CAP_HOURS / _HOURS_A_DAY:.0f} days"
    if hours < 1:
        return f"{hours * 60:.0f} min"
    if hours < 2 * _HOURS_A_DAY:
        return f"{hours:.1f} h"
    return f"{hours / _HOURS_A_DAY:.1f} days"


def _clock(hour: float) -> str:
    minutes = int(hour * 60) % (24 * 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _weekday(day: float) -> str:
    return _WEEKDAYS[int(day) % 7]


_TEXTS: Mapping[str, Callable[[float], str]] = {"amount": _money, "time of day": _clock, "day of week": _weekday}
