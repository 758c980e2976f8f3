"""The names of model inputs: a name says everything about a feature, so a model's list of names is its spec.

History features are named `<key>_<kind>_<window>`, such as `customer_count_7d`; the package's
other modules compute them. The key is an entity or a pair of entities (both ids equal). Events
have a total order, (timestamp, transaction_id as UTF-8 bytes); the window w of event i holds the
events j <= i of its key with t_j > t_i - w.

- count, sum, mean: of the window's amounts; ratio: amount / mean, 1 where the sum is 0
- max: the largest amount of the window's events before i, 0 where there is none
- distinct: `device_distinct_customer_7d`, how many different non-null ids the window holds
- matured: events j < i whose label was due in the window, t_i - w < t_j + delay <= t_i
- frauds: frauds j < i that became known in the window (and happened less than 60 days + delay ago)
- risk: frauds / matured, at most 1, and 0 where nothing has matured
- usual: mean amount of the events that `matured` counts, 0 where nothing has matured: what the key
  paid before anything that may still turn out as fraud
- fraud_mean: mean amount of the frauds that `frauds` counts, 0 where there is none: ordinary
  amounts tell of a place where cards are copied, large ones of the cards
- streak: those events that `matured` counts which are later than the latest fraud of the key that
  is known by now, unless that is 60 days old: has it ended?
- first_fraud: hours since the first fraud of the window that is known by now, 60 days where there is none
- since: hours since the key's previous event; since_fraud: hours since the latest of its frauds
  known by now; both at most 60 days, which also stands for "never"
- device_component: customers connected with the device through shared devices and customers,
  by the events since the start of the previous 30-day epoch, counted from 1970

Where a key's id is missing every feature is 0, except since and since_fraud (60 days) and ratio (1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from quatrain.core.errors import BadDataError
from quatrain.fintech.features.row import (
    AMOUNT,
    BUILT_IN,
    DAY_OF_WEEK,
    DAY_US,
    HOUR_US,
    MINUTE_US,
    TIME_OF_DAY,
    WEEK_US,
)

History = Literal["none", "standard", "full"]

# The canonical column of each entity that a key can be made of, in the order that pairs are named in.
ENTITIES = {"customer": "customer_id", "terminal": "terminal_id", "device": "device_id", "merchant": "merchant_id"}
# No feature looks further back, apart from the label delay.
LONGEST_US = 60 * DAY_US
# Two epochs are what a component looks back.
EPOCH_US = 30 * DAY_US
# The handbook's delay between a transaction and the knowledge of whether it was fraud (chapter 5.3).
LABEL_DELAY_US = WEEK_US

AMOUNT_KINDS = ("count", "sum", "mean", "ratio", "max")
LABEL_KINDS = ("matured", "frauds", "risk", "usual", "fraud_mean", "streak", "first_fraud")
_UNITS_US = {"d": DAY_US, "h": HOUR_US, "m": MINUTE_US}
_SINGLE = "|".join(ENTITIES)
_BY = "|".join([*(f"{a}_{b}" for a in ENTITIES for b in ENTITIES), *ENTITIES])
_PATTERN = re.compile(
    rf"(?P<by>{_BY})_(?:"
    rf"(?P<kind>{'|'.join((*AMOUNT_KINDS, *LABEL_KINDS))}|distinct_(?P<of>{_SINGLE}))"
    r"_(?P<n>[1-9]\d{0,4})(?P<unit>[mhd])"
    r"|(?P<alone>since_fraud|since|component))"
)

# The fraud-detection handbook's inputs (Le Borgne et al. 2022, chapter 3.4), with exact windows.
STANDARD = (
    "amount",
    "is_weekend",
    "is_night",
    *(f"customer_{kind}_{days}d" for kind in ("count", "mean") for days in (1, 7, 30)),
    *(f"terminal_{kind}_{days}d" for kind in ("matured", "risk") for days in (1, 7, 30)),
)
# Every history feature that a model gets when asked for all: kinds, then the windows of each.
_FULL: dict[str, dict[str, tuple[str, ...]]] = {
    "customer": {
        "count": ("10m", "1h", "6h", "1d", "7d", "30d"),
        "sum": ("1h", "1d"),
        "mean": ("1d", "7d", "30d"),
        "ratio": ("7d", "30d"),
        "max": ("3d", "7d", "14d"),
        "matured": ("30d",),
        "usual": ("30d", "60d"),
        "frauds": ("7d", "30d"),
        "risk": ("30d",),
        "distinct_terminal": ("1d", "7d", "30d"),
        "distinct_device": ("7d", "30d"),
        "distinct_merchant": ("1d", "7d"),
        "since": (),
        "since_fraud": (),
    },
    "terminal": {
        "count": ("1h", "1d", "7d", "30d"),
        "mean": ("1d", "7d", "30d"),
        "ratio": ("7d", "30d"),
        "matured": ("1d", "7d", "30d"),
        "frauds": ("1d", "7d", "30d"),
        "risk": ("1d", "7d", "30d"),
        "fraud_mean": ("30d",),
        "streak": ("30d",),
        "first_fraud": ("30d",),
        "distinct_customer": ("1d", "7d", "30d"),
        "since": (),
        "since_fraud": (),
    },
    "device": {
        "count": ("1h", "1d", "7d", "30d"),
        "sum": ("1d",),
        "frauds": ("7d", "30d"),
        "risk": ("30d",),
        "distinct_customer": ("1d", "7d", "30d"),
        "since": (),
        "since_fraud": (),
        "component": (),
    },
    "merchant": {
        "count": ("1h", "1d", "7d"),
        "mean": ("7d", "30d"),
        "ratio": ("7d", "30d"),
        "frauds": ("7d", "30d"),
        "risk": ("7d", "30d"),
        "fraud_mean": ("30d",),
        "streak": ("30d",),
        "first_fraud": ("30d",),
        "distinct_customer": ("1d", "7d"),
        "since_fraud": (),
    },
    "customer_terminal": {"count": ("30d",), "since": ()},
    "customer_device": {"count": ("30d",), "since": ()},
    "customer_merchant": {"count": ("30d",), "ratio": ("30d",), "since": ()},
}


@dataclass(frozen=True, kw_only=True)
class Feature:
    """What one history feature is: a kind, of a key, over a window where the kind has one."""

    kind: str
    by: tuple[str, ...]
    window_us: int = 0
    # The entity that "distinct" counts.
    of: str | None = None

    @property
    def name(self) -> str:
        """The one name of this feature."""
        words = [*self.by, self.kind, *([self.of] if self.of else [])]
        if self.window_us:
            words.append(_window(self.window_us))
        return "_".join(words)

    @property
    def entities(self) -> tuple[str, ...]:
        """The entities whose ids it reads."""
        if self.kind == "component":
            return ("customer", "device")
        return (*self.by, *([self.of] if self.of else []))

    @property
    def needs_labels(self) -> bool:
        """Whether it looks at labels, or at when they are due."""
        return self.kind in (*LABEL_KINDS, "since_fraud")


def missing_value(feature: Feature) -> float:
    """Return what a feature is where its key's id is missing."""
    if feature.kind in ("since", "since_fraud", "first_fraud"):
        return LONGEST_US / HOUR_US
    return 1.0 if feature.kind == "ratio" else 0.0


