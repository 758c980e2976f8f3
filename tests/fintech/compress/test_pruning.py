"""Pruning the network inside a sealed graph: narrower, and as many alerts as before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from tests.fintech.compress.conftest import Sealed

from quatrain.core.compression.artifact import Artifact
from quatrain.core.compression.planned import Materials, PlannedPrune
from quatrain.core.compression.plans import parse
from quatrain.core.compression.trim import TrimTrees
from quatrain.core.errors import UsageError, UserError
from quatrain.core.graphs import log_odds
from quatrain.core.inference import open_session
from quatrain.fintech.compress.alerts import KeepsAlerts, shifted, threshold_of
from quatrain.fintech.compress.plan import fitted_steps
from quatrain.fintech.compress.pruning import OnNetwork, Perceptron, perceptron_of, with_network
from quatrain.fintech.compress.rows import Rows, read_rows
from quatrain.fintech.models.network import exported
from quatrain.fintech.models.network_recipe import with_quotients

OUTPUTS = ["probability", "low", "high", "score"]


@pytest.fixture(scope="module")
def rebuilt(perceptron: Sealed) -> Perceptron:
    """Return the bundle's network as a module."""
    return perceptron_of(perceptron.bundle)


@pytest.fixture(scope="module")
def rows(perceptron: Sealed) -> Rows:
    """Return the rows before and after the bundle's test began."""
    return read_rows(perceptron.config(), perceptron.bundle.manifest)


@pytest.fixture(scope="module")
def pruned(perceptron: Sealed, rebuilt: Perceptron, rows: Rows) -> Artifact:
    """Return the bundle's graph with half the channels."""
    bundle = perceptron.bundle
    config = perceptron.config(epochs=1)
    step = KeepsAlerts(
        step=OnNetwork(step=PlannedPrune(ratio=0.5).build(rebuilt.materials(config, rows)), perceptron=rebuilt),
        recent=rows.recent_x,
        threshold=threshold_of(bundle),
        alert_budget=bundle.manifest.decision["alert_budget"],
    )
    return step.apply(Artifact(bundle.onnx, bundle.manifest.inputs, bundle.manifest.outputs, bundle.golden()[0]))


def test_the_same_network_in_its_own_place_changes_no_bit(perceptron: Sealed, rebuilt: Perceptron) -> None:
    """Quotients ahead and calibration behind are those that were sealed."""
    network = exported(rebuilt.module.get_submodule("network"))
    onnx_of_network = with_quotients(
        network.onnx, rebuilt.ratios, n_inputs=len(perceptron.bundle.golden()[0]["features"][0])
    )
    golden, _ = perceptron.bundle.golden()
    before, after = (
        open_session(graph).run(OUTPUTS, golden)
        for graph in (perceptron.bundle.onnx, with_network(perceptron.bundle.onnx, onnx_of_network))
    )
    for name, expected, actual in zip(OUTPUTS, before, after, strict=True):
        np.testing.assert_array_equal(actual, expected, err_msg=name)


def test_half_the_channels_are_gone(perceptron: Sealed, pruned: Artifact) -> None:
    """The hidden layers of 32 and 16 become 16 and 8; inputs, quotients and outputs stay."""
    widths = [_widths(graph) for graph in (perceptron.bundle.onnx, pruned.onnx)]
    assert [width[1:] for width in widths] == [[32, 16, 1], [16, 8, 1]]
    assert widths[0][0] == widths[1][0]
    answers = dict(zip(OUTPUTS, open_session(pruned.onnx).run(OUTPUTS, perceptron.bundle.golden()[0]), strict=True))
    assert (answers["low"] <= answers["probability"]).all()
    assert (answers["probability"] <= answers["high"]).all()


def test_the_threshold_makes_as_many_alerts_as_before(perceptron: Sealed, pruned: Artifact, rows: Rows) -> None:
    """Of the latest rows before the test, though all scores have moved; the report says by how much."""
    threshold = perceptron.bundle.manifest.decision["threshold"]
    scores = [
        open_session(g).run(["score"], {"features": rows.recent_x})[0] for g in (perceptron.bundle.onnx, pruned.onnx)
    ]
    assert not np.array_equal(*scores)
    n_before, n_after = ((score >= threshold).sum() for score in scores)
    assert n_before == n_after > 0
    assert any("log odds shifted by" in note for note in pruned.notes)


def test_without_an_alert_the_row_at_the_budget_keeps_its_score() -> None:
    """Of a threshold that no recent row reaches, the budget says which score is held in place."""
    step = KeepsAlerts(step=TrimTrees(keep=1), recent=np.zeros((100, 1), np.float32), threshold=0.9, alert_budget=0.1)
    old = np.sort(np.random.default_rng(0).normal(-3, 0.5, 100))[::-1]
    assert step._shift(old, old + 1.5) == pytest.approx(-1.5)
    high = old + 5
    n_alerts = (high >= log_odds(np.array([0.9]))).sum()
    assert n_alerts > 10
    moved = old * 2 + step._shift(high, old * 2)
    assert (moved >= log_odds(np.array([0.9]))).sum() == n_alerts


def test_a_shift_moves_every_log_odd_alike(perceptron: Sealed) -> None:
    """By two: in float64 ahead of the calibration, so that score and bounds stay in order; by 0 nothing moves."""
    golden, expected = perceptron.bundle.golden()
    moved = dict(zip(OUTPUTS, open_session(shifted(perceptron.bundle.onnx, 2.0)).run(OUTPUTS, golden), strict=True))
    inside = (expected["score"] > 1e-3) & (expected["score"] < 0.9)
    np.testing.assert_allclose(log_odds(moved["score"])[inside], log_odds(expected["score"])[inside] + 2, atol=1e-4)
    assert (moved["low"] <= moved["probability"]).all()
    [same] = open_session(shifted(perceptron.bundle.onnx, 0.0)).run(["score"], golden)
    np.testing.assert_allclose(same, expected["score"], atol=1e-7)


def test_only_the_perceptron_is_pruned(perceptron: Sealed) -> None:
    """Another model, or weights that are not those of the graph, is refused with what to do."""
    bundle = perceptron.bundle
    recipe = {**bundle.manifest.training["recipe"], "model": "transformer"}
    other = bundle.manifest.model_copy(update={"training": {"recipe": recipe}})
    with pytest.raises(UsageError, match="fintech/fraud is transformer; leave prune out of the plan"):
        perceptron_of(replace(bundle, manifest=other))
    recipe = {
        **bundle.manifest.training["recipe"],
        "ratios": [[0, 1]] * len(bundle.manifest.training["recipe"]["ratios"]),
    }
    wrong = bundle.manifest.model_copy(update={"training": {"recipe": recipe}})
    with pytest.raises(UserError, match="does not give the bundle's golden probability"):
        perceptron_of(replace(bundle, manifest=wrong))


def test_pruning_comes_first(perceptron: Sealed) -> None:
    """A graph in integers has no module any more."""
    graph = onnx.load_from_string(perceptron.bundle.onnx).graph
    materials = Materials(calibration={"features": np.zeros((4, 3), np.float32)})
    with pytest.raises(UsageError, match="prune comes first in a plan"):
        fitted_steps(
            parse("int8,prune:0.5"), graph, materials=materials, on_network=lambda planned: planned.build(materials)
        )


def _widths(graph: bytes) -> list[int]:
    """Return what goes into the first dense layer, and what comes out of each."""
    model = onnx.load_from_string(graph)
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    layers = [shapes[node.input[1]] for node in model.graph.node if node.op_type == "Gemm"]
    return [layers[0][1], *(layer[0] for layer in layers)]
