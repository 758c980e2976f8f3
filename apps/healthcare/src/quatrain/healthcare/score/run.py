"""The scoring job: `quatrain healthcare score`."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from quatrain.core.config import Config, Flag, UserPath, settings
from quatrain.core.inference import load_model
from quatrain.core.jobs.config import JobConfig
from quatrain.core.jobs.engine import run_job
from quatrain.core.jobs.report import JobReport
from quatrain.healthcare.score.reading import PATTERNS
from quatrain.healthcare.score.scorer import Scorer

# The name of the job in the ledger.
JOB = "healthcare.score"
# Part of every unit's key: raise it when the same input should give other output.
_OUTPUT_VERSION = 1


class ScoreConfig(Config):
    """Which files, which model, and how much bad data to put up with: the `[healthcare.score]` section."""

    # Files, or folders of images and DICOM files.
    inputs: Annotated[tuple[UserPath, ...], Flag("--data")] = Field(min_length=1)
    # A model's name such as healthcare/chest-phantoms@prod, or a bundle folder.
    bundle: str
    out: UserPath = Field(default_factory=lambda: settings().home / "scored" / "healthcare")
    since: datetime | None = None
    dry_run: bool = False
    # Exit 65 above this share of refused files in one run.
    max_bad_ratio: float = Field(default=0.05, ge=0, le=1)
    prom: UserPath | None = None

    @field_validator("inputs", mode="before")
    @classmethod
    def _one_is_enough(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Path) else value


def score(config: ScoreConfig) -> JobReport:
    """Score every new picture once; findings and refused files lie in `config.out`.

    Raises LockedError while another process scores into the same folder, BundleError for a model that is not what
    was sealed; one bad file never ends the run.
    """
    model = load_model(config.bundle)
    return run_job(
        JobConfig(patterns=PATTERNS, **config.model_dump(exclude={"bundle"})),
        name=JOB,
        app="healthcare",
        model_digest=model.digest,
        config_digest=hashlib.sha256(str(_OUTPUT_VERSION).encode()).hexdigest(),
        process=Scorer(model).process,
    )