def parse(name: str) -> Feature | None:
    """Return the history feature of that name, or None for any other input."""
    match = _PATTERN.fullmatch(name)
    if match is None:
        return None
    kind = match["alone"] or match["kind"]
    window_us = int(match["n"]) * _UNITS_US[match["unit"]] if match["n"] else 0
    feature = Feature(
        kind="distinct" if match["of"] else kind, by=tuple(match["by"].split("_")), window_us=window_us, of=match["of"]
    )
    # One feature, one name: neither customer_count_24h nor device_customer_count_1d is one.
    return feature if _is_valid(feature) and feature.name == name else None


def needs_history(names: Iterable[str]) -> bool:
    """Return whether any of the inputs looks at other events than the row itself."""
    return any(parse(name) is not None for name in names)


def entities(names: Iterable[str]) -> tuple[str, ...]:
    """Return the canonical id columns that the inputs read, in the order of the schema."""
    found = {entity for name in names if (feature := parse(name)) for entity in feature.entities}
    return tuple(column for entity, column in ENTITIES.items() if entity in found)


def extra_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the file's own columns among a model's inputs."""
    return tuple(name for name in names if name not in BUILT_IN and parse(name) is None)


def horizon_us(names: Iterable[str], label_delay_us: int) -> int:
    """Return how far back the inputs look: older events change none of them; 0 where none needs history."""
    return max((_reach_us(feature, label_delay_us) for name in names if (feature := parse(name))), default=0)


def feature_names(
    columns_present: Iterable[str],
    extras: Sequence[str],
    *,
    span_us: int,
    label_delay_us: int = LABEL_DELAY_US,
    history: History = "none",
) -> tuple[str, ...]:
    """Return the inputs of a model trained on events that span this many microseconds.

    "none" looks at the row alone, "standard" takes the handbook's inputs, "full" everything that
    the id columns present allow; then come the file's own `extras`. What the span does not hold
    once is left out: of a part of a week a model would learn which dates the frauds fell on, and
    of a window longer than the data it would learn the date itself. Raises BadDataError for an
    extra column that is named like a feature.
    """
    clashes = [name for name in extras if name in BUILT_IN or parse(name) is not None]
    if clashes:
        raise BadDataError(f"extra columns may not be named {', '.join(clashes)}: features of that name are built in")
    daily = TIME_OF_DAY if span_us >= DAY_US else ()
    weekly = DAY_OF_WEEK if span_us >= WEEK_US else ()
    own = (*AMOUNT, *daily, *weekly)
    present = set(columns_present)
    wanted = {"none": own, "standard": STANDARD, "full": (*own, *_full_names())}[history]
    allowed = (
        name for name in wanted if name in own or _fits(name, present, span_us=span_us, label_delay_us=label_delay_us)
    )
    return (*allowed, *extras)


def _fits(name: str, present: set[str], *, span_us: int, label_delay_us: int) -> bool:
    feature = parse(name)
    if feature is None or not present.issuperset(ENTITIES[entity] for entity in feature.entities):
        return False
    return feature.window_us + (label_delay_us if feature.needs_labels else 0) <= span_us


def _full_names() -> tuple[str, ...]:
    return tuple(
        "_".join((key, kind, *([window] if window else [])))
        for key, kinds in _FULL.items()
        for kind, windows in kinds.items()
        for window in windows or ("",)
    )


def _is_valid(feature: Feature) -> bool:
    order = list(ENTITIES)
    is_ordered = [order.index(entity) for entity in feature.by] == sorted({order.index(e) for e in feature.by})
    if feature.kind == "component" and feature.by != ("device",):
        return False
    return is_ordered and feature.window_us <= LONGEST_US and feature.of not in feature.by


def _reach_us(feature: Feature, label_delay_us: int) -> int:
    if feature.kind in ("matured", "usual"):
        return feature.window_us + label_delay_us
    if feature.kind in ("frauds", "risk", "fraud_mean", "streak"):
        return LONGEST_US + label_delay_us
    return feature.window_us or LONGEST_US


def _window(window_us: int) -> str:
    unit, size = next((unit, size) for unit, size in _UNITS_US.items() if window_us % size == 0)
    return f"{window_us // size}{unit}"
