"""NNCF's int8 graphs: what runs in integers, that they mean what the standard says, and that nothing is sent."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import version_converter
from onnx.reference import ReferenceEvaluator
from tests.core.compression.conftest import Digits
from torch import nn

from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.compression.artifact import Artifact
from quatrain.core.compression.gate import RefusedError
from quatrain.core.compression.kernels import cost_of
from quatrain.core.compression.measures import sqnr_db
from quatrain.core.compression.nncf_int8 import NncfInt8
from quatrain.core.compression.quantize import Int8
from quatrain.core.errors import MissingExtraError
from quatrain.core.export import torch_model
from quatrain.core.inference import open_session

# Not by importing it: that takes hold of the process's loggers, which a test here denies.
pytestmark = pytest.mark.skipif(find_spec("nncf") is None, reason="quatrain-core[openvino] is not installed")

IMAGE = TensorSpec(name="image", dtype="float32", shape=("batch", 1, 8, 8))


@pytest.fixture
def artifact(cnn_onnx: bytes) -> Artifact:
    """Return the trained network as a plan's first artifact."""
    return Artifact(cnn_onnx, (IMAGE,), ())


@pytest.fixture(scope="module")
def int8(cnn_onnx: bytes, digits: Digits) -> Artifact:
    """Return the network in NNCF's int8."""
    return NncfInt8(calibration=digits.calibration).apply(Artifact(cnn_onnx, (IMAGE,), ()))


def test_every_product_runs_in_integers_with_the_fast_types(int8: Artifact, digits: Digits) -> None:
    """Activations are uint8, weights int8 per channel: the pair that VNNI multiplies."""
    cost = cost_of(int8.onnx, {"image": digits.x_test[:1]})
    assert (cost.integer_kernels, cost.integer_share) == (3, 1.0)
    graph = onnx.load_from_string(int8.onnx).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    kinds = {constants[node.input[2]].data_type for node in graph.node if node.op_type == "QuantizeLinear"}
    assert kinds == {onnx.TensorProto.UINT8}


def test_the_graph_means_what_the_onnx_standard_says(int8: Artifact, digits: Digits) -> None:
    """The reference evaluator, pure NumPy, gives the answers of ONNX Runtime's integer kernels."""
    newer = version_converter.convert_version(onnx.load_from_string(int8.onnx), 21)
    rows = {"image": digits.x_test[:8]}
    expected = ReferenceEvaluator(newer).run(None, rows)[0]
    actual = open_session(int8.onnx, threads=1).run(None, rows)[0]
    np.testing.assert_allclose(actual, expected, atol=0.02)


def test_openvino_gives_the_answers_of_onnx_runtime(int8: Artifact, digits: Digits, tmp_path: Path) -> None:
    """One file for both: that is why the artifact is ONNX."""
    openvino = pytest.importorskip("openvino")
    path = tmp_path / "int8.onnx"
    path.write_bytes(int8.onnx)
    compiled = openvino.Core().compile_model(str(path), "CPU")
    image = digits.x_test[:64]
    theirs = compiled([image])[0]
    ours = open_session(int8.onnx, threads=1).run(None, {"image": image})[0]
    assert (theirs.argmax(1) == ours.argmax(1)).all()
    np.testing.assert_allclose(theirs, ours, atol=0.05)


