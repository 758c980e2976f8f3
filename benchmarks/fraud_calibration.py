"""Whether a fraud model's scores are probabilities on later days: raw, beta, isotonic, Venn-ABERS, in the same run.

Handbook-like synthetic data with the handbook's 15 inputs. Each fold: 28 days to train on, 7 to calibrate on (the
latest whose labels have matured), 7 of label delay, 7 to test on. "refitted" trains again on the 28 + 7 days, as
shipped, and keeps the map of the model before. Intervals are 95 % over resampled test days, of all folds together.
--quick takes a smaller world and a few folds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from _report import Claim, claim, finish, parser, table
from numpy.typing import NDArray

from quatrain.core import export
from quatrain.core.inference import open_session
from quatrain.fintech.data.arrays import to_numpy
from quatrain.fintech.features.build import build
from quatrain.fintech.features.names import STANDARD
from quatrain.fintech.metrics import calibration as measures
from quatrain.fintech.metrics.alerts import threshold_for_budget
from quatrain.fintech.metrics.scored import Floats, Labels
from quatrain.fintech.models import calibration, trees
from quatrain.fintech.models.calibration import Calibration
from quatrain.fintech.models.thresholds import threshold_from_unlabelled
from quatrain.fintech.models.trees import TreeSettings
from quatrain.fintech.models.venn_abers import grouped, merged, venn_abers
from quatrain.fintech.simulation.handbook import SimulatorConfig, simulate, to_table

Scores = NDArray[np.float32]
Days = NDArray[np.int64]

_TRAIN, _WEEK = 28, 7
# Windows of 30 days and a label delay before the first training day.
_FIRST_DAY = 37
_BUDGETS = (0.002, 0.005, 0.01)
_COST_ROUNDS = 300
# Fewer say nothing of which of two thresholds keeps a budget better.
_MIN_FOLDS = 5
_BINS = 15
_RESAMPLES = 1000
# Frauds are multiplied by these, by leaving out legitimate rows or frauds.
_SHIFTS = (3.0, 1 / 3)
_SETTINGS = TreeSettings(learning_rate=0.05, max_rounds=200, max_bin=1023, n_seeds=1)
# Legitimate rows that each model learns from: all, or one in ten, as is often done for speed, and then scores are odds
# that are ten times too high.
_MODELS = {"all rows": 1.0, "one legitimate row in ten": 0.1}
_METHODS = ("raw", "beta", "isotonic", "venn-abers", "beta clipped", "shipped")


@dataclass(frozen=True, kw_only=True)
class World:
    """Rows in time order: inputs, labels and days since the first."""

    x: NDArray[np.float32]
    label: Labels
    day: Days

    def between(self, first: int, n_days: int) -> slice:
        """Return the rows of some days."""
        start, stop = np.searchsorted(self.day, [first, first + n_days])
        return slice(int(start), int(stop))


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One model's scores of one fold; `refitted` has seen the calibration days, `score` has not."""

    calibrating: slice
    test: slice
    score: Scores  # of all rows from the calibration days on
    refitted: Scores
    fitted: Calibration

    def of(self, part: slice, *, is_refitted: bool = False) -> Scores:
        """Return the scores of some rows."""
        scores = self.refitted if is_refitted else self.score
        return scores[part.start - self.calibrating.start : part.stop - self.calibrating.start]


def main() -> None:
    """Measure, print the tables and the claims."""
    options = parser(__doc__).parse_args()
    config = SimulatorConfig(customers=1000, terminals=2000, days=100) if options.quick else SimulatorConfig()
    world = _world(config)
    claims: list[Claim] = []
    for name, kept_share in _MODELS.items():
        folds = list(_folds(world, kept_share))
        chosen = [fold.fitted.method for fold in folds]
        print(
            f"{name}: {len(folds)} folds, {int(world.label[folds[0].calibrating].sum())} frauds to calibrate on in the"
        )
        print(f"first, chosen {', '.join(f'{chosen.count(m)} x {m}' for m in sorted(set(chosen)))}\n")
        claims += _accuracy(name, world, folds)
        claims += _shifted(name, world, folds)
    finish([*claims, *_alerts(world), *_cost(world)])


