"""Which steps suit a bundle: matrix products in integers, all that reads inputs as they come in float."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import lightgbm as lgb
import numpy as np
import onnx
import pytest
from tests.fintech.compress.conftest import Sealed

from quatrain.core import export
from quatrain.core.compression.artifact import Step
from quatrain.core.compression.planned import Materials, Planned
from quatrain.core.compression.quantize import MATMUL_ONLY, DynamicInt8, Int8
from quatrain.core.errors import UsageError, UserError
from quatrain.fintech.compress.plan import fitted_steps, planned_steps, suited_graph
from quatrain.fintech.compress.run import compress
from quatrain.fintech.models.network import exported, make
from quatrain.fintech.models.network_settings import TransformerSettings

MATERIALS = Materials(calibration={"features": np.zeros((4, 3), np.float32)})


@pytest.fixture(scope="module")
def transformer() -> onnx.GraphProto:
    """Return the graph of an untrained Transformer over three inputs."""
    x = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    settings = TransformerSettings(width=16, blocks=1, heads=2, bins=4)
    return onnx.load_from_string(exported(make("transformer", x, settings, prior=0.1)).onnx).graph


def int8_only(planned: Planned) -> Step:
    """Stand in for what makes a step on the network."""
    raise AssertionError(planned)


def test_unless_asked_otherwise_products_alone_are_in_static_int8(transformer: onnx.GraphProto) -> None:
    """Ranges come from calibration rows, and milder forms are there where all is too coarse."""
    [step] = fitted_steps(planned_steps("auto"), transformer, materials=MATERIALS, on_network=int8_only)
    assert isinstance(step, Int8)
    assert (step.operators, step.mixed) == (MATMUL_ONLY, 4)
    [asked] = fitted_steps(planned_steps("int8:operators=Gemm"), transformer, materials=MATERIALS, on_network=int8_only)
    assert isinstance(asked, Int8)
    assert asked.operators == ("Gemm",)


@pytest.mark.parametrize("plan", ["int8", "dynamic-int8"])
def test_a_matrix_for_each_input_stays_in_float(plan: str, transformer: onnx.GraphProto) -> None:
    """ONNX Runtime's integer products take one matrix: the tokens' weights are a stack of them."""
    [step] = fitted_steps(planned_steps(plan), transformer, materials=MATERIALS, on_network=int8_only)
    assert isinstance(step, Int8 | DynamicInt8)
    [name] = step.keep_float
    [node] = [node for node in transformer.node if node.name == name]
    weights = {tensor.name: tensor.dims for tensor in transformer.initializer}
    assert [list(weights[source]) for source in node.input if source in weights] == [[3, 7, 16]]


def test_trees_alone_are_refused_with_what_can_be_done(perceptron: Sealed, rng: np.random.Generator) -> None:
    """Nothing in them is multiplied, though their answers are calibrated in the same graph."""
    x = rng.normal(size=(200, 3)).astype(np.float32)
    booster = lgb.train({"objective": "binary", "verbose": -1}, lgb.Dataset(x, (x[:, 0] > 0).astype(float)), 3)
    trees = replace(perceptron.bundle, onnx=export.lightgbm_model(booster))
    with pytest.raises(UserError, match=r"fintech/fraud is made of trees only: .* --set recipe\.model=mlp"):
        suited_graph(trees, planned_steps("auto"))
    assert suited_graph(trees, planned_steps("trim-trees:0.5")).node
    assert suited_graph(perceptron.bundle, planned_steps("auto")).node


def test_a_plan_is_read_before_the_data(perceptron: Sealed, tmp_path: Path) -> None:
    """A slip of the pen costs no minutes."""
    with pytest.raises(UsageError, match="step 2 of the plan is unknown: 'int9'; did you mean 'int8'"):
        compress(perceptron.config(tmp_path / "out", data="no/such/file.parquet", plan="int8,int9"))
    assert not (tmp_path / "out").exists()


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a generator of known seed."""
    return np.random.default_rng(0)
