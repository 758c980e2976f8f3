"""The labelled rows of a training run as model inputs, split by time and by what was known when."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.errors import BadDataError, require_installed
from quatrain.fintech.data.named import NamedData, find_data
from quatrain.fintech.data.table import Labelled, Split, load_labelled, split_by_time, time_folds
from quatrain.fintech.evaluate.folds import customers
from quatrain.fintech.evaluate.leaks import Leak, find_leaks
from quatrain.fintech.features.build import build
from quatrain.fintech.features.names import feature_names
from quatrain.fintech.features.row import DAY_US
from quatrain.fintech.metrics.scored import Floats, Ints, Labels, Scored
from quatrain.fintech.models.recipe import Fold
from quatrain.fintech.train.config import LABEL_DELAY_DAYS, TrainConfig

_LOG = logging.getLogger(__name__)

X = NDArray[np.float32]
# Data of fewer days than this cannot spare a week before each part.
_DAYS_WITH_DELAY = 56
# The share of the rows that the first of several folds learns from, at least.
_FIRST_SHARE = 0.3


@dataclass(frozen=True, kw_only=True)
class Material:
    """Transactions in time order as model inputs, and their parts."""

    data: NamedData
    labelled: Labelled
    split: Split
    names: tuple[str, ...]
    x: X
    label_delay_us: int
    n_folds: int
    valid_share: float
    leaks: tuple[Leak, ...]

    @property
    def is_synthetic(self) -> bool:
        """Whether the catalogue or a file's own mark says that the rows were generated."""
        return self.labelled.is_synthetic or self.data.is_synthetic

    @property
    def folds(self) -> list[Fold]:
        """What the recipe is chosen on, the earliest first: each is validated on what came right after its past."""
        known = self.split.known.stop
        first_share = max(1 - self.n_folds * self.valid_share, _FIRST_SHARE)
        at_us = self.labelled.timestamp_us[:known]
        parts = time_folds(at_us, n_folds=self.n_folds, first_share=first_share, delay_us=self.label_delay_us)
        earlier = [*parts][:-1] if self.n_folds > 1 else []
        folds = [self._fold(train, valid) for train, valid in earlier]
        return [*(fold for fold in folds if fold.y_train.any() and fold.y_valid.any()), self.latest_fold]

    @property
    def latest_fold(self) -> Fold:
        """The fold whose later rows are the validation rows; `prepare` has seen to both labels in both parts."""
        return self._fold(self.split.train, self.split.valid)

    @property
    def known(self) -> tuple[X, Labels]:
        """Every row with a label before the test, each with the label that was known when the test began."""
        rows = self.rows(self.split.known)
        return self.x[rows], self._known_at(self.split.test)[rows]

    def rows(self, part: slice) -> Ints:
        """Return which rows of a part somebody labelled."""
        found: Ints = np.flatnonzero(self.labelled.is_labelled[part]) + int(part.start)
        return found

    def days(self, rows: Ints) -> Ints:
        """Return the day of each of these rows, counted from 1970 in UTC."""
        return np.asarray(self.labelled.timestamp_us[rows] // DAY_US, dtype=np.int64)

    def scored(
        self, rows: Ints, score: Floats, *, probability: Floats | None = None, threshold: float | None = None
    ) -> Scored:
        """Return these rows with what a model says of them."""
        cards = customers(self.labelled)
        return Scored(
            label=self.labelled.label[rows],
            score=score,
            amount=self.labelled.amount[rows],
            day=self.days(rows),
            customer=None if cards is None else cards[rows],
            threshold=threshold,
            meant=probability,
        )

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says of the data."""
        labelled, split = self.labelled, self.split
        first, last = (datetime.fromtimestamp(int(t) / 1e6, tz=UTC) for t in labelled.timestamp_us[[0, -1]])
        return {
            "name": self.data.name,
            "licence": self.data.licence,
            "sha256": labelled.digest,
            "is_synthetic": self.is_synthetic,
            "rows": len(labelled),
            "frauds": int(labelled.label.sum()),
            "unlabelled": int((~labelled.is_labelled).sum()),
            "rejected": labelled.rejections.total,
            "from": f"{first:%Y-%m-%d %H:%M}",
            "to": f"{last:%Y-%m-%d %H:%M}",
            "train": len(self.rows(split.train)),
            "valid": len(self.rows(split.valid)),
            "waiting": split.waiting.stop - split.waiting.start,
            "test": len(self.rows(split.test)),
            # What `evaluate` warns of is before this.
            "test_from": datetime.fromtimestamp(int(labelled.timestamp_us[split.test.start]) / 1e6, tz=UTC).isoformat(),
        }

    def _fold(self, train: slice, valid: slice) -> Fold:
        learned, held_back = self.rows(train), self.rows(valid)
        return Fold(
            x_train=self.x[learned],
            y_train=self._known_at(valid)[learned],
            x_valid=self.x[held_back],
            y_valid=self._known_at(self.split.test)[held_back],
            day_valid=self.days(held_back),
        )

    def _known_at(self, part: slice) -> Labels:
        begin = int(self.labelled.timestamp_us[part.start])
        return self.labelled.label_known(begin, delay_us=self.label_delay_us)


def prepare(config: TrainConfig) -> Material:
    """Return the config's data; raises BadDataError for a part without frauds, and for leaks unless told to warn.

    Raises MissingExtraError, before any work, when what trains is not installed.
    """
    for module in ("lightgbm", "sklearn", "torch"):
        require_installed(module, package="quatrain-fintech[train]")
    data = find_data(config.data, columns=config.columns)
    labelled = load_labelled(data.path, data.mapping, max_bad_ratio=config.max_bad_ratio)
    at_us = labelled.timestamp_us
    delay_us = _label_delay_us(config, span_us=int(at_us[-1] - at_us[0]) if len(at_us) else 0)
    split = split_by_time(at_us, test_share=config.test_share, valid_share=config.valid_share, delay_us=delay_us)
    _check_parts(labelled, split, name=data.name, delay_us=delay_us)
    leaks = _check_leaks(config, labelled)
    names = feature_names(
        labelled.table.column_names,
        labelled.extras,
        span_us=int(at_us[split.train.stop - 1] - at_us[0]),
        label_delay_us=delay_us,
        history=config.features,
    )
    _LOG.info("%s: %d rows, %d frauds, %d inputs", data.name, len(labelled), labelled.label.sum(), len(names))
    return Material(
        data=data,
        labelled=labelled,
        split=split,
        names=names,
        x=build(labelled.table, names, label_delay_us=delay_us),
        label_delay_us=delay_us,
        n_folds=config.n_folds,
        valid_share=config.valid_share,
        leaks=leaks,
    )


def _label_delay_us(config: TrainConfig, *, span_us: int) -> int:
    if config.label_delay_days != "auto":
        return round(config.label_delay_days * DAY_US)
    if span_us >= _DAYS_WITH_DELAY * DAY_US:
        return round(LABEL_DELAY_DAYS * DAY_US)
    _LOG.warning(
        "labels are taken as known at once, for there are fewer than %d days of data; "
        "say --set label_delay_days=N if they come N days late",
        _DAYS_WITH_DELAY,
    )
    return 0


def _check_parts(labelled: Labelled, split: Split, *, name: str, delay_us: int) -> None:
    """Raise BadDataError for a part that does not have both labels by the time that they are read."""
    starts = {"train": split.valid.start, "valid": split.test.start}
    for part in ("train", "valid", "test"):
        rows = getattr(split, part)
        known, when = labelled.label, ""
        if part in starts:
            known = labelled.label_known(int(labelled.timestamp_us[starts[part]]), delay_us=delay_us)
            when = f" known when the {'validation' if part == 'train' else 'test'} begins"
        label = known[rows][labelled.is_labelled[rows]]
        if not label.any() or label.all():
            raise BadDataError(
                f"the {part} part of {name} has {int(label.sum())} frauds{when} in {len(label)} labelled rows; "
                "both kinds are needed: give a longer period, or other --set test_share / valid_share"
            )


def _check_leaks(config: TrainConfig, labelled: Labelled) -> tuple[Leak, ...]:
    """Return the columns that look like a leak; an id that looks like one is no input, so it only warns."""
    leaks = find_leaks(labelled, seed=config.seed)
    refused = [leak for leak in leaks if leak.column in labelled.extras]
    if refused and config.leaks == "refuse":
        told = "; ".join(f"{leak.column}: {leak.reason}" for leak in refused)
        raise BadDataError(
            f"columns seem to say what nobody knew yet when the transaction was decided on: {told}. Name them under "
            "[extra] ignore in columns.toml, or train all the same with --set leaks=warn"
        )
    for leak in leaks:
        _LOG.warning("%s seems to say what nobody knew yet: %s; %s", leak.column, leak.reason, leak.fix)
    return leaks