def _world(config: SimulatorConfig) -> World:
    rows = to_table(simulate(config, seed=0), metadata={})
    at_us = to_numpy(rows["timestamp"].cast("int64"))
    day = at_us // 86_400_000_000
    label = to_numpy(rows["is_fraud"]).astype(bool)
    return World(x=build(rows, STANDARD), label=label, day=day - day[0])


def _folds(world: World, kept_share: float) -> Iterator[Fold]:
    span = _TRAIN + 3 * _WEEK
    for start in range(_FIRST_DAY, int(world.day[-1]) + 2 - span, _WEEK):
        calibrating = world.between(start + _TRAIN, _WEEK)
        test = world.between(start + _TRAIN + 2 * _WEEK, _WEEK)
        ahead = world.x[calibrating.start : test.stop]
        parts = (world.between(start, n_days) for n_days in (_TRAIN, _TRAIN + _WEEK))
        graphs = [_grown(world, _SETTINGS, part, kept_share=kept_share) for part in parts]
        score, refitted = (_scores(open_session(graph), ahead) for graph in graphs)
        known = score[: calibrating.stop - calibrating.start]
        yield Fold(
            calibrating=calibrating,
            test=test,
            score=score,
            refitted=refitted,
            fitted=calibration.fit_calibration(known, world.label[calibrating], world.day[calibrating]),
        )


def _grown(world: World, settings: TreeSettings, part: slice, *, kept_share: float = 1.0) -> bytes:
    label = world.label[part]
    is_kept = label | (np.random.default_rng(0).random(len(label)) < kept_share)
    booster = trees.grow(settings, world.x[part][is_kept], label[is_kept], seed=0)
    return export.lightgbm_model(booster)


def _probabilities(world: World, fold: Fold, score: Scores) -> dict[str, Floats]:
    """Return each method's probabilities, all fitted on the calibration days."""
    known, label, day = fold.of(fold.calibrating), world.label[fold.calibrating], world.day[fold.calibrating]
    fitted = {
        method: calibration.apply(calibration.fit_calibration(known, label, day, method=method), score)
        for method in ("beta", "isotonic")
    }
    p0, p1 = venn_abers(groups := grouped(known, label))
    low = np.append(0.0, p0)[np.searchsorted(groups.score, score, side="right")]
    high = np.append(p1, 1.0)[np.searchsorted(groups.score, score, side="left")]
    beta = fitted["beta"]["probability"].astype(np.float64)
    return {
        "raw": score.astype(np.float64),
        "beta": beta,
        "isotonic": fitted["isotonic"]["probability"].astype(np.float64),
        "venn-abers": merged(low, high),
        "beta clipped": np.clip(beta, low, high),
        "shipped": calibration.apply(fold.fitted, score)["probability"].astype(np.float64),
    }


def _accuracy(name: str, world: World, folds: list[Fold]) -> list[Claim]:
    label, day = (np.concatenate([array[fold.test] for fold in folds]) for array in (world.label, world.day))
    claims = []
    for kind in ("as calibrated", "refitted"):
        parts = [_probabilities(world, fold, fold.of(fold.test, is_refitted=kind == "refitted")) for fold in folds]
        found = {method: np.concatenate([part[method] for part in parts]) for method in _METHODS}
        measured = {method: _measured(label, day, probability) for method, probability in found.items()}
        _print_measured(f"{name}, {kind}", measured)
        ratio = measured["shipped"]["log loss"] / measured["raw"]["log loss"]
        title = f"{name}, {kind}: log loss / raw's, upper end"
        claims.append(claim(title, float(np.quantile(ratio, 0.975)), 1.02, at_least=False))
    widths = [calibration.apply(fold.fitted, fold.of(fold.test)) for fold in folds]
    wrong = sum(int(((w["low"] > w["probability"]) | (w["probability"] > w["high"])).sum()) for w in widths)
    low, high, middle = (np.concatenate([w[key] for w in widths]) for key in ("low", "high", "probability"))
    table(
        (f"{name}: interval of shipped", "rows", "median width", "mean width"),
        [
            (
                f"probability {a:g} to {b:g}",
                int(at.sum()),
                float(np.median((high - low)[at])),
                float((high - low)[at].mean()),
            )
            for a, b in ((0, 0.01), (0.01, 0.1), (0.1, 0.5), (0.5, 0.9), (0.9, 1))
            if (at := (middle >= a) & (middle < b)).any()
        ],
    )
    return [*claims, claim(f"{name}: rows out of low <= probability <= high", wrong, 0, at_least=False)]


