"""Learning what good pictures of a set look like and how they lie, from the pictures themselves: no label is needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quatrain.core.calibration.temperature import softmax
from quatrain.core.errors import require
from quatrain.healthcare.checks import POSES, SIDE, Checks, coarse, posed

_MAX_ROWS = 1500
_N_DIRECTIONS = 48
_RIDGE = 3e-3
_MAX_STEPS = 150
_LEAST_REST = 0.02


def fit_checks(
    images: NDArray[np.uint8], unseen: NDArray[np.uint8], *, false_alarms: float, has_pose: bool, seed: int = 0
) -> Checks:
    """Return the checks of a set; `has_pose` False for sets without an up and down, whose pose is never wrong.

    Limits are quantiles of `unseen` good images and of those of `images` that the checks are not learned from: each
    of the two checks may call half of `false_alarms` of them.
    """
    order = np.random.default_rng(seed).permutation(len(images))
    n_learned = min(_MAX_ROWS, max(2, 2 * len(images) // 3))
    rest_of, images = images[order[n_learned:]], images[order[:n_learned]]
    unseen = np.concatenate([unseen, rest_of])
    x = coarse(images)
    mean = x.mean(0)
    _, scales, directions = np.linalg.svd(x - mean, full_matrices=False)
    deviation = scales / np.sqrt(max(1, len(x) - 1))
    n = min(_N_DIRECTIONS, len(deviation) - 1)
    rest = max(float(np.sqrt((deviation[n:] ** 2).sum() / (SIDE * SIDE - n))), _LEAST_REST)
    poses = _fit_poses(images) if has_pose else np.zeros((len(POSES), SIDE * SIDE + 1))
    checks = Checks(
        mean=mean,
        directions=directions[:n].T / np.maximum(deviation[:n], rest),
        rest=rest,
        poses=poses,
        appearance_limit=np.inf,
        upright_limit=0.0,
        is_grey=images.ndim == 3,  # noqa: PLR2004 - (n, H, W)
    )
    # As it comes back from the manifest: limits belong to the rounded numbers.
    sealed = Checks.from_json(checks.to_json() | {"appearance_limit": 0.0})
    half = false_alarms / 2
    upright = float(np.quantile(sealed.pose_probability(unseen)[:, 0], half)) if has_pose else 0.0
    limits = {
        "appearance_limit": float(np.quantile(sealed.appearance(unseen), 1 - half)),
        # A picture that is more likely turned than not is turned, whatever the quantile.
        "upright_limit": min(upright, 0.99),
    }
    return Checks.from_json(checks.to_json() | limits)


def _fit_poses(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the weights of a softmax regression on pictures that were turned and inverted on purpose."""
    x = np.concatenate([coarse(posed(images, pose)) for pose in range(len(POSES))])
    y = np.repeat(np.arange(len(POSES)), len(images))
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    truth = np.eye(len(POSES))[y]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(len(POSES), -1)
        p = softmax(x @ weights.T)
        value = -np.log(np.maximum(p[np.arange(len(y)), y], 1e-300)).mean() + _RIDGE * (weights**2).sum() / 2
        return float(value), ((p - truth).T @ x / len(x) + _RIDGE * weights).ravel()

    start = np.zeros(len(POSES) * x.shape[1])
    optimize = require("scipy.optimize", package="quatrain-healthcare")
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _MAX_STEPS})
    return np.asarray(found.x, np.float64).reshape(len(POSES), -1)
