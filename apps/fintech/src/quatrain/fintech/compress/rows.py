"""The rows of a compression: those that the model knew, to calibrate on, and later ones, to be judged by."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from quatrain.core.bundle.manifest import Manifest
from quatrain.core.errors import BadDataError
from quatrain.fintech.compress.config import CompressConfig
from quatrain.fintech.data.columns import ColumnMap
from quatrain.fintech.data.named import find_data
from quatrain.fintech.data.table import Labelled, load_labelled
from quatrain.fintech.features.build import build
from quatrain.fintech.features.names import extra_names
from quatrain.fintech.features.row import DAY_US
from quatrain.fintech.metrics.scored import Ints, Labels

_LOG = logging.getLogger(__name__)
# Of the calibration rows at most so many are frauds: they are what the largest activations come from.
_FRAUD_SHARE = 0.25
# Of the rows before the model's test, the latest share: what alerts are counted on where scores have moved.
_RECENT_SHARE = 0.2

X = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Inputs as the model takes them, with labels: of the time that it was trained on, and after it."""

    # What a person calls the data, and its digest.
    data: str
    digest: str
    # Rows whose label was known when the model's test began, and those labels.
    known_x: X
    known_y: Labels
    # The latest rows before the test, whatever they are.
    recent_x: X
    # Rows from the model's test on.
    later_x: X
    later_y: Labels

    def calibration(self, n_rows: int, *, seed: int) -> X:
        """Return rows of the training period, drawn at random, up to a quarter of them frauds."""
        rng = np.random.default_rng(seed)
        frauds, others = np.flatnonzero(self.known_y), np.flatnonzero(~self.known_y)
        n_frauds = min(len(frauds), int(n_rows * _FRAUD_SHARE))
        chosen = np.concatenate([rng.permutation(frauds)[:n_frauds], rng.permutation(others)[: n_rows - n_frauds]])
        return np.ascontiguousarray(self.known_x[rng.permutation(chosen)])


def read_rows(config: CompressConfig, manifest: Manifest) -> Rows:
    """Return the data's labelled rows before and after the moment up to which the bundle was trained.

    Features are those of training and scoring: each row sees only what came before it. Raises
    BadDataError where the data ends before that moment, or holds only one of the labels after it.
    """
    decision = manifest.decision
    names = manifest.inputs[0].columns
    data = find_data(config.data, columns=config.columns, default=ColumnMap.model_validate(decision["columns"]))
    labelled = load_labelled(data.path, data.mapping, extras=extra_names(names), max_bad_ratio=config.max_bad_ratio)
    delay_us = round(float(decision.get("label_delay_days", 0)) * DAY_US)
    test_us = _test_from_us(manifest)
    later = _later(labelled, test_us, name=data.name, manifest=manifest)
    is_known = (labelled.timestamp_us < test_us - delay_us) & labelled.is_labelled
    known = np.flatnonzero(is_known)
    x = build(labelled.table, names, label_delay_us=delay_us)
    n_before = int((labelled.timestamp_us < test_us).sum())
    _LOG.info("%d rows of the training period, %d later ones to be judged by", len(known), len(later))
    return Rows(
        data=data.name,
        digest=labelled.digest,
        known_x=x[known],
        known_y=labelled.label_known(test_us, delay_us=delay_us)[known],
        recent_x=x[int((1 - _RECENT_SHARE) * n_before) : n_before],
        later_x=x[later],
        later_y=labelled.label[later],
    )


def _later(labelled: Labelled, test_us: int, *, name: str, manifest: Manifest) -> Ints:
    """Return the labelled rows from the model's test on."""
    later: Ints = np.flatnonzero((labelled.timestamp_us >= test_us) & labelled.is_labelled)
    label = labelled.label[later]
    if not label.any() or label.all():
        raise BadDataError(
            f"{name} has {int(label.sum())} frauds in {len(later)} labelled rows from {manifest.data['test_from']} on, "
            f"up to which {manifest.name} was trained; what compression loses shows on later rows of both kinds only: "
            "give data that goes on after it"
        )
    return later


def _test_from_us(manifest: Manifest) -> int:
    test_from = manifest.data.get("test_from")
    if test_from is None:
        raise BadDataError(
            f"{manifest.name} does not say up to when it was trained, so no rows are known to be new to it; "
            "train it again with `quatrain fintech train`"
        )
    return round(datetime.fromisoformat(test_from).timestamp() * 1e6)
