"""The first trees of a booster, against LightGBM's own answer after so many rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.bundle.open import Bundle
from quatrain.core.bundle.seal import seal
from quatrain.core.compression.artifact import Artifact
from quatrain.core.compression.gate import Gate, RefusedError
from quatrain.core.compression.measures import area_under_roc, held_back
from quatrain.core.compression.plan import CompressionResult, compress
from quatrain.core.compression.trim import TrimTrees
from quatrain.core.ensemble import ensemble_node
from quatrain.core.export import check_parity, finished, lightgbm_model, model_of
from quatrain.core.inference import open_session
from quatrain.core.trees import Forest, Tree

N_TREES = 60
FEATURES = TensorSpec(name="features", dtype="float32", shape=("batch", 6))
PROBABILITY = TensorSpec(name="probability", dtype="float32", shape=("batch",), low=0, high=1)


@pytest.fixture(scope="module")
def rows() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return 3000 rows of six columns, some values missing, and labels that depend on four of them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 6)).astype(np.float32)
    odds = 2 * x[:, 0] * x[:, 1] + np.sin(3 * x[:, 2]) + x[:, 3]
    x[rng.random(x.shape) < 0.03] = np.nan
    return x, (odds + rng.normal(size=3000) > 0).astype(np.int64)


@pytest.fixture(scope="module")
def booster(rows: tuple[NDArray[np.float32], NDArray[np.int64]]) -> lightgbm.Booster:
    """Return 60 trees."""
    x, y = rows
    settings = {"objective": "binary", "num_leaves": 15, "verbose": -1, "num_threads": 1, "learning_rate": 0.1}
    return lightgbm.train(settings, lightgbm.Dataset(x[:2000], y[:2000]), N_TREES)


@pytest.fixture
def artifact(booster: lightgbm.Booster) -> Artifact:
    """Return the booster's graph."""
    return Artifact(lightgbm_model(booster), (FEATURES,), (PROBABILITY,))


@pytest.mark.parametrize("n_kept", [1, 7, 59])
def test_the_first_trees_answer_as_lightgbm_does_after_so_many_rounds(
    artifact: Artifact, booster: lightgbm.Booster, rows: tuple[NDArray[np.float32], Any], n_kept: int
) -> None:
    """In every batch size, missing values included."""
    trimmed = TrimTrees(keep=n_kept).apply(artifact)
    x = rows[0][2000:2200]
    expected = booster.predict(x, num_iteration=n_kept).astype(np.float32)
    check_parity(trimmed.onnx, {"features": x}, {"probability": expected}, atol=1e-6)
    assert trimmed.notes == (f"60 trees to {n_kept}",)
    assert len(trimmed.onnx) < (n_kept / N_TREES + 0.1) * len(artifact.onnx)


def test_a_share_is_rounded_to_trees(artifact: Artifact) -> None:
    """Half of 60 is 30, whichever way it is asked."""
    assert TrimTrees(keep=0.5).apply(artifact).onnx == TrimTrees(keep=30).apply(artifact).onnx
    assert TrimTrees(keep=0.001).apply(artifact).notes == ("60 trees to 1",)


def test_as_many_trees_as_there_are_is_nothing_to_do(artifact: Artifact, doubling_onnx: bytes) -> None:
    """Nor is a graph without trees."""
    for onnx_bytes in (artifact.onnx, doubling_onnx):
        with pytest.raises(RefusedError, match="no boosted ensemble of the graph has more trees than first 60 trees"):
            TrimTrees(keep=60).apply(replace(artifact, onnx=onnx_bytes))


def test_averaged_trees_are_left_alone() -> None:
    """Their sum is divided by their number, which a cut would falsify: no leaf of theirs is negative."""
    stump = Tree(
        feature=np.array([0]),
        threshold=np.array([0.5]),
        nan_goes_left=np.array([True]),
        left=np.array([-1]),
        right=np.array([-2]),
        leaf_value=np.array([1.0, 2.0]),
    )
    forest = Forest(trees=(stump,) * 4, n_features=1, sigmoid=None)
    nodes = [
        helper.make_node("Cast", ["features"], ["wide"], to=TensorProto.DOUBLE),
        ensemble_node(forest, features="wide", output="sums"),
        helper.make_node("Mul", ["sums", "quarter"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes,
        "paths",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 1])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(np.array([0.25], np.float32), "quarter")],
    )
    with pytest.raises(RefusedError, match="no boosted ensemble"):
        TrimTrees(keep=2).apply(Artifact(finished(model_of(graph)), (), ()))


@pytest.fixture
def run(
    artifact: Artifact, rows: tuple[NDArray[np.float32], NDArray[np.int64]], tmp_path: Path
) -> Callable[..., CompressionResult]:
    """Return a function that runs a plan of one step on the sealed booster."""
    x, y = np.nan_to_num(rows[0]), rows[1]
    golden = {"features": x[:32]}
    answers = open_session(artifact.onnx, threads=1).run(["probability"], golden)
    bundle: Bundle = seal(
        tmp_path / "parent",
        name="fintech/fraud",
        task="classification",
        onnx=artifact.onnx,
        inputs=[FEATURES],
        outputs=[PROBABILITY],
        golden_inputs=golden,
        golden_outputs={"probability": answers[0]},
        card="# Trees\n",
        decision={"threshold": 0.5},
    )
    evaluate = held_back({"features": x[2000:]}, y[2000:], output="probability")

    def start(step: TrimTrees, **changes: Any) -> CompressionResult:
        gate = Gate(metric=area_under_roc, metric_name="auc", min_speedup=1e-3, n_resamples=100)
        return compress(bundle, [step], gate=replace(gate, **changes), evaluate=evaluate, folder=tmp_path / "plan")

    return start


def test_too_few_trees_are_refused_and_more_are_tried(run: Callable[..., CompressionResult]) -> None:
    """One tree of sixty loses too much; 31 and 46 are the milder cuts, and the first that passes is sealed."""
    result = run(TrimTrees(keep=1), metric_drop=0.03)
    names = [step.name for step in result.report.steps]
    assert names[0] == "first 1 trees"
    assert "auc falls by" in result.report.steps[0].reasons[0]
    assert names[1] == "first 31 trees"
    assert result.report.steps[-1].accepted
    assert result.bundle is not None
    inputs, expected = result.bundle.golden()
    check_parity(result.bundle.onnx, inputs, expected, atol=result.bundle.manifest.golden_atol, batches=(1, 2, 7, 64))


def test_labels_may_change_where_the_metric_holds(run: Callable[..., CompressionResult]) -> None:
    """Fewer trees are another model: it is judged by the metric alone."""
    result = run(TrimTrees(keep=0.5), metric_drop=0.05)
    measured = result.report.steps[0].measured
    assert measured is not None
    assert measured.agreement is not None
    assert measured.agreement < 0.995
    assert result.report.steps[0].accepted
    assert result.bundle is not None
    (node,) = [each for each in onnx.load_from_string(result.bundle.onnx).graph.node if "Ensemble" in each.op_type]
    assert node.op_type == "TreeEnsembleRegressor"


@pytest.mark.parametrize("keep", [0, -3, 1.5])
def test_parts_of_trees_are_an_error(keep: float) -> None:
    """Before any graph is read."""
    with pytest.raises(ValueError, match="expected a whole number of trees, or a share"):
        TrimTrees(keep=keep)
