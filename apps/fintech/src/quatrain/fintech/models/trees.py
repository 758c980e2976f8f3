"""LightGBM for rare fraud: several seeds grown side by side and averaged into one booster."""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from quatrain.core.config import Config
from quatrain.core.errors import MissingExtraError, require
from quatrain.core.hardware import cpu_limit
from quatrain.fintech.metrics.scored import Floats, Labels
from quatrain.fintech.models.fold import Fold, mean_ap

if TYPE_CHECKING:
    import lightgbm

# Told of each look at the validation rows: the rounds or epochs so far, and the mean average precision.
OnLook = Callable[[int, float], None]
_PACKAGE = "quatrain-fintech[train]"


class TreeSettings(Config):
    """One way to grow the trees; the defaults were fixed on time folds of real card data.

    At 0.2 % fraud a leaf's hessian is tiny, and LightGBM's defaults (rate 0.1, 20 rows a leaf, no
    penalty) diverge: small steps, larger leaves, an L2 penalty and sampled rows and columns do not.
    """

    learning_rate: float = Field(default=0.02, gt=0)
    num_leaves: int = Field(default=16, ge=2)
    min_child_samples: int = Field(default=50, ge=1)
    lambda_l2: float = Field(default=1.0, ge=0)
    feature_fraction: float = Field(default=0.5, gt=0, le=1)
    bagging_fraction: float = Field(default=0.7, gt=0, le=1)
    # The default 255 blurs the tails where frauds are; more bins cost time in proportion.
    max_bin: int = Field(default=255, ge=2)
    max_rounds: int = Field(default=600, ge=1)
    # Rounds between two looks at the validation rows, and looks without a gain before stopping.
    step: int = Field(default=50, ge=1)
    patience: int = Field(default=4, ge=1)
    n_seeds: int = Field(default=3, ge=1)


def grow(settings: TreeSettings, x: NDArray[np.float32], y: Labels, *, seed: int) -> lightgbm.Booster:
    """Return the averaged booster of `max_rounds` rounds."""
    boosters = _start(settings, x, y, seed=seed)
    _advance(boosters, settings.max_rounds)
    return average(boosters, rounds=settings.max_rounds)


@dataclass(frozen=True, kw_only=True)
class Look:
    """The rounds at which the mean average precision over the folds was highest, and the log odds there."""

    rounds: int
    ap: float
    odds: tuple[Floats, ...]


def look(
    settings: TreeSettings, folds: Sequence[Fold], *, seed: int, on_look: OnLook = lambda _rounds, _ap: None
) -> Look:
    """Return the best look at the validation rows; the trees of all folds grow side by side.

    One number of rounds for all folds follows the noise of a single one less than each fold's best.
    `on_look` is told the rounds so far and the mean average precision.
    """
    growing = [_start(settings, fold.x_train, fold.y_train, seed=seed) for fold in folds]
    best = Look(rounds=0, ap=-np.inf, odds=())
    odds = [np.zeros(len(fold.y_valid)) for fold in folds]
    for first in range(0, settings.max_rounds, settings.step):
        done = min(first + settings.step, settings.max_rounds)
        for place, (boosters, fold) in enumerate(zip(growing, folds, strict=True)):
            _advance(boosters, done - first)
            added = [_odds(booster, fold.x_valid, first=first) for booster in boosters]
            odds[place] = odds[place] + np.mean(added, axis=0)
        ap = mean_ap(folds, odds)
        on_look(done, ap)
        if ap > best.ap:
            best = Look(rounds=done, ap=ap, odds=tuple(odds))
        elif done - best.rounds >= settings.patience * settings.step:
            break
    return best


def predict(booster: lightgbm.Booster, x: NDArray[np.float32]) -> Floats:
    """Return the probability of fraud of each row."""
    return np.asarray(booster.predict(x, num_threads=cpu_limit()), dtype=np.float64)


