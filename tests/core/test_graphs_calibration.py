"""Calibration inside a graph, against NumPy and closed forms."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import nn

from quatrain.core import export
from quatrain.core.graphs_calibration import LARGEST, OUTPUTS, SMALLEST, ScoreMap, calibrated_graph, log_odds
from quatrain.core.inference import open_session
from quatrain.core.steps import Steps

Floats = NDArray[np.float32]


def bounds(n_columns: int, *, n_edges: int = 300) -> Steps:
    """Return rising bounds, low below high, and a third column between them."""
    rng = np.random.default_rng(0)
    edges = np.unique(rng.random(n_edges).astype(np.float32))
    rising = np.sort(rng.random((len(edges) + 1, 3)), axis=0)
    low, middle, high = np.sort(rising, axis=1).T
    return Steps(edges, np.stack([low, high, middle][:n_columns], axis=1).astype(np.float32))


CURVED = ScoreMap(steps=bounds(2), curve=(0.8, 1.7, -0.4))
STEPPED = ScoreMap(steps=bounds(3), curve=None)


def identity_graph(*, name: str = "x", output: str = "probability") -> bytes:
    """Return the graph whose score is its input's first column."""
    made = helper.make_graph(
        [
            helper.make_node("Gather", [name, "first"], [output], axis=1),
        ],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch"])],
        [onnx.numpy_helper.from_array(np.array(0), "first")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(model.SerializeToString())


def scores(score_map: ScoreMap) -> Floats:
    """Return scores over all of [0, 1]: its ends, tiny ones, ones near 1, the edges and their neighbours."""
    rng = np.random.default_rng(1)
    edges = score_map.steps.edges
    extreme = [0, 1e-45, 1e-38, SMALLEST, 1e-6, 1 - 2**-24, 1]
    parts = [edges, np.nextafter(edges, np.float32(0)), rng.random(500), rng.random(200) ** 12, np.array(extreme)]
    return np.concatenate(parts).astype(np.float32)


@pytest.mark.parametrize("score_map", [CURVED, STEPPED], ids=["curve", "steps"])
def test_the_graph_gives_numpys_numbers_at_every_batch_size(score_map: ScoreMap) -> None:
    """Outputs agree to 1e-6 in batches of 1, 2, 7 and 64; scores exactly."""
    x = scores(score_map)
    expected = score_map(x)
    graph = calibrated_graph(identity_graph(), score_map)
    assert export.check_parity(graph, {"x": x[:, None]}, expected, atol=1e-6) <= 1e-6
    assert export.check_parity(graph, {"x": x[:, None]}, {"score": x}, atol=0) == 0
    session = open_session(graph)
    assert [(o.name, o.shape, o.type) for o in session.get_outputs()] == [
        (name, ["batch"], "tensor(float)") for name in OUTPUTS
    ]


@pytest.mark.parametrize("score_map", [CURVED, STEPPED], ids=["curve", "steps"])
def test_outputs_are_in_order_and_never_fall(score_map: ScoreMap) -> None:
    """The order is low <= probability <= high at every score, and none falls as the score rises."""
    x = np.sort(scores(score_map))
    session = open_session(calibrated_graph(identity_graph(), score_map))
    probability, low, high, _ = session.run(list(OUTPUTS), {"x": x[:, None]})
    assert (low <= probability).all()
    assert (probability <= high).all()
    for output in (probability, low, high):
        assert (np.diff(output) >= 0).all()
        assert ((output >= 0) & (output <= 1)).all()


def test_bounds_move_to_the_curve_only_where_it_leaves_them() -> None:
    """Where the probability lies inside, the bounds are the steps; outside, the nearer one is the probability."""
    x = scores(CURVED)
    answer, steps = CURVED(x), CURVED.steps(x)
    is_below, is_above = answer["probability"] < steps[:, 0], answer["probability"] > steps[:, 1]
    assert is_below.any()
    assert is_above.any()
    np.testing.assert_array_equal(answer["low"], np.where(is_below, answer["probability"], steps[:, 0]))
    np.testing.assert_array_equal(answer["high"], np.where(is_above, answer["probability"], steps[:, 1]))


def test_the_curve_is_the_odds_to_powers() -> None:
    """Closed form: s^a / (1 - s)^b times e^c are the odds."""
    x = np.linspace(0.01, 0.99, 99).astype(np.float32)
    s = x.astype(np.float64)
    odds = s**0.8 / (1 - s) ** 1.7 * np.exp(-0.4)
    np.testing.assert_allclose(CURVED(x)["probability"], odds / (1 + odds), rtol=1e-6)


def test_the_identity_curve_leaves_scores_as_they_are() -> None:
    """(1, 1, 0) is "not calibrated", but for the ends, which no log odds reach."""
    x = scores(CURVED)
    answer = ScoreMap(steps=bounds(2), curve=(1.0, 1.0, 0.0))(x)["probability"]
    np.testing.assert_allclose(answer, np.clip(x, SMALLEST, LARGEST), rtol=2e-7)


def test_the_curve_tells_the_largest_scores_apart() -> None:
    """The three largest float32 up to 1, and tiny ones, keep their order in log odds."""
    top = np.float32(1) - np.array([2**-23, 2**-24, 0], dtype=np.float32)
    tiny = np.array([2e-9, 2.0000003e-9], dtype=np.float32)
    for x in (top, tiny):
        assert (np.diff(log_odds(x, (1.0, 1.0, 0.0))) > 0).all()


def test_a_torch_graph_is_calibrated_too() -> None:
    """What torch's exporter wrote takes the same nodes: names and versions do not clash."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 1), nn.Sigmoid(), nn.Flatten(0))
    graph = export.torch_model(model, {"features": torch.randn(4, 3)}, output_names=["probability"])
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    raw = open_session(graph).run(["probability"], {"features": x})[0]
    worst = export.check_parity(calibrated_graph(graph, CURVED), {"features": x}, CURVED(raw), atol=1e-6)
    assert worst <= 1e-6


def test_a_score_that_is_no_number_stays_none() -> None:
    """NaN leaves as NaN, so that the check on outputs sees it."""
    session = open_session(calibrated_graph(identity_graph(), CURVED))
    answer = session.run(list(OUTPUTS), {"x": np.full((2, 1), np.nan, dtype=np.float32)})
    assert np.isnan(answer[OUTPUTS.index("score")]).all()
    assert np.isnan(answer[OUTPUTS.index("probability")]).all()


def test_the_same_calibration_gives_the_same_bytes() -> None:
    """A digest of the graph means the same model."""
    assert calibrated_graph(identity_graph(), CURVED) == calibrated_graph(identity_graph(), CURVED)


def test_a_graph_is_calibrated_once() -> None:
    """A second time would read a probability as a score."""
    graph = calibrated_graph(identity_graph(), CURVED)
    with pytest.raises(ValueError, match=re.escape("expected one output, probability float (batch), got probability")):
        calibrated_graph(graph, CURVED)


def test_a_graph_of_another_output_is_refused() -> None:
    """The output to calibrate is the one that every fraud model has."""
    with pytest.raises(ValueError, match=re.escape("got value float (batch)")):
        calibrated_graph(identity_graph(output="value"), CURVED)


def test_an_input_that_is_named_like_an_output_is_refused() -> None:
    """Two values of one name are no graph."""
    with pytest.raises(ValueError, match="rename the graph's input score"):
        calibrated_graph(identity_graph(name="score"), CURVED)


@pytest.mark.parametrize(
    ("n_columns", "curve", "message"),
    [
        (3, (1.0, 1.0, 0.0), "expected 2 columns of steps, got 3"),
        (2, None, "expected 3 columns of steps, got 2"),
        (2, (-0.1, 1.0, 0.0), "a and b of the curve must be at least 0"),
        (2, (1.0, 1.0, np.inf), "all finite"),
    ],
)
def test_a_map_that_could_fall_is_refused(
    n_columns: int, curve: tuple[float, float, float] | None, message: str
) -> None:
    """A calibrated probability never ranks two scores the other way round."""
    with pytest.raises(ValueError, match=message):
        ScoreMap(steps=bounds(n_columns), curve=curve)
