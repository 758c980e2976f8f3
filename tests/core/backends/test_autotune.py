"""The choice by measurement: only what reproduces the golden outputs, kept for this machine and these versions."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.core.backends.conftest import WEIGHTS

from quatrain.core.backends import autotune, choices, registry
from quatrain.core.backends.autotune import seconds_per_call, tuned
from quatrain.core.backends.buckets import BUCKETS
from quatrain.core.backends.onnx_runtime import open_session
from quatrain.core.backends.protocol import BackendError
from quatrain.core.bundle.open import Bundle
from quatrain.core.inference import load_model


class Altered:
    """ONNX Runtime's session whose answers, and the time they take, are what a test wants."""

    def __init__(self, onnx: bytes, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        self._session = open_session(onnx, threads=1)
        self._change = change

    def get_inputs(self) -> Any:
        """Return the graph's inputs."""
        return self._session.get_inputs()

    def get_outputs(self) -> Any:
        """Return the graph's outputs."""
        return self._session.get_outputs()

    def run(self, names: Any, arrays: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the changed answers."""
        return [self._change(array) for array in self._session.run(names, dict(arrays))]


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that makes names open what it is given, and timings what it says."""

    def apply(seconds: Mapping[str, float], **changes: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        def opener(name: str) -> Any:
            change = changes.get(name, lambda array: array)
            return lambda onnx, **_: Altered(onnx, change)

        def timed(calls: Mapping[str, Any], **_: Any) -> dict[str, list[float]]:
            return {name: [seconds[name]] for name in calls}

        monkeypatch.setattr(registry, "_OPENERS", dict.fromkeys(seconds, ("", "")))
        monkeypatch.setattr(autotune, "opener_of", opener)
        monkeypatch.setattr("quatrain.core.inference.opener_of", opener)
        monkeypatch.setattr(autotune, "seconds_per_call", timed)

    return apply


def tune(bundle: Bundle, *names: str, **options: Any) -> choices.Choices:
    """Return the choice among the named backends on one thread."""
    return tuned(bundle, reference="tests/linear", threads=1, names=names, **options)


def test_the_fastest_that_agrees_serves_each_bucket(
    seal_linear: Callable[..., Bundle], pretend: Callable[..., None]
) -> None:
    """And what it was measured at is kept beside it."""
    pretend({"onnxruntime": 3.0, "openvino": 2.0, "torch": 2.5})
    found = tune(seal_linear(), "openvino", "torch")
    assert found.backends == dict.fromkeys(BUCKETS, "openvino")
    assert found.seconds["torch"] == dict.fromkeys(BUCKETS, 2.5)
    assert found.refused == {}
    assert found.text() == "1 openvino, 8 openvino, 64 openvino, 256 openvino"


def test_a_gain_within_the_noise_keeps_the_default(
    seal_linear: Callable[..., Bundle], pretend: Callable[..., None]
) -> None:
    """A second runtime costs memory and start-up."""
    pretend({"onnxruntime": 1.0, "openvino": 0.98})
    assert set(tune(seal_linear(), "openvino").backends.values()) == {"onnxruntime"}


def test_the_fastest_that_gives_other_numbers_is_refused_by_name(
    seal_linear: Callable[..., Bundle], pretend: Callable[..., None]
) -> None:
    """As bfloat16 would: four times as fast, and wrong in the third digit."""
    pretend({"onnxruntime": 4.0, "openvino": 1.0}, openvino=lambda array: array * np.float32(1.004))
    found = tune(seal_linear(), "openvino")
    assert set(found.backends.values()) == {"onnxruntime"}
    assert "does not reproduce its golden outputs here with the backend openvino" in found.refused["openvino"]


def test_one_that_goes_wrong_in_a_large_batch_only_serves_none(
    seal_linear: Callable[..., Bundle], pretend: Callable[..., None]
) -> None:
    """The golden rows are few; each bucket is compared at its own size."""
    pretend({"onnxruntime": 4.0, "openvino": 1.0}, openvino=lambda array: array + np.float32(len(array) == 256))
    found = tune(seal_linear(), "openvino")
    assert set(found.backends.values()) == {"onnxruntime"}
    assert found.refused == {"openvino": "with 256 rows it differs by 1, at most 0.0001 is allowed"}


def test_a_backend_that_is_not_installed_is_refused_by_name(
    seal_linear: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(registry._PACKAGES, "openvino", ("no_such_package", "quatrain-core[openvino]"))
    found = tune(seal_linear(), "openvino", rounds=1)
    assert found.refused["openvino"].endswith("run `pip install 'quatrain-core[openvino]'`")


def test_what_was_measured_is_used_and_not_measured_again(
    seal_linear: Callable[..., Bundle], pretend: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """backend="auto" then takes it; without a measurement it is ONNX Runtime and opens nothing else."""
    bundle = seal_linear()
    pretend({"onnxruntime": 3.0, "openvino": 1.0})
    assert load_model(bundle.path, threads=1).backend == "onnxruntime"
    tune(bundle, "openvino")
    monkeypatch.setattr(autotune, "_measured", lambda *_, **__: pytest.fail("measured again"))
    assert tune(bundle, "openvino").backends[1] == "openvino"
    model = load_model(bundle.path, threads=1)
    assert model.backend == "1 openvino, 8 openvino, 64 openvino, 256 openvino"
    x = np.ones((2, 3), dtype=np.float32)
    np.testing.assert_allclose(model.predict(x)["score"], (x @ WEIGHTS)[:, 0], rtol=1e-6)
    assert load_model(bundle.path, threads=2).backend == "onnxruntime"


@pytest.mark.parametrize("change", ["version", "processor", "damaged", "other bundle"])
def test_a_stale_choice_is_not_used_and_is_replaced(
    seal_linear: Callable[..., Bundle], pretend: Callable[..., None], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """What was fast with another version, or on another machine, says nothing."""
    bundle = seal_linear()
    pretend({"onnxruntime": 3.0, "openvino": 1.0})
    tune(bundle, "openvino")
    (file,) = choices._folder().glob("*.json")
    if change == "version":
        monkeypatch.setattr(choices, "_versions", lambda: {"onnxruntime": "99"})
    elif change == "processor":
        monkeypatch.setattr(choices, "fingerprint", lambda: {"cpu": "another", "features": [], "gpus": []})
    elif change == "damaged":
        file.write_text(file.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    else:
        document = json.loads(file.read_text(encoding="utf-8"))
        document["key"]["bundle"] = "0" * 64
        file.write_text(json.dumps(document), encoding="utf-8")
    assert load_model(bundle.path, threads=1).backend == "onnxruntime"
    pretend({"onnxruntime": 1.0, "openvino": 3.0})
    assert set(tune(bundle, "openvino").backends.values()) == {"onnxruntime"}


def test_tuning_at_load_measures_once(seal_linear: Callable[..., Bundle], pretend: Callable[..., None]) -> None:
    """`tune` is for who loads once and stays."""
    bundle = seal_linear()
    pretend({name: 1.0 if name == "openvino" else 3.0 for name in registry.NAMES})
    assert "openvino" in load_model(bundle.path, threads=1, tune=True).backend
    assert "openvino" in load_model(bundle.path, threads=1).backend


def test_a_chosen_backend_that_fails_later_is_left_out_with_one_warning(
    seal_linear: Callable[..., Bundle], pretend: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """The batch that met the failure is answered all the same."""

    def fails(_: NDArray[Any]) -> NDArray[Any]:
        if is_broken:
            raise BackendError("openvino cannot compute this batch: out of memory")
        return _

    is_broken = False
    bundle = seal_linear()
    pretend({"onnxruntime": 3.0, "openvino": 1.0}, openvino=fails)
    tune(bundle, "openvino")
    model = load_model(bundle.path, threads=1)
    x = np.ones((2, 3), dtype=np.float32)
    wanted = model.predict(x)["score"]
    is_broken = True
    for _ in range(3):
        np.testing.assert_array_equal(model.predict(x)["score"], wanted)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "openvino was fastest here and fails now; onnxruntime takes its place" in warning


def test_an_opener_of_ones_own_is_not_replaced(
    seal_linear: Callable[..., Bundle], pretend: Callable[..., None]
) -> None:
    """It knows the graph better than any backend."""
    bundle = seal_linear()
    pretend({"onnxruntime": 3.0, "openvino": 1.0})
    tune(bundle, "openvino")
    opened: list[int] = []

    def opener(onnx: bytes, *, threads: int | None = None) -> Any:
        opened.append(1)
        return open_session(onnx, threads=threads)

    model = load_model(bundle.path, threads=1, opener=opener)
    assert (opened, model.backend) == ([1], "onnxruntime")


def test_calls_take_turns_and_are_timed_by_the_given_clock() -> None:
    """So that a disturbance falls on all alike."""
    order: list[str] = []
    ticks = iter(range(10_000))
    calls = {name: (lambda name=name: order.append(name)) for name in "ab"}
    taken = seconds_per_call(calls, rounds=3, clock=lambda: float(next(ticks)))
    assert taken == {"a": [1.0] * 3, "b": [1.0] * 3}
    assert order[-6:] == list("ababab")


TUNE = """
import sys
from quatrain.core.backends.autotune import tuned
from quatrain.core.bundle.open import open_bundle
bundle = open_bundle(sys.argv[1])
found = tuned(bundle, reference="tests/linear", threads=1, names=["onnxruntime"], is_fresh=True, rounds=1)
print(found.text())
"""


def test_two_processes_that_tune_at_once_do_not_corrupt_the_cache(seal_linear: Callable[..., Bundle]) -> None:
    """A reader beside them sees a whole choice or none, whenever it looks."""
    bundle = seal_linear()
    command = [sys.executable, "-c", TUNE, str(bundle.path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    seen = set()
    deadline = time.monotonic() + 120
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        seen |= {file.read_bytes()[-2:] for file in choices._folder().glob("*.json")}
    for process in processes:
        out, err = process.communicate(timeout=10)
        assert (process.returncode, out.strip()) == (
            0,
            "1 onnxruntime, 8 onnxruntime, 64 onnxruntime, 256 onnxruntime",
        ), err
    assert seen <= {b"\n}"}
    assert choices.read(choices.key_of(bundle.digest, threads=1)) is not None
    assert [file for file in Path(choices._folder()).iterdir() if file.suffix not in (".json", ".lock")] == []