def average(boosters: Sequence[lightgbm.Booster], *, rounds: int) -> lightgbm.Booster:
    """Return one booster whose log-odds are the mean of the boosters' first `rounds` rounds.

    The trees are put together and their leaves divided by the number of boosters, so that the
    ensemble is exported and served like a single model; round by round, so that its first trees are
    what all boosters had learned by then.
    """
    texts = [booster.model_to_string(num_iteration=rounds) for booster in boosters]
    head, _, rest = texts[0].partition("\nTree=0\n")
    # Byte offsets of the trees; without them LightGBM finds each tree by its heading.
    head = "\n".join(line for line in head.splitlines() if not line.startswith("tree_sizes="))
    tail = rest[rest.index("end of trees") :]
    rounds_of = itertools.zip_longest(*map(_blocks, texts))
    blocks = [block for of_round in rounds_of for block in of_round if block is not None]
    trees = "".join(f"Tree={i}\n{_scaled(block, 1 / len(texts))}" for i, block in enumerate(blocks))
    booster: lightgbm.Booster = load_lightgbm().Booster(model_str=f"{head}\n\n{trees}{tail}")
    return booster


def load_lightgbm() -> ModuleType:
    """Return the lightgbm module, its idle threads set to sleep.

    By default they spin between two steps, and where cores are shared that takes ten times the
    processor time. OpenMP reads the variable when it is loaded; a user's own value stays. Raises
    MissingExtraError where the OpenMP library can be had neither from the system nor from PyTorch.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return require("lightgbm", package=_PACKAGE)
    except OSError:
        # LightGBM's wheel leaves libgomp to the system, and a slim one has none; PyTorch's wheel brings the same.
        _load_openmp_of_torch()
        return require("lightgbm", package=_PACKAGE)


def _load_openmp_of_torch() -> None:
    torch = importlib.util.find_spec("torch")
    libraries = [Path(folder) / "lib" / "libgomp.so.1" for folder in (torch and torch.submodule_search_locations) or ()]
    try:
        ctypes.CDLL(str(next(path for path in libraries if path.is_file())), mode=ctypes.RTLD_GLOBAL)
    except (StopIteration, OSError) as error:
        raise MissingExtraError("LightGBM needs the OpenMP library; run `apt-get install libgomp1`") from error


def _start(settings: TreeSettings, x: NDArray[np.float32], y: Labels, *, seed: int) -> list[lightgbm.Booster]:
    module = load_lightgbm()
    params = {
        **settings.model_dump(exclude={"max_rounds", "step", "patience", "n_seeds"}),
        "objective": "binary",
        "bagging_freq": 1,
        "verbose": -1,
        "num_threads": cpu_limit(),
        # The same trees on every run, whatever the threads.
        "deterministic": True,
        "force_row_wise": True,
    }
    data = module.Dataset(x, y.astype(np.float32), params=params, free_raw_data=False)
    return [module.Booster({**params, "seed": seed + i}, data) for i in range(settings.n_seeds)]


def _advance(boosters: Sequence[Any], rounds: int) -> None:
    for booster in boosters:
        for _ in range(rounds):
            booster.update()


def _odds(booster: lightgbm.Booster, x: NDArray[np.float32], *, first: int) -> Floats:
    added = booster.predict(x, start_iteration=first, raw_score=True, num_threads=cpu_limit())
    return np.asarray(added, dtype=np.float64)


def _blocks(text: str) -> list[str]:
    trees = text[: text.index("end of trees")]
    return re.split(r"\nTree=\d+\n", trees)[1:]


def _scaled(block: str, factor: float) -> str:
    lines = []
    for line in block.splitlines():
        key, equals, values = line.partition("=")
        if key == "leaf_value":
            values = " ".join(repr(float(value) * factor) for value in values.split())
        lines.append(key + equals + values)
    return "\n".join(lines).rstrip("\n") + "\n\n\n"
