"""What a simulation cost its road users, from SUMO's own trip log, and differences over paired seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats  # type: ignore[import-untyped]  # ships no types

from quatrain.core.errors import BadDataError
from quatrain.smart_city.data.markup import Element, MarkupError, elements

_CONFIDENCE = 0.95
# One seed says nothing about how seeds differ.
_FEWEST = 2


@dataclass(kw_only=True)
class _Sums:
    n: int = 0
    undeparted: int = 0
    arrived: int = 0
    loss_s: float = 0.0
    depart_delay_s: float = 0.0
    trip_s: float = 0.0
    wait_s: float = 0.0
    stops: float = 0.0
    co2_g: float = 0.0
    has_emissions: bool = False
    walkers: int = 0
    walk_loss_s: float = 0.0


def read_trips(path: Path, *, duration_s: float) -> dict[str, float]:
    """Return the measures of one simulation from its tripinfo file, over all vehicles due to depart in it.

    Vehicles that never got in (undeparted) and that never got out (unfinished) are counted, each
    with the time it had lost by the end, so that a jam cannot look like a gain:

    - delay_s: mean of time lost on the way (SUMO's timeLoss: against driving at the speed that the
      vehicle wants, stops and queues included) plus departDelay (time waited to get in).
    - trip_s: mean time on the way plus departDelay. wait_s: mean time standing (below 0.1 m/s) plus
      departDelay. stops: mean number of times a vehicle came to stand.
    - queue: mean number of vehicles that stood or waited to get in. throughput_vph: arrivals per hour.
    - vehicles, arrived, undeparted: counts. co2_kg: total, where emissions were asked for.
    - ped_wait_s: mean time that walkers lost, crossings included, where anyone walks.

    Raises BadDataError where the file is cut off or is no tripinfo file.
    """
    sums = _Sums()
    try:
        for _, element in elements(path):
            if element.tag == "tripinfo":
                _add_trip(sums, element)
            elif element.tag == "personinfo":
                _add_person(sums, element)
            if element.tag in {"tripinfo", "personinfo"}:
                element.clear()
    except (MarkupError, KeyError, ValueError) as error:
        raise BadDataError(f"{path} is not a complete tripinfo file: {error}") from error
    return _measures(sums, duration_s)


def _add_trip(sums: _Sums, element: Element) -> None:
    get = element.attrib
    sums.n += 1
    waited = float(get["departDelay"])
    sums.depart_delay_s += waited
    if float(get["depart"]) < 0:
        sums.undeparted += 1
        return
    sums.arrived += float(get["arrival"]) >= 0
    sums.loss_s += float(get["timeLoss"])
    sums.trip_s += float(get["duration"])
    sums.wait_s += float(get["waitingTime"])
    sums.stops += float(get["waitingCount"])
    emissions = element.find("emissions")
    if emissions is not None:
        sums.has_emissions = True
        # SUMO gives milligrams.
        sums.co2_g += float(emissions.attrib["CO2_abs"]) / 1000


def _add_person(sums: _Sums, element: Element) -> None:
    walks = element.findall("walk")
    losses = [float(walk.attrib["timeLoss"]) for walk in walks if float(walk.get("timeLoss", -1)) >= 0]
    if losses:
        sums.walkers += 1
        sums.walk_loss_s += sum(losses)


def _measures(sums: _Sums, duration_s: float) -> dict[str, float]:
    n = max(1, sums.n)
    waited = sums.wait_s + sums.depart_delay_s
    measures = {
        "delay_s": (sums.loss_s + sums.depart_delay_s) / n,
        "trip_s": (sums.trip_s + sums.depart_delay_s) / n,
        "wait_s": waited / n,
        "stops": sums.stops / n,
        "queue": waited / max(duration_s, 1.0),
        "throughput_vph": sums.arrived * 3600 / max(duration_s, 1.0),
        "vehicles": float(sums.n),
        "arrived": float(sums.arrived),
        "undeparted": float(sums.undeparted),
    }
    if sums.has_emissions:
        measures["co2_kg"] = sums.co2_g / 1000
    if sums.walkers:
        measures["ped_wait_s"] = sums.walk_loss_s / sums.walkers
    return measures


def mean(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each measure that every run has."""
    return {name: float(np.mean([run[name] for run in runs])) for name in runs[0] if all(name in run for run in runs)}


def t_interval(values: Sequence[float], *, confidence: float = _CONFIDENCE) -> tuple[float, float]:
    """Return Student's interval of the mean over seeds; infinite with fewer than two values.

    On paired differences this is the interval of the paired t-test.
    """
    n = len(values)
    middle = float(np.mean(values))
    if n < _FEWEST:
        return -math.inf, math.inf
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return middle - half, middle + half


def paired_difference(
    first: Sequence[float], second: Sequence[float], *, confidence: float = _CONFIDENCE
) -> tuple[float, tuple[float, float]]:
    """Return the mean of first minus second over the same seeds, with its paired t-interval.

    Raises ValueError where the two are not of the same seeds.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"paired runs need the same seeds, got {len(first)} and {len(second)} values")
    differences = [a - b for a, b in zip(first, second, strict=True)]
    return float(np.mean(differences)), t_interval(differences, confidence=confidence)
