"""Numba as this package uses it: no fast maths, so that a rerun gives the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function as machine code, made at its first call and kept for the next process.

    Where neither the package's folder nor the user's cache can be written, every process compiles anew.
    """
    try:
        kept = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:
        kept = numba.njit(nogil=True, error_model="numpy")(function)
    return cast("Callable[P, R]", kept)
