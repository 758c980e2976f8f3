"""torch's sessions take and give NumPy arrays, whatever the batch, and refuse in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper
from tests.core.backends.conftest import WEIGHTS, onnx_bytes

from quatrain.core.backends import torch_sessions
from quatrain.core.backends.buckets import in_buckets, sized
from quatrain.core.backends.protocol import BackendError
from quatrain.core.backends.torch_graph import TorchGraph
from quatrain.core.backends.torch_sessions import TorchSession, compiler_options, open_compiled, open_eager
from quatrain.core.bundle.open import Bundle
from quatrain.core.inference import load_model


def rows(n: int) -> NDArray[np.float32]:
    """Return n rows that differ."""
    return np.random.default_rng(n).normal(size=(n, 3)).astype(np.float32)


@pytest.fixture
def untouched_threads() -> Any:
    """Give torch its threads back: they are one number for the process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("untouched_threads")
def test_a_sealed_model_answers_with_torch(seal_linear: Callable[..., Bundle]) -> None:
    """By name, through the public call, on as many threads as were asked for."""
    model = load_model(seal_linear().path, backend="torch", threads=1)
    for n in (1, 7, 300):
        np.testing.assert_allclose(model.predict(rows(n))["score"], (rows(n) @ WEIGHTS)[:, 0], rtol=1e-5, atol=1e-6)
    assert torch.get_num_threads() == 1


@pytest.mark.usefixtures("untouched_threads")
def test_a_read_only_array_is_taken_without_a_warning(linear_onnx: bytes) -> None:
    """As NumPy gives them from a file or a message."""
    x = np.frombuffer(rows(2).tobytes(), np.float32).reshape(2, 3)
    assert not x.flags.writeable
    open_eager(linear_onnx, threads=1).run(None, {"features": x})


@pytest.mark.usefixtures("untouched_threads")
def test_what_torch_cannot_compute_is_a_refusal(monkeypatch: pytest.MonkeyPatch, linear_onnx: bytes) -> None:
    """The text names the backend, the batch and torch's own first line."""
    with pytest.raises(BackendError, match=r"torch cannot compute this batch of 2: .*(shape|multipl)"):
        open_eager(linear_onnx, threads=1).run(None, {"features": rows(2)[:, :2]})

    def fails(*_: object) -> None:
        raise RuntimeError("CppCompileError: no compiler\ntrace")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fails)
    with pytest.raises(
        BackendError, match=r"torch-compile cannot compute this batch of 2: CppCompileError: no compiler$"
    ):
        open_compiled(linear_onnx, threads=1).run(None, {"features": rows(2)})


@pytest.mark.usefixtures("untouched_threads")
def test_a_compiled_graph_sees_only_the_sizes_of_buckets(monkeypatch: pytest.MonkeyPatch, linear_onnx: bytes) -> None:
    """So that nothing is compiled anew after the first call of each bucket."""
    sizes: list[int] = []

    def compiled(body: Any, **options: Any) -> Any:
        assert options == {"dynamic": False, "options": compiler_options(torch.device("cpu"))}

        def call(*tensors: torch.Tensor) -> Any:
            sizes.append(len(tensors[0]))
            return body.forward(*tensors)

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    session = open_compiled(linear_onnx, threads=1)
    for n in (1, 3, 8, 100, 600):
        x = rows(n)
        np.testing.assert_allclose(session.run(None, {"features": x})[0], (x @ WEIGHTS)[:, 0], rtol=1e-5, atol=1e-6)
    assert sizes == [1, 8, 8, 256, 256, 256, 256]


@pytest.mark.usefixtures("untouched_threads")
def test_an_output_without_the_batch_is_refused_where_rows_are_filled_up() -> None:
    """Cutting such an output would give a wrong answer silently."""
    graph = torch_sessions.torch_graph(onnx_bytes([helper.make_node("ReduceMax", ["features"], ["score"], keepdims=0)]))
    assert isinstance(graph, TorchGraph)
    session = TorchSession("aoti", graph, lambda tensors, _: graph(*tensors), threads=1, is_padded=True)
    with pytest.raises(BackendError, match="aoti cannot compute this batch of 3"):
        session.run(None, {"features": rows(3)})


def test_long_batches_go_in_parts_and_short_ones_are_filled_up_with_the_last_row() -> None:
    """What fills up is data that the model takes, and no more than that is computed."""
    seen: list[NDArray[Any]] = []

    def run(arrays: dict[str, NDArray[Any]], bucket: int) -> list[NDArray[Any]]:
        seen.append(arrays["x"])
        assert len(arrays["x"]) == bucket
        return [2 * arrays["x"]]

    x = np.arange(259)
    np.testing.assert_array_equal(in_buckets({"x": x}, run)[0], 2 * x)
    assert seen[1].tolist() == [256, 257, 258, 258, 258, 258, 258, 258]


def test_rows_are_repeated_or_cut_to_a_size() -> None:
    """For a batch of each bucket made of the golden rows."""
    assert sized({"x": np.arange(3)}, 7)["x"].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert sized({"x": np.arange(3)}, 2)["x"].tolist() == [0, 1]
