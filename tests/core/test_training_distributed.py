"""Two gloo processes under torchrun train as one process does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

_WORKER = Path(__file__).with_name("training_worker.py")
_TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that one process and then two have left their curves in."""
    folder = tmp_path_factory.mktemp("curves")
    for launcher in ([sys.executable], _TORCHRUN):
        command = [*launcher, str(_WORKER), "curve", str(folder)]
        env = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder


def _curve(folder: Path, name: str, n_processes: int) -> tuple[list[list[str]], np.ndarray[Any, Any]]:
    rows = json.loads((folder / f"curves-{n_processes}.json").read_text())[name]
    return [list(row) for row in rows], np.array([value for row in rows for value in row.values()])


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("uneven", 1e-6), ("starved", 1e-6), ("weighted", 1e-6), ("scalar", 1e-6), ("dataset", 1e-6), ("double", 1e-12)],
)
def test_two_processes_give_one_process_s_curve(outcomes: Path, name: str, tolerance: float) -> None:
    """The loss of every step, the validation loss and the metric agree, also where batches do not divide."""
    keys, alone = _curve(outcomes, name, 1)
    same_keys, together = _curve(outcomes, name, 2)
    assert keys == same_keys
    np.testing.assert_allclose(together, alone, rtol=tolerance, atol=tolerance)


def test_sigterm_to_one_process_stops_both_at_one_step(outcomes: Path) -> None:
    """Whoever is asked, all stop together, with a checkpoint."""
    facts = [json.loads((outcomes / f"stopped-stopped-{rank}" / "outcome.json").read_text()) for rank in (0, 1)]
    assert facts[0] == facts[1]
    assert facts[0]["history"][-1]["step"] < 52


def test_stopped_and_resumed_processes_have_the_same_bits(outcomes: Path) -> None:
    """With dropout and batch normalisation, each process takes its own generators up again."""
    weights = [
        load_file(outcomes / f"{part}-done-{rank}" / "weights.safetensors")
        for part in ("through", "stopped")
        for rank in (0, 1)
    ]
    for other in weights[1:]:
        assert all(torch.equal(weights[0][name], other[name]) for name in weights[0])
