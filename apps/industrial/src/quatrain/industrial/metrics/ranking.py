"""Area under the ROC curve: how well scores tell bad from good."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata  # type: ignore[import-untyped]  # scipy brings no stubs

Labels = NDArray[np.bool_]


def auroc(is_bad: Labels, score: NDArray[np.floating]) -> float:
    """Return the chance that a bad one scores above a good one, ties half (Mann and Whitney 1947); NaN of one class."""
    n_bad = int(is_bad.sum())
    n_good = is_bad.size - n_bad
    if not n_bad or not n_good:
        return float("nan")
    ranks = rankdata(score.ravel())
    return float((ranks[is_bad.ravel()].sum() - n_bad * (n_bad + 1) / 2) / (n_bad * n_good))