def test_transformer_mode_is_closer_than_int8_everywhere() -> None:
    """Attention with outlying features: norms and sums stay in float, and outliers move into the weights."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.parts = nn.LayerNorm(32), nn.ModuleList(nn.Linear(32, 32) for _ in range(4))
            self.wide, self.narrow = nn.Linear(32, 128), nn.Linear(128, 32)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            query, key, value = (part(self.norm(x)) for part in self.parts[:3])
            x = x + self.parts[3](torch.softmax(query @ key.transpose(1, 2) / 32**0.5, dim=-1) @ value)
            return x + self.narrow(torch.nn.functional.gelu(self.wide(x)))

    torch.manual_seed(0)
    model = Block()
    with torch.no_grad():
        model.norm.weight[0] = 40.0
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 6, 32)).astype(np.float32)
    x[..., 3] *= 30
    before = Artifact(
        torch_model(model, {"x": torch.from_numpy(x[:2])}, output_names=["y"]),
        (TensorSpec(name="x", dtype="float32", shape=("batch", 6, 32)),),
        (),
    )
    rows = {"x": x[:48]}
    expected = open_session(before.onnx, threads=1).run(None, {"x": x[48:]})[0]
    noise = {}
    in_integers = cost_of(NncfInt8(calibration=rows, model_type="transformer").apply(before).onnx, {"x": x})
    # All but the two products of activations.
    assert in_integers.integer_share > 0.9
    for step in (NncfInt8(calibration=rows, model_type="transformer"), Int8(calibration=rows, method="minmax")):
        answers = open_session(step.apply(before).onnx, threads=1).run(None, {"x": x[48:]})[0]
        noise[step.name] = sqnr_db(expected, answers)
    assert noise["int8 nncf transformer"] > noise["int8"] + 3, noise


def test_a_node_kept_in_float_runs_in_float(artifact: Artifact, digits: Digits) -> None:
    """Sensitive nodes are named as ONNX names them."""
    first = next(node.name for node in onnx.load_from_string(artifact.onnx).graph.node if node.op_type == "Conv")
    kept = NncfInt8(calibration=digits.calibration, keep_float=(first,)).apply(artifact)
    assert cost_of(kept.onnx, {"image": digits.x_test[:1]}).integer_kernels == 2


def test_constants_are_refused_as_calibration(artifact: Artifact) -> None:
    """By the same check as every calibrated step."""
    with pytest.raises(RefusedError, match="has 1 different rows of 64"):
        NncfInt8(calibration={"image": np.zeros((64, 1, 8, 8), np.float32)}).apply(artifact)


def test_a_graph_without_products_is_refused(doubling_onnx: bytes) -> None:
    """NNCF itself would give the graph back unchanged."""
    spec = TensorSpec(name="features", dtype="float32", shape=("batch", 2))
    rows = np.random.default_rng(0).uniform(0, 5, (40, 2)).astype(np.float32)
    with pytest.raises(RefusedError, match="there is nothing to quantise: no product is left"):
        NncfInt8(calibration={"features": rows}).apply(Artifact(doubling_onnx, (spec,), ()))


def test_the_same_settings_give_the_same_bytes(artifact: Artifact, int8: Artifact, digits: Digits) -> None:
    """A rerun elsewhere is recognised by its digest."""
    assert NncfInt8(calibration=digits.calibration).apply(artifact).onnx == int8.onnx


def test_nothing_is_printed_and_loggers_stay_as_they_were(
    artifact: Artifact, digits: Digits, capfd: pytest.CaptureFixture[str]
) -> None:
    """NNCF prints bars to stdout, logs there, and would make every later logger one of its own class."""
    root = logging.getLogger()
    before = (list(root.handlers), list(root.filters), root.level)
    NncfInt8(calibration=digits.calibration).apply(artifact)
    assert (list(root.handlers), list(root.filters), root.level) == before
    assert logging.getLoggerClass() is logging.Logger
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


# Runs outside pytest, where NNCF would switch its telemetry off by itself.
_ALONE = """
import json, socket, sys
from pathlib import Path
tried = []
def refuse(*arguments, **_):
    tried.append(repr(arguments))
    raise OSError("no network here")
for name in ("getaddrinfo", "create_connection"):
    setattr(socket, name, refuse)
socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = refuse
if sys.argv[2] == "ours":
    import numpy as np
    from quatrain.core.bundle.manifest import TensorSpec
    from quatrain.core.compression.artifact import Artifact
    from quatrain.core.compression.nncf_int8 import NncfInt8
    rows = np.random.default_rng(0).uniform(size=(16, 1, 8, 8)).astype(np.float32)
    spec = TensorSpec(name="image", dtype="float32", shape=("batch", 1, 8, 8))
    step = NncfInt8(calibration={"image": rows})
    given = Artifact(Path(sys.argv[1]).read_bytes(), (spec,), ())
    assert step.apply(given).onnx != given.onnx
else:
    import nncf
    nncf.telemetry.telemetry.send_event("test", "test", "test")
from nncf.telemetry import decorator
print(json.dumps([tried, type(decorator.telemetry).__name__]))
"""


@pytest.mark.parametrize("whose", ["ours", pytest.param("theirs", marks=pytest.mark.slow)])
def test_nncf_sends_nothing_and_leaves_nothing_in_the_home(cnn_onnx: bytes, tmp_path: Path, whose: str) -> None:
    """No socket is asked for anything, no identity is written; NNCF as it comes is the control that does so."""
    model, home = tmp_path / "model.onnx", tmp_path / "home"
    model.write_bytes(cnn_onnx)
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in {"CI", "TF_BUILD", "JENKINS_URL"}}
    done = subprocess.run(
        [sys.executable, "-c", _ALONE, str(model), whose],
        env=kept | {"HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    tried, kind = json.loads(done.stdout.splitlines()[-1])
    written = [path for path in home.rglob("*") if path.is_file() and "intel" in str(path)]
    if whose == "theirs":
        assert kind == "NNCFTelemetry"
        assert written
        return
    assert (tried, written) == ([], [])
    assert kind != "NNCFTelemetry"
    assert len(done.stdout.splitlines()) == 1


def test_without_the_extra_the_command_that_installs_it_is_said(
    artifact: Artifact, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NNCF and OpenVINO are large and wanted by few."""
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'quatrain-core\[openvino\]'"):
        NncfInt8(calibration=digits.calibration).apply(artifact)


def test_unknown_kinds_of_model_are_an_error(digits: Digits) -> None:
    """NNCF has one mode beside its own."""
    with pytest.raises(ValueError, match="model_type must be transformer or None, got 'cnn'"):
        replace(NncfInt8(calibration=digits.calibration), model_type="cnn")
