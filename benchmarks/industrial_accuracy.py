"""What an inspector of good parts reaches: ranking of images and pixels, and whether the promised overkill is kept.

    python benchmarks/industrial_accuracy.py --data FOLDER

FOLDER has MVTec AD's layout; without it, parts are drawn. Training and evaluation are the app's own,
on the folder's split, for three seeds. Overkill is measured over random splits of all good parts:
trained and calibrated on one part, counted on the other, by the rule that would be sealed.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from _report import Claim, claim, finish, parser, table
from numpy.typing import NDArray

from quatrain.core.images import read_image
from quatrain.core.inference import open_session
from quatrain.industrial.data.layouts import read_folder
from quatrain.industrial.data.samples import select
from quatrain.industrial.decision import rule_for
from quatrain.industrial.evaluate.run import EvaluateConfig, evaluate
from quatrain.industrial.features.pixels import as_input, survey
from quatrain.industrial.metrics.intervals import binomial_band
from quatrain.industrial.metrics.ranking import auroc
from quatrain.industrial.models.extractor import geometry_for
from quatrain.industrial.models.inspector import score_of
from quatrain.industrial.simulation.parts import write_parts
from quatrain.industrial.train.choice import Choice, cross_scores
from quatrain.industrial.train.config import TrainConfig
from quatrain.industrial.train.graph import extractor_and_graph
from quatrain.industrial.train.material import features_of
from quatrain.industrial.train.run import train

# Of the good parts, what each random split trains on.
_TRAIN_SHARE = 0.7
_TARGETS = (0.02, 0.05)


@dataclass(frozen=True)
class Whole:
    """Features of every labelled part of a folder."""

    good: torch.Tensor
    bad: torch.Tensor


def measured(folder: Path, out: Path, seeds: range) -> tuple[list[dict[str, float]], Choice]:
    """Return the test row's measures and CPU seconds for each seed, and the first seed's choice."""
    rows, choices = [], []
    for seed in seeds:
        began = time.process_time()
        result = train(TrainConfig(data=str(folder), out=out / f"{folder.name}-{seed}", seed=seed))
        cpu_s = time.process_time() - began
        document = evaluate(EvaluateConfig(data=str(folder), bundle=str(result.bundle.path), n_resamples=50))
        rows.append(document["rows"][0]["metrics"] | {"train_cpu_s": cpu_s, "n_good": result.row["n"]})
        choices.append(result.choice)
    return rows, choices[0]


def features(folder: Path) -> Whole:
    """Return the features of all good and all bad parts, by the graph that training would seal."""
    samples = read_folder(folder).samples
    good = [read_image(sample.path) for sample in select(samples, is_defective=False)]
    bad = [read_image(sample.path) for sample in select(samples, is_defective=True)]
    spec = survey(good)
    config = TrainConfig(data=str(folder))
    _, onnx = extractor_and_graph(
        config.backbone,
        geometry_for(*spec.median_hw, side_px=config.side_px),
        n_channels=spec.channels,
        full_scale=spec.full_scale,
        dtype=spec.dtype,
    )
    session = open_session(onnx, threads=1)
    found = [
        torch.cat([features_of(session, as_input(image, spec, name="part")) for image in images])
        for images in (good, bad)
    ]
    return Whole(*found)


def split_measures(whole: Whole, choice: Choice, *, seed: int) -> dict[str, float]:
    """Return overkill and escape at each target, and the AUROC, on parts that this split did not train on."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(whole.good)))
    n_train = round(_TRAIN_SHARE * len(order))
    trained, held = whole.good[order[:n_train]], whole.good[order[n_train:]]
    scores = cross_scores(choice, trained, seed=seed)
    head = choice.head(trained)
    on_good, on_bad = (_scores(head.cells(part)) for part in (held, whole.bad))
    is_bad = np.r_[np.zeros(len(on_good), dtype=np.bool_), np.ones(len(on_bad), dtype=np.bool_)]
    row = {"auroc": auroc(is_bad, np.r_[on_good, on_bad]), "n": float(len(on_good))}
    for target in _TARGETS:
        limit = rule_for(scores, target=target).fail_above
        limit = np.inf if limit is None else limit
        row |= {
            f"overkill_{target:g}": float((on_good > limit).mean()),
            f"escape_{target:g}": float((on_bad <= limit).mean()),
        }
    return row


