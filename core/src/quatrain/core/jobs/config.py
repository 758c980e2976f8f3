"""What a batch job is asked to do."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from quatrain.core.config import Config, Flag, UserPath


class JobConfig(Config):
    """Where a job reads and writes, and how much bad data it puts up with."""

    # Files, or folders whose files match `patterns`.
    inputs: Annotated[tuple[UserPath, ...], Flag("--data")] = Field(min_length=1)
    out: UserPath
    # Files last modified before this moment are left alone; without a zone it is local time.
    since: datetime | None = None
    # Say what would be done; write nothing.
    dry_run: bool = False
    # Exit 65 above this share of bad rows, or of refused files, in one run.
    max_bad_ratio: float = Field(default=0.05, ge=0, le=1)
    # The node-exporter textfile of this job, ending in .prom; one file per job.
    prom: UserPath | None = None
    # Matched against file names in the input folders, whatever their case.
    patterns: tuple[str, ...] = ("*.csv", "*.parquet")

    @field_validator("inputs", mode="before")
    @classmethod
    def _one_is_enough(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Path) else value

    @field_validator("since", mode="after")
    @classmethod
    def _with_zone(cls, value: datetime | None) -> datetime | None:
        return value.astimezone() if value is not None and value.tzinfo is None else value
