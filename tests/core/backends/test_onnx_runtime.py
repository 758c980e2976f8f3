"""ONNX Runtime's providers: what is missing or breaks is said once, and the answers stay the same."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import onnxruntime
import pytest

from quatrain.core.backends import onnx_runtime
from quatrain.core.backends.onnx_runtime import open_session
from quatrain.core.errors import UsageError

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3)
REAL = onnxruntime.InferenceSession


class Breaks:
    """A session on a GPU that opens and then fails at every call."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def get_providers(self) -> list[str]:
        """Return the GPU's provider and the CPU's."""
        return [CUDA, CPU]

    def run(self, *_: object) -> list[Any]:
        """Fail as ONNX Runtime does."""
        raise onnxruntime.capi.onnxruntime_pybind11_state.EPFail("CUDA failure 700: an illegal memory access\nmore")


def expected(onnx: bytes) -> np.ndarray:
    """Return the CPU's answer."""
    return np.asarray(open_session(onnx, threads=1).run(["score"], {"features": FEATURES})[0])


def with_cuda(monkeypatch: pytest.MonkeyPatch, make: Any) -> None:
    """Pretend that this ONNX Runtime was built with CUDA; `make` opens what is asked of it there."""

    def opened(onnx: bytes, options: Any, *, providers: Any, enable_fallback: int) -> Any:
        assert enable_fallback == 0
        names = [name for name, _ in providers]
        return make(onnx, options) if CUDA in names else REAL(onnx, options, providers=[CPU])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the texts of the warnings."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_provider_that_is_not_built_in_is_left_out_with_one_warning(
    linear_onnx: bytes, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """The CPU answers, and nothing is printed where --json promises one object."""
    session = open_session(linear_onnx, threads=1, providers=("tensorrt", "cuda"))
    for _ in range(3):
        np.testing.assert_array_equal(session.run(["score"], {"features": FEATURES})[0], expected(linear_onnx))
    (warning,) = warnings_of(caplog)
    assert "has no tensorrt, cuda" in warning
    assert capsys.readouterr().out == ""


def test_a_provider_that_fails_at_opening_falls_back_with_one_warning(
    linear_onnx: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the driver is older than the library."""
    wanted = expected(linear_onnx)

    def fails(*_: object) -> Any:
        raise RuntimeError("CUDA driver version is insufficient\ntrace")

    with_cuda(monkeypatch, fails)
    session = open_session(linear_onnx, threads=1, providers=("cuda",))
    for _ in range(2):
        np.testing.assert_array_equal(session.run(None, {"features": FEATURES})[0], wanted)
    assert warnings_of(caplog) == [
        "ONNX Runtime fails on the GPU and goes on on the CPU: CUDA driver version is insufficient"
    ]


def test_a_provider_that_fails_in_a_call_falls_back_with_one_warning(
    linear_onnx: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch that met the failure is answered, and later ones go to the CPU at once."""
    wanted = expected(linear_onnx)
    with_cuda(monkeypatch, lambda onnx, options: Breaks(REAL(onnx, options, providers=[CPU])))
    session = onnx_runtime.open_cuda(linear_onnx, threads=1)
    for _ in range(3):
        np.testing.assert_array_equal(session.run(None, {"features": FEATURES})[0], wanted)
    assert len(warnings_of(caplog)) == 1
    assert "illegal memory access" in warnings_of(caplog)[0]


def test_a_provider_whose_libraries_are_missing_is_named(
    linear_onnx: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime itself only logs that and goes on."""
    wanted = expected(linear_onnx)
    with_cuda(monkeypatch, lambda onnx, options: REAL(onnx, options, providers=[CPU]))
    session = onnx_runtime.open_cuda(linear_onnx, threads=1)
    np.testing.assert_array_equal(session.run(None, {"features": FEATURES})[0], wanted)
    (warning,) = warnings_of(caplog)
    assert "cannot load ['cuda']" in warning


def test_what_fails_on_the_cpu_too_is_not_hidden(linear_onnx: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong input is the caller's fault on every provider."""
    with_cuda(monkeypatch, lambda onnx, options: REAL(onnx, options, providers=[CPU]))
    session = onnx_runtime.open_cuda(linear_onnx, threads=1)
    with pytest.raises(Exception, match=r"dimensions|rank"):
        session.run(None, {"features": FEATURES[0]})


def test_an_unknown_provider_is_refused(linear_onnx: bytes) -> None:
    """With the name that was meant."""
    with pytest.raises(UsageError, match="unknown provider 'cude'; did you mean 'cuda'"):
        open_session(linear_onnx, providers=("cude",))
