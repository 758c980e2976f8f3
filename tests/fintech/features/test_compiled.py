"""Where nothing can be written, what is compiled still runs."""

from __future__ import annotations

from types import SimpleNamespace

import numba
import pytest

from quatrain.fintech.features import compiled as module


def twice(x: int) -> int:
    """Return 2 x."""
    return 2 * x


def test_code_that_cannot_be_kept_is_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only installation of a user without a home has no place for compiled code."""
    asked = []

    def njit(*, cache: bool = False, **options: object) -> object:
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function 'twice': no locator available for file")
        return numba.njit(**options)

    monkeypatch.setattr(module, "numba", SimpleNamespace(njit=njit))
    assert module.compiled(twice)(21) == 42
    assert asked == [True, False]
