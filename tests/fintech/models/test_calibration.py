"""From scores to sealed probabilities: the choice of a map, its bounds, shifts, and the graph that holds them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit, logit

from quatrain.core import export
from quatrain.core.graphs_calibration import OUTPUTS
from quatrain.core.inference import open_session
from quatrain.fintech.metrics.scored import Floats, Labels
from quatrain.fintech.models import trees
from quatrain.fintech.models.calibration import (
    Calibration,
    Days,
    apply,
    at_base_rate,
    base_rate_of,
    calibrated,
    choose_method,
    fit_calibration,
    score_at,
)
from quatrain.fintech.models.trees import TreeSettings
from quatrain.fintech.models.venn_abers import grouped, venn_abers

Scores = NDArray[np.float32]
Window = tuple[Scores, Labels, Days]
METHODS = ("none", "beta", "isotonic")


def draw(n: int, *, seed: int = 0, centre: float = -4.0, bend: float = 1.0, shift: float = 0.0) -> Window:
    """Return scores over seven days and labels whose log odds are bend x those of the score + shift."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(centre, 2, n)
    score = expit(odds).astype(np.float32)
    return score, rng.random(n) < expit(bend * odds + shift), np.sort(rng.integers(0, 7, n))


@pytest.fixture(scope="module")
def window() -> Window:
    """Return a window on which scores are overconfident and too high."""
    return draw(8000, bend=0.8, shift=-1.0)


@pytest.fixture(scope="module", params=METHODS)
def calibration(window: Window, request: pytest.FixtureRequest) -> Calibration:
    """Return the window's calibration by each method."""
    return fit_calibration(*window, method=request.param)


def everywhere(window: Window) -> Scores:
    """Return scores all over [0, 1]: the window's, their neighbours, and the ends."""
    score = window[0][::20]
    near = [np.nextafter(score, np.float32(0)), np.nextafter(score, np.float32(1))]
    return np.sort(np.concatenate([score, *near, np.linspace(0, 1, 1001)])).astype(np.float32)


def test_outputs_are_in_order_and_never_fall(window: Window, calibration: Calibration) -> None:
    """The promise low <= probability <= high, at every score and for every method."""
    answer = apply(calibration, everywhere(window))
    assert (answer["low"] <= answer["probability"]).all()
    assert (answer["probability"] <= answer["high"]).all()
    for output in answer.values():
        assert output.dtype == np.float32
        assert (np.diff(output) >= 0).all()


def test_the_bounds_hold_the_venn_abers_pair(window: Window, calibration: Calibration) -> None:
    """Rounding is outwards and small; beyond it a bound moves only to let the probability in."""
    x = everywhere(window)
    groups = grouped(*window[:2])
    p0, p1 = venn_abers(groups)
    low = np.append(0.0, p0)[np.searchsorted(groups.score, x, side="right")]
    high = np.append(p1, 1.0)[np.searchsorted(groups.score, x, side="left")]
    answer = {name: values.astype(np.float64) for name, values in apply(calibration, x).items()}
    assert (answer["low"] <= low).all()
    assert (answer["high"] >= high).all()
    is_own = answer["low"] < answer["probability"]
    np.testing.assert_allclose(answer["low"][is_own], low[is_own], rtol=1.01 / 64)
    is_own = answer["high"] > answer["probability"]
    np.testing.assert_allclose(answer["high"][is_own], high[is_own], rtol=1.01 / 64)


def test_beta_parts_scores_that_isotonic_ties(window: Window) -> None:
    """The point keeps the ranking: every two scores of the window stay apart, where isotonic makes few steps."""
    x = np.unique(window[0])
    n_distinct = {
        method: len(np.unique(apply(fit_calibration(*window, method=method), x)["probability"]))
        for method in ("beta", "isotonic")
    }
    assert n_distinct["beta"] > 0.99 * len(x)
    assert n_distinct["isotonic"] < 0.02 * len(x)


@given(
    rows=st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=2, max_size=25).filter(
        lambda rows: len({label for _, label in rows}) == 2
    ),
    method=st.sampled_from(METHODS),
    rate=st.floats(0.001, 0.999),
)
@settings(deadline=None)
def test_no_window_and_no_shift_break_the_order(rows: list[tuple[float, bool]], method: str, rate: float) -> None:
    """Two rows, ties, scores of 0 and 1, any share of frauds: still in order and rising."""
    score, label = (np.array(values) for values in zip(*rows, strict=True))
    fitted = fit_calibration(score.astype(np.float32), label, np.arange(len(score)), method=method)
    x = np.unique(np.concatenate([score, np.linspace(0, 1, 50)]).astype(np.float32))
    answer = apply(at_base_rate(fitted, rate), x)
    assert (answer["low"] <= answer["probability"]).all()
    assert (answer["probability"] <= answer["high"]).all()
    for output in answer.values():
        assert (np.diff(output) >= 0).all()


