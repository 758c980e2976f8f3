"""A fit that was killed and resumed is, bit for bit, the fit that ran through."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from quatrain.core import tracking
from quatrain.core.errors import UserError
from quatrain.core.training import checkpoint
from quatrain.core.training.config import FitConfig
from quatrain.core.training.fit import fit
from quatrain.core.training.result import FitResult
from quatrain.core.training.seeds import seed_everything

_WORKER = Path(__file__).with_name("training_worker.py")
# The worker's fits take 28 steps; a seed of its own keeps the choice random and the test repeatable.
_CHANCE = random.Random(20261121)  # noqa: S311  kill points need no cryptography
_STEPS = [f"step:{step}" for step in _CHANCE.sample(range(2, 29), 6)]

# "full" has EMA, one-cycle, dropout, batch normalisation, bf16 autocast and clipping; its
# checkpoints come every 4 steps and at the end of each epoch of 7. A "write" kill leaves half a
# file; each checkpoint has two flushes, the file's before its rename and the folder's after it.
KILLED: dict[str, tuple[str, list[str]]] = {
    "first step": ("full", ["step:1"]),
    "random step, plain": ("plain", _STEPS[:1]),
    "random step, full": ("full", _STEPS[1:2]),
    "another random step, full": ("full", _STEPS[2:3]),
    "random step, fp16 with a scaler": ("half", _STEPS[3:4]),
    "random step, augmented Dataset": ("augmented", _STEPS[4:5]),
    "random step, Dataset read by two workers": ("workers", _STEPS[5:6]),
    "in the middle of a checkpoint": ("full", ["write:3"]),
    "before a checkpoint is in place": ("full", ["flush:3"]),
    "after a checkpoint is in place": ("full", ["flush:4"]),
    "four times": ("full", ["step:9", "step:6", "write:2", "step:5"]),
}
_THROUGH = {name: (name, []) for name in ("plain", "full", "half", "augmented", "workers")}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which each case of both tables left its weights and history."""
    folder = tmp_path_factory.mktemp("outcomes")
    command = [sys.executable, str(_WORKER), "kill", str(folder), json.dumps(_THROUGH | KILLED)]
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def _same_bits(left: Path, right: Path) -> bool:
    ours, theirs = load_file(left / "weights.safetensors"), load_file(right / "weights.safetensors")
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def _facts(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "outcome.json").read_text())
    return facts


@pytest.mark.slow
@pytest.mark.parametrize("case", KILLED)
def test_killed_and_resumed_fit_has_the_same_bits(outcomes: Path, case: str) -> None:
    """After SIGKILL and resume, weights, history and the best step equal an uninterrupted fit's."""
    through, resumed = outcomes / KILLED[case][0], outcomes / case
    assert _same_bits(resumed, through)
    assert _facts(resumed)["history"] == _facts(through)["history"]
    assert _facts(resumed)["best_step"] == _facts(through)["best_step"]


@pytest.mark.slow
def test_resumed_fit_starts_from_its_last_checkpoint(outcomes: Path) -> None:
    """The work before the checkpoint is not done twice, and the run's file holds each row once."""
    facts = _facts(outcomes / "four times")
    assert facts["from"] > 0
    (record,) = tracking.list_runs(outcomes / "four times" / "runs")
    rows = tracking.read_history(record.id, outcomes / "four times" / "runs")
    assert [row["step"] for row in rows] == [row["step"] for row in facts["history"]]
    assert record.status == "done"


@pytest.mark.slow
def test_number_of_workers_does_not_change_the_weights(outcomes: Path) -> None:
    """An augmented sample draws the same noise in the main process and in any worker."""
    assert _same_bits(outcomes / "workers", outcomes / "augmented")


def _model() -> nn.Module:
    seed_everything(1)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 1))