def _measured(label: Labels, day: Days, probability: Floats) -> dict[str, Floats]:
    """Return ECE, Brier score and log loss over all days, then over each resample of days: (1 + resamples,)."""
    days, place = np.unique(day, return_inverse=True)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(len(days), np.full(len(days), 1 / len(days)), _RESAMPLES)
    times = np.concatenate([np.ones((1, len(days))), drawn])  # (1 + R, D)
    n = times @ np.bincount(place)
    bins = measures.bin_of(probability, n_bins=_BINS, bins="mass")
    gaps = np.zeros((len(days), _BINS))
    np.add.at(gaps, (place, bins), probability - label)
    return {
        "ece": np.abs(times @ gaps).sum(axis=1) / n,
        "brier": times @ np.bincount(place, weights=measures.brier(label, probability)) / n,
        "log loss": times @ np.bincount(place, weights=measures.log_loss(label, probability)) / n,
    }


def _print_measured(title: str, measured: Mapping[str, dict[str, Floats]]) -> None:
    """Print each method's measures in 1/10,000, and the interval of their difference from raw."""
    rows = []
    for method, values in measured.items():
        cells = []
        for measure, value in values.items():
            low, high = np.quantile(value - measured["raw"][measure], [0.025, 0.975]) * 1e4
            cells.append(f"{value[0] * 1e4:.2f}" + ("" if method == "raw" else f" [{low:+.2f}, {high:+.2f}]"))
        rows.append((method, *cells))
    table((f"{title}, in 1e-4 [minus raw]", "ECE", "Brier", "log loss"), rows)


def _shifted(name: str, world: World, folds: list[Fold]) -> list[Claim]:
    """Print what a changed share of frauds does, with the share known, and read off the scores."""
    rng = np.random.default_rng(1)
    rows, claims = [], []
    for factor in _SHIFTS:
        losses: dict[str, list[float]] = {}
        inside, ratios = 0, []
        for fold in folds:
            label = world.label[fold.test]
            kept = np.where(label, rng.random(len(label)) < factor, rng.random(len(label)) < 1 / factor)
            label, score = label[kept], fold.of(fold.test)[kept]
            found = calibration.base_rate_of(fold.fitted, score)
            inside += not found.excludes(float(label.mean()))
            ratios.append(found.rate / label.mean())
            by_way = {
                "not shifted": fold.fitted,
                "share known": calibration.at_base_rate(fold.fitted, float(label.mean())),
                "share estimated": calibration.at_base_rate(fold.fitted, found.rate),
            }
            for way, each in by_way.items():
                probability = calibration.apply(each, score)["probability"].astype(np.float64)
                losses.setdefault(way, []).append(float(measures.log_loss(label, probability).mean()))
        means = {way: float(np.mean(values)) * 1e4 for way, values in losses.items()}
        rows.append((f"x {factor:.3g}", *means.values(), float(np.mean(ratios)), f"{inside} of {len(folds)}"))
        title = f"{name}, frauds x {factor:.2g}: log loss with the share estimated / unshifted"
        claims.append(claim(title, means["share estimated"] / means["not shifted"], 1, at_least=False))
    header = (
        f"{name}: frauds",
        "not shifted",
        "share known",
        "share estimated",
        "estimate / true",
        "interval holds it",
    )
    table(header, rows)
    return claims


