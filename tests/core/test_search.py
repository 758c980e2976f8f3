"""Searching settings: it finds, goes on where it was killed, prunes, and says what mattered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from quatrain.core.errors import LockedError, UserError
from quatrain.core.search import SearchReport, search

optuna = pytest.importorskip("optuna")


def hill(trial: Any) -> float:
    """Return a hill with its top at x = 2; y hardly matters."""
    x, y = trial.suggest_float("x", -5, 5), trial.suggest_float("y", -5, 5)
    return float(-((x - 2) ** 2) + 0.01 * y)


def test_it_finds_what_matters_and_is_never_worse_than_the_first(tmp_path: Path) -> None:
    """Better than the settings given, x named first, and files a person can read."""
    found = search(hill, name="hill", n_trials=25, folder=tmp_path, first={"x": 0.0, "y": 0.0})
    assert found.trials[0].settings == {"x": 0.0, "y": 0.0}
    assert (found.first_value, len(found.trials)) == (-4.0, 25)
    assert found.best_value > -0.5
    assert next(iter(found.importances)) == "x"
    assert sum(found.importances.values()) == pytest.approx(1)
    assert SearchReport.model_validate(json.loads((tmp_path / "search.json").read_text(encoding="utf-8"))) == found
    assert (tmp_path / "search.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_seed_finds_the_same(tmp_path: Path) -> None:
    """Trial by trial."""
    a, b = (search(hill, name="hill", n_trials=4, folder=tmp_path / part, seed=1) for part in "ab")
    assert a == b


def test_a_second_call_goes_on_and_a_third_has_nothing_to_do(tmp_path: Path) -> None:
    """The number of trials is that of all calls together, and none is tried twice."""
    calls: list[int] = []

    def objective(trial: Any) -> float:
        calls.append(trial.number)
        return hill(trial)

    search(objective, name="hill", n_trials=3, folder=tmp_path)
    found = search(objective, name="hill", n_trials=7, folder=tmp_path)
    assert search(objective, name="hill", n_trials=7, folder=tmp_path) == found
    assert calls == list(range(7))
    assert len({trial.settings["x"] for trial in found.trials}) == 7


KILLED = """
import os, sys
from pathlib import Path
from quatrain.core.search import search

def objective(trial):
    x = trial.suggest_float("x", 0, 1)
    if trial.number == 2:
        os.kill(os.getpid(), 9)
    return x

search(objective, name="killed", n_trials=5, folder=Path(sys.argv[1]))
"""


def test_a_killed_search_goes_on_with_the_trial_that_was_cut_short(tmp_path: Path) -> None:
    """Its settings come again; the trials before it are kept."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False, capture_output=True)
    assert done.returncode == -9
    asked: list[float] = []

    def objective(trial: Any) -> float:
        asked.append(trial.suggest_float("x", 0, 1))
        return asked[-1]

    found = search(objective, name="killed", n_trials=5, folder=tmp_path)
    assert len(asked) == 3
    assert [trial.state for trial in found.trials] == ["done", "done", "failed", "done", "done", "done"]
    assert found.trials[3].settings == found.trials[2].settings


def test_hopeless_trials_are_pruned(tmp_path: Path) -> None:
    """They have no value, and are no best."""

    def objective(trial: Any) -> float:
        x: float = trial.suggest_float("x", 0, 1)
        value = x if trial.number < 6 else -1.0
        trial.report(value, step=1)
        if trial.should_prune():
            raise optuna.TrialPruned
        return value

    found = search(objective, name="pruned", n_trials=8, folder=tmp_path)
    assert [trial.state for trial in found.trials][-2:] == ["pruned", "pruned"]
    assert found.trials[-1].value is None
    assert found.best_value > 0


def test_a_trial_that_fails_does_not_end_the_search(tmp_path: Path) -> None:
    """Settings that cannot be are the next trial's loss only; a bug ends it."""

    def objective(trial: Any) -> float:
        x: float = trial.suggest_float("x", 0, 1)
        if trial.number == 0:
            raise ValueError("a window of nothing")
        return x

    found = search(objective, name="fails", n_trials=3, folder=tmp_path / "a")
    assert [trial.state for trial in found.trials] == ["failed", "done", "done"]
    assert found.first_value is None

    def bug(_: Any) -> float:
        raise KeyError("bug")

    with pytest.raises(KeyError, match="bug"):
        search(bug, name="bug", n_trials=3, folder=tmp_path / "b")


def test_what_cannot_be_searched_is_refused(tmp_path: Path) -> None:
    """Another search's folder, one in use, no trials, and none that gave a value."""
    search(hill, name="hill", n_trials=1, folder=tmp_path)
    with pytest.raises(UserError, match="holds the search 'hill', not 'valley'"):
        search(hill, name="valley", n_trials=1, folder=tmp_path)
    with pytest.raises(UserError, match="is to maximize, not to minimize"):
        search(hill, name="hill", n_trials=1, folder=tmp_path, direction="minimize")
    with pytest.raises(ValueError, match="n_trials must be at least 1, got 0"):
        search(hill, name="hill", n_trials=0, folder=tmp_path)
    with (
        FileLock(tmp_path / "search.lock"),
        pytest.raises(LockedError, match="another process searches in"),
    ):
        search(hill, name="hill", n_trials=2, folder=tmp_path)

    def never(_: Any) -> float:
        raise UserError("no data")

    with pytest.raises(UserError, match="none of the 2 trials"):
        search(never, name="never", n_trials=2, folder=tmp_path / "never")
