"""Searching settings with Optuna: resumable after a kill, hopeless trials pruned, and what mattered drawn."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from quatrain.core.config import Config
from quatrain.core.errors import LockedError, UserError, require

if TYPE_CHECKING:
    from optuna import Study, Trial

_LOG = logging.getLogger(__name__)
_JOURNAL = "search.log"
_REPORT = "search.json"
_PLOT = "search.png"
# Trials before pruning begins and before importances mean anything.
_LEAST_TRIALS = 5


class TrialReport(Config):
    """One trial: its settings, and its value unless it was pruned or failed."""

    number: int
    settings: dict[str, Any]
    state: Literal["done", "pruned", "failed"]
    value: float | None


class SearchReport(Config):
    """A search: the best settings, every trial, and each setting's share of the differences between trials."""

    name: str
    direction: Literal["maximize", "minimize"]
    best: dict[str, Any]
    best_value: float
    # None where the first trial, of the settings given, did not end.
    first_value: float | None
    # In [0, 1], largest first, adding up to 1; empty below five trials.
    importances: dict[str, float]
    trials: tuple[TrialReport, ...]


def search(
    objective: Callable[[Trial], float],
    *,
    name: str,
    n_trials: int,
    folder: Path,
    first: Mapping[str, Any] | None = None,
    direction: Literal["maximize", "minimize"] = "maximize",
    seed: int = 0,
) -> SearchReport:
    """Return the best of `n_trials` trials, those of an earlier, interrupted call in `folder` included.

    `objective` asks its trial for settings (`trial.suggest_float(...)`) and returns the value; it may
    report values on the way and raise `optuna.TrialPruned` where `trial.should_prune()` says so. It
    must be a value of validation data. `first` are the settings to begin with, such as the defaults,
    so that the best is never worse than them. A trial that raises UserError or ValueError failed and
    the next one comes; anything else ends the search. search.json is written after every trial,
    with importances and search.png at the end. Raises LockedError while another process searches in
    the folder, UserError for a folder of another search and where no trial ended.
    """
    optuna = require("optuna", package="quatrain-core[search]")
    from filelock import FileLock, Timeout

    if n_trials < 1:
        raise ValueError(f"n_trials must be at least 1, got {n_trials}")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "search.lock", blocking=False):
            study = _study(optuna, folder, name=name, direction=direction, seed=seed)
            _begin(optuna, study, first)
            while (n_left := n_trials - _n_ended(study)) > 0:
                _LOG.info("search %s: %d of %d trials to go", name, n_left, n_trials)
                study.optimize(objective, n_trials=1, catch=(UserError, ValueError))
                _write(_report(optuna, study, is_finished=False), folder)
            report = _report(optuna, study, is_finished=True)
            if report is None:
                raise UserError(f"none of the {n_trials} trials in {folder} gave a value; see their reasons in the log")
            save(report, folder)
            return report
    except Timeout as error:
        raise LockedError(f"another process searches in {folder}; wait for it, or choose another folder") from error


def save(report: SearchReport, folder: Path) -> None:
    """Write search.json and search.png into the folder."""
    _write(report, folder)
    plot(report, folder / _PLOT)


def plot(report: SearchReport, path: Path) -> None:
    """Write a PNG: the value of each trial with the best so far, and the importance of each setting."""
    require("matplotlib", package="quatrain-core[train]")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    done = [trial for trial in report.trials if trial.value is not None and trial.state == "done"]
    better = max if report.direction == "maximize" else min
    values = [trial.value for trial in done if trial.value is not None]
    best = [better(values[: place + 1]) for place in range(len(values))]
    left.scatter([trial.number for trial in done], values, s=18, color="#0072B2", label="trial")
    left.step([trial.number for trial in done], best, where="post", color="#D55E00", label="best so far")
    pruned = [trial.number for trial in report.trials if trial.state == "pruned"]
    left.plot(pruned, [min(values)] * len(pruned), "x", color="#999999", label="pruned")
    left.set_xlabel("trial")
    left.set_title(report.name, loc="left", fontsize=10)
    left.legend(frameon=False, fontsize=8)
    names = list(reversed(report.importances))
    right.barh(names, [report.importances[name] for name in names], color="#0072B2")
    right.set_xlabel("share of the differences between trials")
    right.set_title("importance" if names else f"importance: needs {_LEAST_TRIALS} trials", loc="left", fontsize=10)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _study(optuna: Any, folder: Path, *, name: str, direction: str, seed: int) -> Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(folder / _JOURNAL)))
    known = optuna.get_all_study_names(storage)
    if known and known != [name]:
        raise UserError(f"{folder} holds the search {known[0]!r}, not {name!r}; choose another folder")
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        direction=direction,
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_LEAST_TRIALS),
    )
    # With the first call's seed a resumed search would suggest again what it had.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    if study.direction.name.lower() != direction:
        raise UserError(f"the search in {folder} is to {study.direction.name.lower()}, not to {direction}")
    return cast("Study", study)


def _begin(optuna: Any, study: Study, first: Mapping[str, Any] | None) -> None:
    """Enqueue the first settings once, and again those of a trial that a kill cut short."""
    running = optuna.trial.TrialState.RUNNING
    for trial in study.get_trials(deepcopy=False, states=(running,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params, user_attrs={"instead_of": trial.number})
    if first is not None and not study.trials:
        study.enqueue_trial(dict(first))


def _n_ended(study: Study) -> int:
    """Return how many trials count; those that a kill cut short do not, for they are done again."""
    again = {trial.user_attrs.get("instead_of") for trial in study.trials}
    return sum(trial.state.is_finished() and trial.number not in again for trial in study.trials)


def _report(optuna: Any, study: Study, *, is_finished: bool) -> SearchReport | None:
    states = optuna.trial.TrialState
    words = {states.COMPLETE: "done", states.PRUNED: "pruned", states.FAIL: "failed"}
    trials = tuple(
        TrialReport(
            number=trial.number,
            settings=trial.params,
            state=words[trial.state],  # type: ignore[arg-type]  # one of the three words
            value=trial.value if trial.state == states.COMPLETE else None,
        )
        for trial in study.trials
        if trial.state in words
    )
    done = [trial for trial in trials if trial.state == "done"]
    if not done:
        return None
    return SearchReport(
        name=study.study_name,
        direction="maximize" if study.direction.name == "MAXIMIZE" else "minimize",
        best=study.best_params,
        best_value=study.best_value,
        first_value=next((trial.value for trial in trials if trial.number == 0), None),
        importances=_importances(optuna, study) if is_finished and len(done) >= _LEAST_TRIALS else {},
        trials=trials,
    )


def _importances(optuna: Any, study: Study) -> dict[str, float]:
    """Return fANOVA's importances (Hutter, Hoos and Leyton-Brown, 2014); none where all trials gave the same."""
    values = {trial.value for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE}
    if len(values) == 1:
        return {}
    require("sklearn", package="scikit-learn")
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def _write(report: SearchReport | None, folder: Path) -> None:
    if report is None:
        return
    part = folder / f"{_REPORT}.part"
    part.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    part.replace(folder / _REPORT)