def _alerts(world: World) -> list[Claim]:
    """Print the alert rates on the test days, by where the threshold was set, in the handbook's 7/7/7 days.

    A trial learns from a week and is tried on the next; the shipped model learns from both. Its scores
    are others than the trial's, and too sure on the rows that it learned from.
    """
    rates: dict[float, list[list[float]]] = {budget: [] for budget in _BUDGETS}
    n_inside = n = 0
    for start in range(_FIRST_DAY, int(world.day[-1]) + 2 - 4 * _WEEK, 2 * _WEEK):
        known, delayed, test = (world.between(start + week * _WEEK, _WEEK) for week in (1, 2, 3))
        trial, shipped = (open_session(_grown(world, _SETTINGS, world.between(start, n * _WEEK))) for n in (1, 2))
        tried, learned = _scores(trial, world.x[known]), _scores(shipped, world.x[known])
        fresh, coming = _scores(shipped, world.x[delayed]), _scores(shipped, world.x[test])
        for budget, found in rates.items():
            on_fresh = threshold_from_unlabelled(fresh, world.day[delayed], budget=budget, horizon_days=_WEEK)
            labelled = (threshold_for_budget(score.astype(np.float64), budget=budget) for score in (tried, learned))
            reached = [float((coming >= np.float32(at)).mean()) for at in (*labelled, on_fresh.threshold)]
            found.append([rate / budget for rate in reached])
            n_inside += on_fresh.low <= reached[-1] <= on_fresh.high
            n += 1
    rows = []
    for budget, found in rates.items():
        ratio = np.array(found)
        miss = np.sqrt(((ratio - 1) ** 2).mean(axis=0))
        rows.append(
            (budget, *(f"{mean:.2f} (off by {off:.0%})" for mean, off in zip(ratio.mean(0), miss, strict=True)))
        )
    header = ("budget", "the trial's validation days", "the shipped model's own rows", "days without labels")
    table((f"alerts / budget, {len(found)} folds: {header[0]}", *header[1:]), rows)
    print(f"the interval set on days without labels holds the later alert rate {n_inside} times of {n}\n")
    claims = [claim("95 % intervals that hold the later alert rate", n_inside / n, 0.85, at_least=True)]
    if len(found) >= _MIN_FOLDS:
        off = np.sqrt(((np.array(list(rates.values())) - 1) ** 2).mean(axis=(0, 1)))
        title = "alerts off their budget: threshold from days without labels / from the trial's"
        claims.append(claim(title, off[2] / off[0], 1, at_least=False))
    return claims


def _scores(session: Any, x: NDArray[np.float32]) -> Scores:
    return np.asarray(session.run(["probability"], {"features": x})[0])


def _cost(world: World) -> list[Claim]:
    """Return the claim on processor time, with a 300-tree booster's graph with and without calibration."""
    settings = TreeSettings(learning_rate=0.05, num_leaves=31, max_bin=1023, max_rounds=_COST_ROUNDS, n_seeds=1)
    part = world.between(_FIRST_DAY, _TRAIN)
    graph = _grown(world, settings, part)
    known = world.between(_FIRST_DAY + _TRAIN, _WEEK)
    score = _scores(open_session(graph), world.x[known])
    fitted = calibration.fit_calibration(score, world.label[known], world.day[known])
    sessions = [open_session(onnx, threads=1) for onnx in (graph, calibration.calibrated(graph, fitted))]
    rows, ratios = [], {}
    for batch in (65_536, 4096, 1):
        x = np.ascontiguousarray(world.x[known][:batch])
        seconds = np.array([[_cpu_seconds(session, x) for session in sessions] for _ in range(15)])
        best = seconds.min(axis=0) / len(x)
        ratios[batch] = float(np.median(seconds[:, 1] / seconds[:, 0]) - 1)
        rows.append((len(x), *(1e-3 / best), *(1e6 * best), ratios[batch]))
    table(("rows a call", "k rows/CPU-s raw", "calibrated", "us a row raw", "calibrated", "cost"), rows)
    return [claim("cost of calibration in processor time, 65,536 rows a call", ratios[65_536], 0.15, at_least=False)]


def _cpu_seconds(session: Any, x: NDArray[np.float32]) -> float:
    repeats = max(65_536 // len(x), 1) if len(x) > 1 else 2000
    started = time.process_time()
    for _ in range(repeats):
        session.run(None, {"features": x})
    return (time.process_time() - started) / repeats


if __name__ == "__main__":
    main()
