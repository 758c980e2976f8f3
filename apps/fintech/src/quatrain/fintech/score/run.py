"""The scoring job: `quatrain fintech score`."""

from __future__ import annotations

import hashlib
import json
import logging
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from quatrain.core.config import Config, Flag, UserPath, settings
from quatrain.core.inference import Model, load_model
from quatrain.core.jobs.config import JobConfig
from quatrain.core.jobs.engine import run_job
from quatrain.core.jobs.feed import Feed
from quatrain.core.jobs.report import JobReport
from quatrain.fintech.data.columns import ColumnMap, read_columns
from quatrain.fintech.data.table import PATTERNS
from quatrain.fintech.features.names import needs_history
from quatrain.fintech.score import feeds
from quatrain.fintech.score.scorer import Scorer
from quatrain.fintech.score.session import ForestSession

# The name of the job in the ledger.
JOB = "fintech.score"
_LOG = logging.getLogger(__name__)
# Part of every unit's key: raise it when the same input should give other output.
_OUTPUT_VERSION = 2


class ScoreConfig(Config):
    """Which files, which model, and how much bad data to put up with: the `[fintech.score]` section."""

    # Files, or folders of CSV and Parquet files.
    inputs: Annotated[tuple[UserPath, ...], Flag("--data")] = Field(min_length=1)
    bundle: str = "fintech/fraud@prod"
    out: UserPath = Field(default_factory=lambda: settings().home / "scored" / "fintech")
    # columns.toml; None takes the mapping that the model was trained with.
    columns: UserPath | None = None
    # A file or folder of earlier transactions that history features look back on; each is read once.
    history: UserPath | None = None
    # A file or folder that says which earlier transactions were fraud: transaction_id, is_fraud, labelled_at.
    labels: UserPath | None = None
    since: datetime | None = None
    dry_run: bool = False
    max_bad_ratio: float = Field(default=0.05, ge=0, le=1)
    prom: UserPath | None = None

    @field_validator("inputs", mode="before")
    @classmethod
    def _one_is_enough(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Path) else value


def score(config: ScoreConfig) -> JobReport:
    """Score every new file once; scores, alerts and rejected rows lie in `config.out`.

    Raises LockedError while another process scores into the same folder, BundleError for a model
    that is not what was sealed; one bad file never ends the run.
    """
    model = load_model(config.bundle, opener=ForestSession)
    mapping = _mapping(config, model)
    scorer = Scorer(model, mapping, out=config.out)
    return run_job(
        JobConfig(patterns=PATTERNS, **config.model_dump(exclude={"bundle", "columns", "history", "labels"})),
        name=JOB,
        app="fintech",
        model_digest=model.digest,
        config_digest=_digest(mapping),
        process=scorer.process,
        ahead=_ahead(config, model, mapping),
    )


def _ahead(config: ScoreConfig, model: Model, mapping: ColumnMap) -> list[Feed]:
    """Return what is read before any file is scored; it is in no file's key, so new labels score nothing again."""
    if not needs_history(model.manifest.inputs[0].columns):
        if config.history is not None or config.labels is not None:
            _LOG.warning("this model looks at each transaction alone: history and labels are not read")
        return []
    found = []
    if config.history is not None:
        found.append(feeds.past_transactions(config.history, mapping))
    if config.labels is not None:
        found.append(feeds.labels(config.labels, mapping))
    return found


def _mapping(config: ScoreConfig, model: Model) -> ColumnMap:
    sealed = ColumnMap.model_validate(model.manifest.decision["columns"])
    if config.columns is None:
        return sealed
    given = read_columns(config.columns)
    # Tokens of another key would be other cards to the model; where the file names no key, the model's is meant.
    key_id = given.pan.key_id or sealed.pan.key_id
    return given.model_copy(update={"pan": given.pan.model_copy(update={"key_id": key_id})})


def _digest(mapping: ColumnMap) -> str:
    text = json.dumps([_OUTPUT_VERSION, mapping.model_dump(mode="json")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
