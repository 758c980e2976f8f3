"""Which scorer suits these parts: by folds of the good ones, told from the same parts with pasted defects."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quatrain.core.errors import UsageError, did_you_mean
from quatrain.industrial.metrics.ranking import auroc
from quatrain.industrial.models.inspector import Head, score_of
from quatrain.industrial.models.scorers import SCORERS
from quatrain.industrial.train.material import Material

_LOG = logging.getLogger(__name__)
# Folds that scorers are compared on, and that the chosen one is calibrated on: the more, the nearer to all parts.
_CHOICE_FOLDS, _CALIBRATION_FOLDS = 4, 10
# Two scorers together must be better than the best alone by this much, as they cost twice the time.
_WORTH = 0.003
# The best so many alone are tried in pairs.
_N_PAIRED = 3
# A cell counts as defective from this share covered, and as good only at none.
_COVERED = 0.2


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A scorer, or two, on folds: how well it tells good parts and places from pasted defects."""

    names: tuple[str, ...]
    image_auroc: float
    pixel_auroc: float

    @property
    def merit(self) -> float:
        """What the choice goes by: parts and places count alike."""
        return (self.image_auroc + self.pixel_auroc) / 2

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"scorers": list(self.names), "image_auroc": self.image_auroc, "pixel_auroc": self.pixel_auroc}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The chosen scorers, in which units their maps are averaged, and what was compared."""

    names: tuple[str, ...]
    centres: tuple[float, ...]
    spreads: tuple[float, ...]
    trials: tuple[Trial, ...]

    def head(self, good: Tensor) -> Head:
        """Return the head fitted on these good parts' features."""
        return Head([SCORERS[name](good) for name in self.names], centres=self.centres, spreads=self.spreads)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `trials` in falling order of merit."""
        ordered = sorted(self.trials, key=lambda trial: -trial.merit)
        return {"scorers": list(self.names), "on": "pasted defects", "trials": [trial.to_dict() for trial in ordered]}


@dataclass(frozen=True)
class _Maps:
    good: Tensor
    pasted: Tensor

    def standardised(self) -> tuple[_Maps, float, float]:
        """Return the maps in the good parts' units, and the mean and deviation of those."""
        centre, spread = float(self.good.mean()), float(self.good.std()) + 1e-6
        return _Maps((self.good - centre) / spread, (self.pasted - centre) / spread), centre, spread


def choose(material: Material, *, scorer: str, seed: int) -> Choice:
    """Return the scorer, or the pair, that best tells good parts from pasted defects; no bad part is needed.

    `scorer` "auto" compares all, else it names one of SCORERS. Every map is of a part that its
    scorer was not fitted on. Raises UsageError for a name that is not known.
    """
    if scorer != "auto" and scorer not in SCORERS:
        raise UsageError(f"no scorer is called {scorer!r}{did_you_mean(scorer, ['auto', *SCORERS])}")
    names = tuple(SCORERS) if scorer == "auto" else (scorer,)
    fold = folds(len(material.good), _CHOICE_FOLDS, seed=seed)
    found = {name: _cross_maps(name, material, fold).standardised() for name in names}
    maps = {name: each[0] for name, each in found.items()}
    alone = sorted((_trial((name,), maps, material) for name in names), key=lambda trial: -trial.merit)
    leaders = [trial.names[0] for trial in alone[:_N_PAIRED]]
    pairs = [_trial(pair, maps, material) for pair in combinations(leaders, 2)]
    best = alone[0]
    # A pair that finds more places, but fewer parts, is no gain: parts are what is decided on.
    no_worse = [pair for pair in pairs if pair.image_auroc >= best.image_auroc]
    best_pair = max(no_worse, key=lambda trial: trial.merit, default=best)
    if best_pair.merit > best.merit + _WORTH:
        best = best_pair
    _LOG.info("chose %s: image AUROC %.3f on pasted defects", " + ".join(best.names), best.image_auroc)
    return Choice(
        names=best.names,
        centres=tuple(found[name][1] for name in best.names),
        spreads=tuple(found[name][2] for name in best.names),
        trials=(*alone, *pairs),
    )


def cross_scores(choice: Choice, good: Tensor, *, seed: int) -> NDArray[np.float64]:
    """Return each good part's score by a head that was fitted without it, (N,)."""
    fold = folds(len(good), _CALIBRATION_FOLDS, seed=seed + 1)
    scores = np.empty(len(good))
    for number in range(int(fold.max()) + 1):
        held = torch.from_numpy(fold == number)
        head = choice.head(good[~held])
        scores[fold == number] = score_of(head.cells(good[held])).double().numpy()
    return scores


def folds(n: int, k: int, *, seed: int) -> NDArray[np.int64]:
    """Return each part's fold, of even sizes: at most k, each part its own where there are fewer."""
    return np.random.default_rng(seed).permutation(np.arange(n) % min(n, k))


def _cross_maps(name: str, material: Material, fold: NDArray[np.int64]) -> _Maps:
    good = torch.empty(len(material.good), *material.good.shape[2:])
    pasted = torch.empty(len(material.pasted), *material.pasted.shape[2:])
    for number in range(int(fold.max()) + 1):
        held = torch.from_numpy(fold == number)
        head = Head([SCORERS[name](material.good[~held])], centres=[0], spreads=[1])
        good[held] = head.cells(material.good[held])
        on_held = torch.from_numpy(fold[material.source] == number)
        if on_held.any():
            pasted[on_held] = head.cells(material.pasted[on_held])
    return _Maps(good, pasted)


def _trial(names: Sequence[str], maps: dict[str, _Maps], material: Material) -> Trial:
    good = torch.stack([maps[name].good for name in names]).mean(0)
    pasted = torch.stack([maps[name].pasted for name in names]).mean(0)
    is_bad = np.r_[np.zeros(len(good), dtype=np.bool_), np.ones(len(pasted), dtype=np.bool_)]
    score = torch.cat([score_of(good), score_of(pasted)]).numpy()
    covered = material.covered.numpy()
    is_told = (covered >= _COVERED) | (covered == 0)
    return Trial(
        names=tuple(names),
        image_auroc=auroc(is_bad, score),
        pixel_auroc=auroc((covered >= _COVERED)[is_told], pasted.numpy()[is_told]),
    )
