"""What a model refuses, it refuses in the same words whatever runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper
from tests.core.backends.conftest import WEIGHTS, golden_features, linear_nodes, onnx_bytes

from quatrain.core.backends import aoti
from quatrain.core.backends.registry import NAMES
from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.bundle.seal import seal
from quatrain.core.errors import UserError
from quatrain.core.inference import InvalidInputError, InvalidOutputError, Model, load_model

# Finite, and larger than any float32 once it is doubled.
HUGE = np.float32(3e38)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Model]]:
    """Return the same bundle on every backend; what compiles is stood in for by the graph it would compile."""
    folder = tmp_path_factory.mktemp("every")
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUATRAIN_CORE__HOME", str(folder / "home"))
        patch.setenv("QUATRAIN_CORE__CACHE", str(folder / "cache"))
        patch.setattr(torch, "compile", lambda body, **_: body.forward)
        patch.setattr(aoti, "_build", lambda _body, _tensors, path: path.write_bytes(b"code"))
        linear = lambda x: [(x @ torch.from_numpy(WEIGHTS))[:, 0]]  # noqa: E731 - what a package gives
        patch.setattr(torch._inductor, "aoti_load_package", lambda _: linear)
        path = sealed(folder / "linear")
        yield {name: load_model(path, backend=name, threads=1) for name in NAMES}
    torch.set_num_threads(threads)


def sealed(path: Path) -> Path:
    """Return a sealed linear model with a range."""
    features = golden_features()
    spec = TensorSpec(name="features", dtype="float32", shape=("batch", 3), columns=("a", "b", "c"), low=-1000.0)
    bundle = seal(
        path,
        name="tests/linear",
        task="regression",
        onnx=onnx_bytes(linear_nodes()),
        inputs=[spec],
        outputs=[TensorSpec(name="score", dtype="float32", shape=("batch",))],
        golden_inputs={"features": features},
        golden_outputs={"score": (features @ WEIGHTS)[:, 0]},
        card="# A linear model\n",
    )
    return bundle.path


def outcome(model: Model, x: Any) -> str:
    """Return what the model says: its refusal, or that it answers."""
    try:
        model.predict(x)
    except UserError as error:
        return f"{type(error).__name__}: {error}"
    return "answers"


def spoilt(value: float) -> st.SearchStrategy[NDArray[np.float32]]:
    """Draw a valid batch with one value replaced."""

    def make(n: int, row: int, column: int) -> NDArray[np.float32]:
        features = np.resize(golden_features(), (n, 3)).astype(np.float32)
        features[row % n, column] = value
        return features

    return st.builds(make, st.integers(1, 70), st.integers(0, 69), st.integers(0, 2))


SHAPES = st.sampled_from([(0, 3), (3,), (2, 2), (2, 4), (1, 2, 3), (3, 0), ()])
BAD = st.one_of(
    st.sampled_from([np.nan, np.inf, -np.inf, -1001.0]).flatmap(spoilt),
    SHAPES.map(lambda shape: np.zeros(shape, np.float32)),
    st.sampled_from(["float64", "float16", "int64", "uint8", "bool", ">f4"]).map(lambda kind: np.zeros((2, 3), kind)),
    st.sampled_from([None, [[1.0, 2.0, 3.0]], {}, {"feature": np.zeros((1, 3), np.float32)}, "features"]),
)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(x=BAD)
def test_a_bad_input_is_refused_in_the_same_words_by_every_backend(models: dict[str, Model], x: Any) -> None:
    """NaN, infinity, a wrong shape, type or container, and nothing at all."""
    outcomes = {outcome(model, x) for model in models.values()}
    assert len(outcomes) == 1
    assert outcomes.pop().startswith(InvalidInputError.__name__)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(x=spoilt(float(HUGE)))
def test_an_input_too_large_to_compute_with_is_refused_in_the_same_words(models: dict[str, Model], x: Any) -> None:
    """Twice the largest number is no number; half of it is one."""
    outcomes = {outcome(model, x) for model in models.values()}
    assert len(outcomes) == 1
    is_doubled = bool((x[:, 2] == HUGE).any())
    assert outcomes.pop().startswith(InvalidOutputError.__name__ if is_doubled else "answers")


@pytest.mark.parametrize("n", [1, 8, 64, 300])
def test_every_backend_gives_the_same_numbers(models: dict[str, Model], n: int) -> None:
    """Small, subnormal and large ones; batches of a bucket's size, and longer ones."""
    rng = np.random.default_rng(n)
    x = (rng.normal(size=(n, 3)) * 10.0 ** rng.integers(-42, 2, (n, 3))).astype(np.float32)
    wanted = (x @ WEIGHTS)[:, 0]
    for name, model in models.items():
        np.testing.assert_allclose(model.predict(x)["score"], wanted, rtol=1e-5, atol=1e-30, err_msg=name)


def test_a_backend_with_other_numbers_does_not_load(
    seal_linear: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal names the backend and the difference."""
    graph = onnx_bytes([helper.make_node("Neg", ["features"], ["other"]), *linear_nodes()])
    path = seal_linear(onnx=graph).path
    for name in ("openvino", "torch"):
        target = "open_vino.open_session" if name == "openvino" else "torch_sessions.open_eager"
        module, function = target.split(".")
        wrong = lambda onnx, **_: Wrong(onnx)  # noqa: E731 - an opener
        monkeypatch.setattr(f"quatrain.core.backends.{module}.{function}", wrong)
        with pytest.raises(UserError, match=f"golden outputs here with the backend {name}: score differs by 1 at row"):
            load_model(path, backend=name, threads=1)
    assert load_model(path, threads=1).backend == "onnxruntime"


class Wrong:
    """ONNX Runtime, off by one."""

    def __init__(self, onnx: bytes) -> None:
        from quatrain.core.inference import open_session

        self._session = open_session(onnx, threads=1)
        self.get_inputs, self.get_outputs = self._session.get_inputs, self._session.get_outputs

    def run(self, names: Any, arrays: Any) -> list[NDArray[Any]]:
        """Return wrong answers."""
        return [array + 1 for array in self._session.run(names, arrays)]
