"""Which recipe for small radiographs carries over to another site, asked without that site.

A validation split that is drawn from the same place as the training images is easy: it cannot tell recipes apart.
Two harder questions stand in for the new site. *Odd normals*: the fifth of the normal images that a simple model
takes most for pneumonia is held out of training, and the network is tested on them beside unseen pneumonias. *Shown
otherwise*: the same held-out images with other contrast, gamma, sharpness, resolution and zoom.

Needs a binary MedMNIST file such as pneumoniamnist.npz: `--data FILE.npz`. Without it nothing is measured.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from _report import claim, finish, parser, table
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from torch.nn import functional

from quatrain.core.intervals import delong
from quatrain.core.vision.augmentation import Augmentation
from quatrain.healthcare.checks import coarse
from quatrain.healthcare.data.labelled import Labelled, Part
from quatrain.healthcare.data.npz import read_npz
from quatrain.healthcare.models.outputs import LOGITS
from quatrain.healthcare.models.settings import Intensity, ModelSettings
from quatrain.healthcare.train.config import TrainConfig
from quatrain.healthcare.train.fitting import fit_model

# Share of the normals that is held out as another site's.
_ODD_SHARE = 0.22
_N_HELD_FINDINGS = 500
_STILL = Augmentation(flip=0, shift=0, rotation_degrees=0, zoom=0, brightness=0, contrast=0)
# What --quick compares, and what lacks a part of the shipped recipe.
_QUICK = ("shipped, one network", "neither")
_WITHOUT = ("not standardised", "no augmentation", "neither")
_UNCHANGED = Intensity(gamma=0, contrast=0, brightness=0, noise=0, blur=0)


def recipes() -> dict[str, ModelSettings]:
    """Return the recipes by name, the shipped one first; single networks, so that seeds do not hide differences."""
    one = ModelSettings(members=1)
    return {
        "shipped, one network": one,
        "not standardised": one.model_copy(update={"standardised": False}),
        "no augmentation": one.model_copy(update={"moved": _STILL, "shown": _UNCHANGED}),
        "neither": one.model_copy(update={"standardised": False, "moved": _STILL, "shown": _UNCHANGED}),
        "covered in part": one.model_copy(update={"shown": one.shown.model_copy(update={"cover": 0.5})}),
    }


def odd_normals(data: Labelled, *, seed: int) -> tuple[Labelled, Part]:
    """Return the set without its oddest normals and some findings, and these."""
    images = np.concatenate([part.images for name, part in data.parts.items() if name != "test"])
    labels = np.concatenate([part.labels for name, part in data.parts.items() if name != "test"])
    simple = LogisticRegression(C=0.01, max_iter=300, class_weight="balanced")
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    score = cross_val_predict(simple, coarse(images), labels, cv=folds, method="decision_function")
    normal, ill = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)
    odd = normal[np.argsort(-score[normal])[: int(_ODD_SHARE * len(normal))]]
    held = np.concatenate(
        [odd, np.random.default_rng(seed).choice(ill, min(_N_HELD_FINDINGS, len(ill) // 4), replace=False)]
    )
    rest = np.setdiff1d(np.arange(len(labels)), held)
    known = Labelled(
        name=data.name,
        kind="binary",
        classes=data.classes,
        parts={"train": Part(images=images[rest], labels=labels[rest])},
    )
    return known.with_validation(share=0.1, seed=seed), Part(images=images[held], labels=labels[held])


def shown_otherwise(images: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    """Return the images as other machines might show them."""
    x = torch.from_numpy(images)[:, None].float() / 255
    mean = x.mean((2, 3), keepdim=True)
    blurred = functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    side = x.shape[-1]
    small = functional.interpolate(x, size=side // 2, mode="area")

    def zoomed(factor: float) -> torch.Tensor:
        grid = functional.affine_grid(torch.eye(2, 3).repeat(len(x), 1, 1) * factor, list(x.shape), align_corners=False)
        return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)

    views = {
        "flat": (x - mean) * 0.6 + mean,
        "steep": (x - mean) * 1.5 + mean,
        "dark": x**1.6,
        "blurred": blurred,
        "sharp": 2 * x - blurred,
        "coarse": functional.interpolate(small, size=side, mode="bilinear"),
        "near": zoomed(0.82),
        "far": zoomed(1.18),
    }
    return {name: (view.clamp(0, 1)[:, 0] * 255).round().to(torch.uint8).numpy() for name, view in views.items()}


def main() -> None:
    """Train each recipe and print what it does on both questions."""
    arguments = parser(__doc__)
    arguments.add_argument("--data", type=Path, help="A binary MedMNIST file.")
    arguments.add_argument("--recipes", nargs="*", help="Names to measure; default: all.")
    arguments.add_argument("--seeds", type=int, default=1)
    given = arguments.parse_args()
    if given.data is None or not given.data.is_file():
        finish(skipped="give --data: a binary MedMNIST file such as pneumoniamnist.npz")
    data = read_npz(given.data)
    known, odd = odd_normals(data, seed=0)
    chosen = given.recipes or [name for name in recipes() if not given.quick or name in _QUICK]
    rows = [_measured(name, seed, known, odd, is_quick=given.quick) for name in chosen for seed in range(given.seeds)]
    table(("recipe", "seed", "easy auc", "odd auc", "odd, otherwise", "sensitivity", "specificity", "cpu s"), rows)
    means = {name: float(np.mean([row[3] for row in rows if row[0] == name])) for name in chosen}
    first = means[chosen[0]]
    claims = [claim("odd auc of the shipped recipe", first, 0.8 if given.quick else 0.975, at_least=True)]
    without = [value for name, value in means.items() if name in _WITHOUT]
    if without:
        least = -0.02 if given.quick else 0.0
        claims.append(claim("gain over recipes without a part of it", first - max(without), least, at_least=True))
    finish(claims)


def _measured(
    name: str, seed: int, known: Labelled, odd: Part, *, is_quick: bool
) -> tuple[str, int, float, float, float, float, float, float]:
    settings, train = recipes()[name], known.part("train")
    if is_quick:
        settings = settings.model_copy(update={"width": 8, "fit": settings.fit.model_copy(update={"epochs": 2})})
        train = train.rows(np.arange(0, len(train), 2))
    began = time.process_time()
    config = TrainConfig(data=known.name, model=settings, seed=seed)
    fitted = fit_model(replace(known, parts={**known.parts, "train": train}), config)
    seconds = time.process_time() - began

    def logits_of(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return fitted.answer(images)[LOGITS][:, 0]

    own = known.part("val")
    logits = logits_of(odd.images)
    views = [delong(odd.labels, logits_of(view)).value for view in shown_otherwise(odd.images).values()]
    is_ill, named = odd.labels == 1, logits >= 0
    return (
        name,
        seed,
        delong(own.labels, logits_of(own.images)).value,
        delong(odd.labels, logits).value,
        float(np.mean(views)),
        float(named[is_ill].mean()),
        float((~named[~is_ill]).mean()),
        seconds,
    )


if __name__ == "__main__":
    main()