def _scores(cells: torch.Tensor) -> NDArray[np.float64]:
    return np.asarray(score_of(cells).double().numpy())


def overkill_claims(rows: list[dict[str, float]], name: str) -> list[Claim]:
    """Return whether mean overkill lies in the binomial 95 % band of each target."""
    n = int(rows[0]["n"])
    claims = []
    for target in _TARGETS:
        low, high = binomial_band(target, n)
        mean = float(np.mean([row[f"overkill_{target:g}"] for row in rows]))
        claims.append(claim(f"{name}: mean overkill at {target:.0%}, upper band", mean, high / n, at_least=False))
        claims.append(claim(f"{name}: mean overkill at {target:.0%}, lower band", mean, low / n, at_least=True))
    escape = float(np.mean([row["escape_0.05"] for row in rows]))
    claims.append(claim(f"{name}: escape at 5% overkill", escape, 0.15, at_least=False))
    return claims


def main() -> None:
    """Measure, print, and say which claims hold."""
    arguments = parser(__doc__)
    arguments.add_argument("--data", type=Path, help="A folder in MVTec AD's layout; parts are drawn without it.")
    options = arguments.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    with tempfile.TemporaryDirectory() as place:
        os.environ["QUATRAIN_CORE__HOME"] = place
        folders = [options.data] if options.data else drawn(Path(place), is_quick=options.quick)
        claims: list[Claim] = []
        for folder in folders:
            claims += claims_of(folder, Path(place), is_quick=options.quick, is_drawn=options.data is None)
    finish(claims)


def drawn(place: Path, *, is_quick: bool) -> list[Path]:
    """Return folders of SYNTHETIC parts, one of each kind."""
    folders = []
    for kind in ("disc", "cast") if is_quick else ("disc", "pcb", "fabric", "cast"):
        n_train, n_good = (60, 30) if is_quick else (120, 60)
        write_parts(place / kind, seed=1, kind=kind, n_train=n_train, n_good=n_good, n_bad=6, side_px=256)
        folders.append(place / kind)
    return folders


def claims_of(folder: Path, place: Path, *, is_quick: bool, is_drawn: bool) -> list[Claim]:
    """Return the claims on one folder, after printing its tables."""
    name = folder.name
    rows, choice = measured(folder, place / "bundles", range(1 if is_quick else 3))
    shown = (
        "image_auroc",
        "pixel_auroc",
        "aupro_30",
        "overkill",
        "escape",
        "escape_unreviewed",
        "n_good",
        "train_cpu_s",
    )
    print(f"{name}: the folder's own split, scorers {' + '.join(choice.names)}")
    table(("seed", *shown), [(seed, *(row.get(key, float("nan")) for key in shown)) for seed, row in enumerate(rows)])
    whole = features(folder)
    splits = [split_measures(whole, choice, seed=seed) for seed in range(5 if is_quick else 20)]
    keys = list(splits[0])
    print(f"{name}: random splits of the good parts")
    table(("measure", "mean", "lowest", "highest"), [(key, *_summary(splits, key)) for key in keys])
    found = overkill_claims(splits, name)
    image, pixel = (min(row[key] for row in rows) for key in ("image_auroc", "pixel_auroc"))
    targets = (0.9, 0.9) if is_drawn else (0.95, 0.88)
    return [
        claim(f"{name}: image AUROC, worst seed", image, targets[0], at_least=True),
        claim(f"{name}: pixel AUROC, worst seed", pixel, targets[1], at_least=True),
        *found,
    ]


def _summary(rows: list[dict[str, float]], key: str) -> tuple[float, float, float]:
    values = [row[key] for row in rows]
    return float(np.mean(values)), min(values), max(values)


if __name__ == "__main__":
    main()
