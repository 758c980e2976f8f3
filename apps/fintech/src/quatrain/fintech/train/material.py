"""The labelled rows of a training run as model inputs, split by time."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.errors import BadDataError, require_installed
from quatrain.fintech.data.named import NamedData, find_data
from quatrain.fintech.data.table import Labelled, Split, load_labelled, split_by_time
from quatrain.fintech.evaluate.sealed import scored_rows
from quatrain.fintech.features.build import build
from quatrain.fintech.features.names import feature_names
from quatrain.fintech.metrics.scored import Floats, Scored
from quatrain.fintech.train.candidates import Rows
from quatrain.fintech.train.config import TrainConfig

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Material:
    """Labelled rows in time order as model inputs, and their parts."""

    data: NamedData
    labelled: Labelled
    split: Split
    names: tuple[str, ...]
    x: NDArray[np.float32]

    @property
    def train(self) -> Rows:
        """The rows that candidates learn from."""
        return self._rows(self.split.train)

    @property
    def valid(self) -> Rows:
        """The rows that candidates are compared on."""
        return self._rows(self.split.valid)

    @property
    def past(self) -> Rows:
        """Everything before the test rows."""
        return self._rows(slice(0, self.split.test.start))

    @property
    def is_synthetic(self) -> bool:
        """Whether the catalogue or a file's own mark says that the rows were generated."""
        return self.labelled.is_synthetic or self.data.is_synthetic

    def scored(self, part: str, score: Floats) -> Scored:
        """Return the part named "train", "valid" or "test" with a model's scores."""
        return scored_rows(self.labelled, getattr(self.split, part), score)

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
            "rejected": labelled.rejections.total,
            "from": f"{first:%Y-%m-%d %H:%M}",
            "to": f"{last:%Y-%m-%d %H:%M}",
            "train": split.train.stop,
            "valid": split.valid.stop - split.valid.start,
            "test": split.test.stop - split.test.start,
            # What `evaluate` warns of is before this.
            "test_from": datetime.fromtimestamp(int(labelled.timestamp_us[split.test.start]) / 1e6, tz=UTC).isoformat(),
        }

    def _rows(self, part: slice) -> Rows:
        return self.x[part], self.labelled.label[part]


def prepare(config: TrainConfig) -> Material:
    """Return the config's data; raises BadDataError for a part without frauds.

    Raises MissingExtraError, before any work, when what trains is not installed.
    """
    for module in ("lightgbm", "sklearn", "torch"):
        require_installed(module, package="quatrain-fintech[train]")
    data = find_data(config.data, columns=config.columns)
    labelled = load_labelled(data.path, data.mapping, max_bad_ratio=config.max_bad_ratio)
    at_us = labelled.timestamp_us
    split = split_by_time(at_us, test_share=config.test_share, valid_share=config.valid_share)
    for name in ("train", "valid", "test"):
        label = labelled.label[getattr(split, name)]
        if not label.any() or label.all():
            raise BadDataError(
                f"the {name} part of {data.name} has {int(label.sum())} frauds in {len(label)} rows; "
                "both kinds are needed: give a longer period, or other --set test_share / valid_share"
            )
    span_us = int(at_us[split.train.stop - 1] - at_us[0])
    names = feature_names(labelled.table.column_names, labelled.extras, span_us=span_us, history="none")
    _LOG.info("%s: %d rows, %d frauds, inputs %s", data.name, len(labelled), labelled.label.sum(), ", ".join(names))
    return Material(data=data, labelled=labelled, split=split, names=names, x=build(labelled.table, names))