def _data(n: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(n, 4, generator=generator)
    return inputs, inputs.sum(1, keepdim=True)


def _config(**changes: Any) -> FitConfig:
    return FitConfig(epochs=3, batch_size=16, device="cpu").model_copy(update=changes)


def _fit(run: tracking.Run | None, *, model: nn.Module | None = None, **options: Any) -> FitResult:
    options = {"config": _config(), "loss": functional.mse_loss, **options}
    return fit(_model() if model is None else model, _data(), _data(), run=run, **options)


def _start() -> tracking.Run:
    return tracking.start_run(app="test", command="fit", config={})


def test_finished_fit_is_not_run_again() -> None:
    """A second call of a finished run gives the same result and weights without a step."""
    run = _start()
    first, second = _model(), _model()
    done = _fit(run, model=first)
    again = _fit(run, model=second)
    assert (again.status, again.reason, again.resumed_from) == ("done", done.reason, done.steps)
    assert again.metrics == done.metrics
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_resume_false_starts_over() -> None:
    """A checkpoint in the run's folder is only used where it is wanted."""
    run = _start()
    _fit(run)
    assert _fit(run, resume=False).resumed_from == 0


@pytest.mark.parametrize("as_folder", [True, False])
def test_path_resumes_from_another_run(*, as_folder: bool) -> None:
    """A new run can go on from the folder or the file of an old one, and takes its history over."""
    old, new = _start(), _start()
    _fit(old)
    path = old.folder if as_folder else old.folder / checkpoint.FILE
    assert _fit(new, resume=path).resumed_from == 12
    assert tracking.read_history(new.id) == tracking.read_history(old.id)


def test_resume_from_nothing_names_the_path(tmp_path: Path) -> None:
    """A path without a checkpoint is a slip, not a fresh start."""
    with pytest.raises(UserError, match=f"cannot resume from {tmp_path}"):
        _fit(None, resume=tmp_path)


def test_resume_refuses_other_settings_by_name() -> None:
    """Settings that change the result are named with both values."""
    run = _start()
    _fit(run)
    with pytest.raises(UserError, match=r"batch_size: 16 then, 8 now(?s:.*)start over"):
        _fit(run, config=_config(batch_size=8))
    with pytest.raises(UserError, match="model: "):
        _fit(run, model=nn.Linear(4, 1))


def test_resume_allows_settings_that_only_change_how_it_runs() -> None:
    """More frequent checkpoints or another patience do not make it another fit."""
    run = _start()
    _fit(run)
    assert _fit(run, config=_config(checkpoint_every=2, patience=2)).status == "done"


@pytest.mark.parametrize("content", [b"", b"\x10\x00\x00\x00\x00\x00\x00\x00{}", b"x" * 100])
def test_damaged_checkpoint_is_refused_with_its_name(content: bytes) -> None:
    """What is no checkpoint is said to be none, with the way out."""
    run = _start()
    (run.folder / checkpoint.FILE).write_bytes(content)
    with pytest.raises(UserError, match=r"not a readable checkpoint .* delete it to start over"):
        _fit(run)


def test_truncated_checkpoint_is_refused() -> None:
    """A file cut off by a full disk does not load as smaller weights."""
    run = _start()
    _fit(run)
    file = run.folder / checkpoint.FILE
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match="not a readable checkpoint"):
        _fit(run)


def test_tied_weights_survive_a_checkpoint() -> None:
    """Weights that two layers share are saved, though safetensors refuses shared memory."""

    def tied() -> nn.Module:
        seed_everything(1)
        first, last = nn.Linear(4, 4), nn.Linear(4, 4)
        last.weight = first.weight
        return nn.Sequential(first, nn.ReLU(), last, nn.Linear(4, 1))

    run = _start()
    model, again = tied(), tied()
    _fit(run, model=model)
    _fit(run, model=again)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_fit_leaves_no_pickle_behind() -> None:
    """A run's folder holds JSON, safetensors and a picture."""
    run = _start()
    _fit(run)
    names = {file.name for file in run.folder.iterdir()}
    assert names == {"run.json", "history.jsonl", "history.png", checkpoint.FILE}