def log_loss(probability: Floats, label: Labels) -> float:
    """Return the mean log loss."""
    return float(-np.log(np.where(label, probability, 1 - probability)).mean())


def test_calibration_mends_scores_on_later_days(window: Window) -> None:
    """On fresh rows of the same kind the probabilities sum to the frauds, and log loss falls to nearly its best."""
    score, label, _ = draw(40_000, seed=5, bend=0.8, shift=-1.0)
    probability = apply(fit_calibration(*window), score)["probability"].astype(np.float64)
    assert abs(score.sum() - label.sum()) > 300
    assert probability.sum() == pytest.approx(label.sum(), rel=0.1)
    best = log_loss(expit(0.8 * logit(score.astype(np.float64)) - 1), label)
    assert best < log_loss(probability, label) < 1.01 * best < log_loss(score.astype(np.float64), label)


def test_isotonic_is_not_chosen_where_a_curve_fits() -> None:
    """Steps only add noise where log odds are a line of the score's; where scores are right, "none" may be chosen."""
    for seed in range(6):
        assert choose_method(*draw(5000, seed=seed))[0] != "isotonic"
        method, losses = choose_method(*draw(5000, seed=seed, bend=0.7, shift=-1.5))
        assert method == "beta"
        assert min(losses, key=lambda name: losses[name]) == "beta"
        assert set(losses) == set(METHODS)


def test_isotonic_is_chosen_where_many_frauds_show_a_step() -> None:
    """A step function of the score is what no beta map can follow; with few rows it does not show."""

    def steps(n: int) -> Window:
        rng = np.random.default_rng(0)
        score = rng.random(n).astype(np.float32)
        rate = np.select([score < 0.3, score < 0.6, score < 0.9], [0.01, 0.3, 0.32], 0.95)
        return score, rng.random(n) < rate, np.sort(rng.integers(0, 7, n))

    assert choose_method(*steps(20_000))[0] == "isotonic"
    assert choose_method(*steps(150))[0] == "beta"


def test_losses_are_those_of_days_held_out(window: Window) -> None:
    """Written out once more: each day's mean log loss with a map fitted on the other six, then their mean."""
    score, label, day = window
    loss = {"beta": [], "none": []}
    for held in range(7):
        is_held = day == held
        beta = fit_calibration(score[~is_held], label[~is_held], day[~is_held], method="beta")
        loss["beta"].append(log_loss(apply(beta, score[is_held])["probability"].astype(np.float64), label[is_held]))
        loss["none"].append(log_loss(score[is_held].astype(np.float64), label[is_held]))
    _, losses = choose_method(score, label, day)
    for method, values in loss.items():
        assert losses[method] == pytest.approx(np.mean(values), rel=1e-6)


def test_held_out_days_are_days() -> None:
    """Scores that tell the day apart but not the fraud gain nothing: a random split of rows would be fooled."""
    rng = np.random.default_rng(0)
    day = np.repeat(np.arange(7), 2000)
    score = (0.1 + 0.1 * day + 0.001 * rng.random(len(day))).astype(np.float32)
    label = rng.random(len(day)) < np.array([0.02, 0.2, 0.03, 0.3, 0.02, 0.25, 0.3])[day]
    _, losses = choose_method(score, label, day)
    assert losses["isotonic"] > losses["beta"] - 0.01
    _, of_rows = choose_method(score, label, rng.integers(0, 7, len(day)))
    assert of_rows["isotonic"] < losses["isotonic"]


def test_a_window_too_small_to_compare_takes_beta() -> None:
    """One day, or one fraud, allows no comparison on days held out."""
    score, label, day = draw(500, shift=1.0)
    assert choose_method(score, label, np.zeros_like(day)) == ("beta", {})
    label = np.arange(500) == 17
    assert choose_method(score, label, day) == ("beta", {})
    assert fit_calibration(score, label, day).n_frauds == 1


def test_a_shift_moves_the_odds_of_all_three(window: Window, calibration: Calibration) -> None:
    """Elkan's formula, on the probability and on both bounds; the way back gives the first answer."""
    x = everywhere(window)
    shifted = at_base_rate(calibration, 0.3)
    factor = (0.3 / 0.7) / (calibration.base_rate / (1 - calibration.base_rate))
    before, after = apply(calibration, x), apply(shifted, x)
    for name in ("probability", "low", "high"):
        odds = before[name].astype(np.float64) / (1 - before[name].astype(np.float64) + 1e-300)
        np.testing.assert_allclose(after[name], odds * factor / (1 + odds * factor), atol=3e-7)
    assert at_base_rate(shifted, calibration.base_rate) == calibration


