"""Whether images come from where the model was validated, asked before any label is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.calibration.temperature import sigmoid
from quatrain.core.intervals import delong

Floats = NDArray[np.float64]
# A kernel over more rows than this tells no more and takes longer.
_MAX_ROWS = 400
_N_FOLDS = 5
_RIDGE = 1.0
_NEWTON_STEPS = 8


@dataclass(frozen=True, kw_only=True)
class SiteShift:
    """Two tests of the same question, and how well a simple classifier tells the sites apart (.5: it cannot)."""

    p_value: float
    mmd: float
    domain_auc: float
    # Of distances and of probabilities: the largest gap between both sites' distribution functions.
    ks_distance: float
    ks_probability: float
    is_alarm: bool

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return dict(vars(self))


def site_shift(
    reference: dict[str, Any],
    answers: dict[str, NDArray[Any]],
    *,
    n_permutations: int = 199,
    alarm_p: float = 0.01,
    seed: int = 0,
) -> SiteShift:
    """Return whether embeddings differ from the sealed reference's, by a permutation test of the mean discrepancy.

    Gretton et al., "A Kernel Two-Sample Test", JMLR 2012: a Gaussian kernel as wide as the median distance. A change
    of how many are ill rings it as well as another machine does: both break the promised coverage of a set of
    answers or the probabilities.
    """
    rng = np.random.default_rng(seed)
    known = np.asarray(reference["embedding"], np.float64)
    new = np.asarray(answers["embedding"], np.float64)[:, : known.shape[1]]
    known, new = _some(known, rng), _some(new, rng)
    mmd, p_value = mmd_test(known, new, n_permutations=n_permutations, rng=rng)
    return SiteShift(
        p_value=p_value,
        mmd=mmd,
        domain_auc=domain_auc(known, new, rng=rng),
        ks_distance=ks_gap(np.asarray(reference["distance"]), answers["distance"]),
        ks_probability=max(
            ks_gap(column, np.asarray(answers["probability"])[:, k])
            for k, column in enumerate(np.asarray(reference["probability"]).T)
        ),
        is_alarm=p_value <= alarm_p,
    )


def mmd_test(first: Floats, second: Floats, *, n_permutations: int, rng: np.random.Generator) -> tuple[float, float]:
    """Return (biased squared maximum mean discrepancy, p-value): the share of relabellings at least as far apart."""
    both = np.concatenate([first, second])
    squares = (both**2).sum(1)
    distance = np.maximum(squares[:, None] + squares - 2 * both @ both.T, 0)
    width = float(np.median(distance[np.triu_indices(len(both), 1)]))
    kernel = np.exp(-distance / max(width, 1e-12))
    m, n = len(first), len(second)
    # A sign vector s gives the statistic s' K s: one product for all relabellings.
    weight = np.concatenate([np.full(m, 1 / m), np.full(n, -1 / n)])
    signs = np.stack([weight, *(rng.permutation(weight) for _ in range(n_permutations))])
    values = np.einsum("ij,ij->i", signs @ kernel, signs)
    return float(values[0]), float((values >= values[0] - 1e-12).mean())


def domain_auc(first: Floats, second: Floats, *, rng: np.random.Generator) -> float:
    """Return the cross-validated area of a ridge logistic regression that tells both apart."""
    x = np.concatenate([first, second])
    x = (x - x.mean(0)) / (x.std(0) + 1e-9)
    y = np.repeat([0.0, 1.0], [len(first), len(second)])
    fold = rng.permutation(len(x)) % _N_FOLDS
    score = np.empty(len(x))
    for k in range(_N_FOLDS):
        score[fold == k] = _with_one(x[fold == k]) @ _logistic(_with_one(x[fold != k]), y[fold != k])
    return delong(y, score).value


def ks_gap(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Return the largest gap between two empirical distribution functions (Kolmogorov and Smirnov)."""
    a, b = np.sort(np.asarray(first, np.float64)), np.sort(np.asarray(second, np.float64))
    both = np.concatenate([a, b])
    gap = np.searchsorted(a, both, side="right") / len(a) - np.searchsorted(b, both, side="right") / len(b)
    return float(np.abs(gap).max())


def _some(rows: Floats, rng: np.random.Generator) -> Floats:
    return rows if len(rows) <= _MAX_ROWS else rows[rng.permutation(len(rows))[:_MAX_ROWS]]


def _with_one(x: Floats) -> Floats:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def _logistic(x: Floats, y: Floats) -> Floats:
    theta = np.zeros(x.shape[1])
    ridge = np.eye(x.shape[1]) * _RIDGE
    for _ in range(_NEWTON_STEPS):
        p = sigmoid(x @ theta)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + ridge
        theta = theta - np.linalg.solve(hessian, x.T @ (p - y) + ridge @ theta)
    return theta
