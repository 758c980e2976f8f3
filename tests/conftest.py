"""Fixtures for every test: a private home and cache, so that no test touches the user's."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("quatrain", deadline=None)
settings.load_profile("quatrain")
_MAIN = sys.modules["__main__"]


@pytest.fixture(autouse=True)
def _own_main() -> Iterator[None]:
    """Keep the tests' own __main__: a page that a test runs takes its place, and worker processes import it."""
    sys.modules["__main__"] = _MAIN
    yield
    sys.modules["__main__"] = _MAIN


@pytest.fixture(autouse=True)
def quatrain_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a fresh Quatrain home that the environment of this test points to."""
    home = tmp_path / "quatrain-home"
    monkeypatch.setenv("QUATRAIN_CORE__HOME", str(home))
    monkeypatch.setenv("QUATRAIN_CORE__CACHE", str(tmp_path / "quatrain-cache"))
    # A command that is given --config sets it; it must not outlive the test.
    monkeypatch.delenv("QUATRAIN_CONFIG", raising=False)
    return home


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Give a port of 127.0.0.1 that refuses connections: taken, but nobody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