def test_a_shifted_calibration_holds_on_shifted_rows() -> None:
    """Thrice the frauds of the calibration window: the shift read off unlabelled scores mends the probabilities."""
    score, label, day = draw(60_000, seed=1)
    calibration = fit_calibration(score, label, day)
    later_score, later_label, _ = draw(60_000, seed=2)
    rng = np.random.default_rng(3)
    kept = later_label | (rng.random(len(later_label)) < 1 / 3)
    later_score, later_label = later_score[kept], later_label[kept]
    found = base_rate_of(calibration, later_score)
    assert found.low < later_label.mean() < found.high
    assert found.excludes(calibration.base_rate)
    before, after = (
        apply(each, later_score)["probability"].sum() for each in (calibration, at_base_rate(calibration, found.rate))
    )
    assert before < 0.6 * later_label.sum()
    assert after == pytest.approx(later_label.sum(), rel=0.08)


def test_no_shift_is_seen_where_there_is_none() -> None:
    """The old share lies inside the interval about as often as it says."""
    inside = 0
    for seed in range(40):
        calibration = fit_calibration(*draw(4000, seed=seed), method="beta")
        inside += not base_rate_of(calibration, draw(4000, seed=seed + 100)[0]).excludes(calibration.base_rate)
    assert inside >= 34


def test_a_probability_threshold_is_a_score_threshold(window: Window, calibration: Calibration) -> None:
    """Deciding on the raw score at `score_at` is deciding on the probability, for every float32 score."""
    x = everywhere(window)
    probability = apply(calibration, x)["probability"]
    for wanted in (0.01, 0.2, 0.5, float(probability[700])):
        np.testing.assert_array_equal(x >= np.float32(score_at(calibration, wanted)), probability >= wanted)
    assert score_at(calibration, 0.0) == 0


def test_a_probability_that_no_score_has_is_refused(window: Window) -> None:
    """An isotonic map ends below 1, and a threshold above it would never alert."""
    calibration = fit_calibration(*window, method="isotonic")
    with pytest.raises(ValueError, match=re.escape("no score is calibrated to 0.99999 or more; the highest is")):
        score_at(calibration, 0.99999)


def test_isotonic_never_says_never(window: Window) -> None:
    """No row is certain: one in n + 2 is the least and the most that n rows can show."""
    calibration = fit_calibration(*window, method="isotonic")
    probability = apply(calibration, np.array([0, 1], dtype=np.float32))["probability"]
    assert probability[0] >= np.float32(1 / 8002)
    assert probability[1] <= np.float32(1 - 1 / 8002)


def test_the_graph_gives_the_same_numbers(calibration: Calibration) -> None:
    """A booster's graph with the calibration inside, at batches of 1, 2, 7 and 64, also after a shift."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3)).astype(np.float32)
    label = rng.random(400) < expit(2 * x[:, 0] - 2)
    booster = trees.grow(TreeSettings(max_rounds=20, n_seeds=1), x, label, seed=0)
    graph = export.lightgbm_model(booster)
    raw = open_session(graph).run(["probability"], {"features": x})[0]
    for each in (calibration, at_base_rate(calibration, 0.01)):
        expected = apply(each, raw)
        assert tuple(expected) == OUTPUTS
        assert export.check_parity(calibrated(graph, each), {"features": x}, expected, atol=1e-6) <= 1e-6


def test_it_is_plain_numbers(calibration: Calibration) -> None:
    """JSON and back gives the same calibration; the summary leaves the long tables out."""
    text = calibration.model_dump_json()
    assert Calibration.model_validate_json(text) == calibration
    summary = json.loads(json.dumps(calibration.summary()))
    assert summary["n_frauds"] == calibration.n_frauds
    assert not {"edges", "bounds"} & set(summary)


def test_a_large_window_keeps_a_small_table() -> None:
    """Bounds of 40,000 different scores are rounded to some hundred steps."""
    calibration = fit_calibration(*draw(40_000), method="beta")
    assert len(calibration.edges) < 1500


def test_rows_of_two_lengths_are_refused(window: Window) -> None:
    """Every row has a day."""
    with pytest.raises(ValueError, match="scores and days need one length, got 8000 and 3"):
        fit_calibration(window[0], window[1], np.arange(3))
