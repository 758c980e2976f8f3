"""The cache of ahead-of-time code: built once, built again whenever it is not current, and never trusted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.core.backends.conftest import WEIGHTS

from quatrain.core.backends import aoti
from quatrain.core.backends.protocol import BackendError

FEATURES = np.arange(24, dtype=np.float32).reshape(8, 3)


class Compiler:
    """Stands in for AOTInductor: a package is a file, and loading it gives the graph's own numbers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.builds = 0
        monkeypatch.setattr(aoti, "_build", self._build)
        monkeypatch.setattr(torch._inductor, "aoti_load_package", self._load)

    def _build(self, _body: Any, tensors: list[torch.Tensor], path: Path) -> None:
        self.builds += 1
        path.write_text(f"code for {len(tensors[0])} rows", encoding="utf-8")

    def _load(self, path: str) -> Callable[..., Any]:
        assert Path(path).read_text(encoding="utf-8").startswith("code for ")
        return lambda x: [(x @ torch.from_numpy(WEIGHTS))[:, 0]]


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    """Return the stand-in, in place."""
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    return Compiler(monkeypatch)


def ask(onnx: bytes, n: int = 8) -> None:
    """Run n rows in a new session and check the numbers."""
    answer = aoti.open_ahead(onnx, threads=1).run(None, {"features": FEATURES[:n]})[0]
    np.testing.assert_allclose(answer, (FEATURES[:n] @ WEIGHTS)[:, 0], rtol=1e-6)


def test_a_graph_is_built_once_per_bucket(compiler: Compiler, linear_onnx: bytes) -> None:
    """A second process finds it in the cache."""
    for _ in range(2):
        ask(linear_onnx, 8)
        ask(linear_onnx, 5)
    assert compiler.builds == 1
    ask(linear_onnx, 1)
    assert compiler.builds == 2


@pytest.mark.parametrize("stale", ["torch", "features", "conversion"])
def test_what_was_built_for_another_torch_or_processor_is_built_again(
    compiler: Compiler, linear_onnx: bytes, monkeypatch: pytest.MonkeyPatch, stale: str
) -> None:
    """The old package is never loaded."""
    ask(linear_onnx)
    if stale == "torch":
        monkeypatch.setattr(torch, "__version__", "9.9.9")
    elif stale == "features":
        monkeypatch.setattr(aoti.hardware, "cpu_features", lambda: ("sve2",))
    else:
        monkeypatch.setattr(aoti, "_CONVERSION", 99)
    ask(linear_onnx)
    ask(linear_onnx)
    assert compiler.builds == 2


@pytest.mark.parametrize("damage", ["changed", "cut", "no record", "torn record", "no package"])
def test_a_damaged_cache_is_built_again(compiler: Compiler, linear_onnx: bytes, damage: str) -> None:
    """Nothing but the very bytes that were built here is loaded."""
    ask(linear_onnx)
    (package,), (record,) = aoti.cache_folder().glob("*.pt2"), aoti.cache_folder().glob("*.json")
    if damage in ("changed", "cut"):
        package.write_text("code for mischief" if damage == "changed" else "", encoding="utf-8")
    elif damage == "torn record":
        record.write_text(json.dumps(json.loads(record.read_text(encoding="utf-8")))[:-9], encoding="utf-8")
    else:
        (record if damage == "no record" else package).unlink()
    ask(linear_onnx)
    assert compiler.builds == 2


def test_sessions_that_want_the_same_build_it_once(compiler: Compiler, linear_onnx: bytes) -> None:
    """The others wait for the lock and find it built."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ask(linear_onnx), range(4)))
    assert compiler.builds == 1


def test_a_build_that_fails_leaves_nothing_behind(linear_onnx: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says which backend it was."""

    def fails(_body: Any, _tensors: Any, path: Path) -> None:
        path.write_text("half", encoding="utf-8")
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    monkeypatch.setattr(aoti, "_build", fails)
    with pytest.raises(BackendError, match="aoti cannot compute this batch of 8: no C\\+\\+ compiler"):
        aoti.open_ahead(linear_onnx, threads=1).run(None, {"features": FEATURES})
    assert [path.suffix for path in aoti.cache_folder().iterdir()] == [".lock"]


def test_a_cache_that_others_may_write_to_is_refused(linear_onnx: bytes, compiler: Compiler) -> None:
    """What lies there is run as code."""
    aoti.cache_folder().chmod(0o777)
    with pytest.raises(BackendError, match=r"others may write to; run `chmod go-w"):
        ask(linear_onnx)
    assert compiler.builds == 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="AOTInductor needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")
def test_aotinductor_itself_gives_the_same_numbers(linear_onnx: bytes) -> None:
    """Built for one bucket, then loaded from the cache."""
    before = torch.get_num_threads()
    try:
        ask(linear_onnx)
        ask(linear_onnx)
    finally:
        torch.set_num_threads(before)
