"""Seeds and the state of every random generator that training may draw from."""

from __future__ import annotations

import os
import random

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MASK = (1 << 64) - 1
# Python's and NumPy's Mersenne twisters, torch's CPU generator and one CUDA generator, side by side.
_STATE = np.dtype(
    [
        ("python", "<u4", 625),
        ("python_gauss", "<f8"),
        ("numpy", "<u4", 624),
        ("numpy_position", "<i4"),
        ("numpy_has_gauss", "<i4"),
        ("numpy_gauss", "<f8"),
        ("torch", "u1", 5056),
        ("cuda", "u1", 16),
    ]
)


def seed_everything(seed: int, *, deterministic: bool = False) -> None:
    """Seed Python, NumPy and torch on every device; call it before the model is built.

    `deterministic` makes torch refuse operations that have no repeatable form: bit-exact resume on
    a GPU needs it, at some speed. Call it before the first CUDA operation.
    """
    random.seed(seed)
    # Data sets in the wild draw from NumPy's global generator.
    np.random.seed(seed % (1 << 32))  # noqa: NPY002
    torch.manual_seed(seed)
    if deterministic:
        # cuBLAS repeats its sums only with a fixed workspace, and reads this when it starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(mode=True)
        torch.backends.cudnn.benchmark = False


def mix(*numbers: int) -> int:
    """Return a 64-bit seed that differs whenever one of `numbers` does (splitmix64 over each)."""
    state = 0
    for number in numbers:
        state = ((state ^ number) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


def seed_cpu(seed: int) -> None:
    """Seed Python, NumPy and torch's CPU generator, at a few microseconds: once per sample read."""
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)


def capture(device: torch.device) -> Tensor:
    """Return the state of every generator of this process as uint8 of a fixed length."""
    state: NDArray[np.void] = np.zeros(1, _STATE)
    _, twister, gauss = random.getstate()
    state["python"] = twister
    state["python_gauss"] = np.nan if gauss is None else gauss
    _, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    state["numpy"], state["numpy_position"] = keys, position
    state["numpy_has_gauss"], state["numpy_gauss"] = has_gauss, cached
    state["torch"] = torch.get_rng_state().numpy()
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device).numpy()
    return torch.from_numpy(state.view(np.uint8))


def restore(vector: Tensor, device: torch.device) -> None:
    """Put every generator of this process back to a captured state."""
    state = vector.cpu().numpy().view(_STATE)[0]
    gauss = float(state["python_gauss"])
    random.setstate((3, tuple(state["python"].tolist()), None if np.isnan(gauss) else gauss))
    position, has_gauss = int(state["numpy_position"]), int(state["numpy_has_gauss"])
    np.random.set_state(("MT19937", state["numpy"], position, has_gauss, float(state["numpy_gauss"])))  # noqa: NPY002
    torch.set_rng_state(torch.from_numpy(state["torch"].copy()))
    if device.type == "cuda" and state["cuda"].any():
        torch.cuda.set_rng_state(torch.from_numpy(state["cuda"].copy()), device)
