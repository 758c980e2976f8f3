"""The scoring job: `quatrain industrial score`."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field, field_validator

from quatrain.core.config import Config, Flag, UserPath, settings
from quatrain.core.images import SUFFIXES, read_image
from quatrain.core.inference import load_model
from quatrain.core.jobs.config import JobConfig
from quatrain.core.jobs.engine import run_job
from quatrain.core.jobs.report import JobReport
from quatrain.core.jobs.sink import Sink
from quatrain.industrial.score.inspect import Inspector

# The name of the job in the ledger, and of its outputs.
JOB = "industrial.score"
VERDICTS, MAPS = "verdicts", "maps"
# Part of every unit's key: raise it when the same input should give other output.
_OUTPUT_VERSION = 1

_VERDICT_FIELDS: list[pa.Field[Any]] = [
    pa.field("file", pa.string()),
    pa.field("folder", pa.string()),
    pa.field("sha256", pa.string()),
    pa.field("model", pa.string()),
    pa.field("model_sha256", pa.string()),
    pa.field("score", pa.float64()),
    pa.field("review_above", pa.float64()),
    # Null where the good parts were too few to promise anything.
    pa.field("fail_above", pa.float64()),
    pa.field("verdict", pa.string()),
    pa.field("peak_row", pa.int64()),
    pa.field("peak_column", pa.int64()),
    pa.field("height", pa.int64()),
    pa.field("width", pa.int64()),
    pa.field("is_synthetic", pa.bool_()),
]
_VERDICT_SCHEMA = pa.schema(_VERDICT_FIELDS)
_MAP_FIELDS: list[pa.Field[Any]] = [
    pa.field("file", pa.string()),
    pa.field("rows", pa.int64()),
    pa.field("columns", pa.int64()),
    pa.field("values", pa.list_(pa.float32())),
]
_MAP_SCHEMA = pa.schema(_MAP_FIELDS)


class ScoreConfig(Config):
    """Which images, which model, and how many bad ones to put up with: the `[industrial.score]` section."""

    # Files, or folders of images.
    inputs: Annotated[tuple[UserPath, ...], Flag("--data")] = Field(min_length=1)
    bundle: str = "industrial/surface@prod"
    out: UserPath = Field(default_factory=lambda: settings().home / "scored" / "industrial")
    # Also keep the map of each part that does not pass.
    has_maps: bool = True
    since: datetime | None = None
    dry_run: bool = False
    max_bad_ratio: float = Field(default=0.05, ge=0, le=1)
    prom: UserPath | None = None

    @field_validator("inputs", mode="before")
    @classmethod
    def _one_is_enough(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Path) else value


def score(config: ScoreConfig) -> JobReport:
    """Inspect every new image once; a verdict for each lies in `config.out`, bad images in its quarantine.

    Raises LockedError while another process scores into the same folder, BundleError for a model
    that is not what was sealed; one bad image never ends the run.
    """
    inspector = Inspector(load_model(config.bundle))
    patterns = tuple(f"*{suffix}" for suffix in SUFFIXES)
    return run_job(
        JobConfig(patterns=patterns, **config.model_dump(exclude={"bundle", "has_maps"})),
        name=JOB,
        app="industrial",
        model_digest=inspector.model.digest,
        config_digest=_digest(config),
        process=_Process(inspector, has_maps=config.has_maps),
    )


class _Process:
    """What is done with one image."""

    def __init__(self, inspector: Inspector, *, has_maps: bool) -> None:
        self._inspector = inspector
        self._has_maps = has_maps

    def __call__(self, path: Path, sink: Sink) -> None:
        sink.count(1)
        image = read_image(path)
        # The engine refuses a file that changed meanwhile, so this is the digest of what was decoded.
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        found = self._inspector.inspect(image, name=path.name)
        row, column = found.peak()
        rule, model = self._inspector.rule, self._inspector.model
        verdict = {
            "file": path.name,
            "folder": str(path.parent),
            "sha256": digest,
            "model": model.manifest.name,
            "model_sha256": model.digest,
            "score": found.score,
            "review_above": rule.review_above,
            "fail_above": rule.fail_above,
            "verdict": found.verdict,
            "peak_row": row,
            "peak_column": column,
            "height": found.shape_hw[0],
            "width": found.shape_hw[1],
            "is_synthetic": bool(model.manifest.decision.get("is_synthetic", False)),
        }
        sink.write(VERDICTS, pa.Table.from_pylist([verdict], schema=_VERDICT_SCHEMA))
        if self._has_maps and found.verdict != "pass":
            rows, columns = found.map.shape
            kept = {"file": path.name, "rows": rows, "columns": columns, "values": found.map.ravel()}
            sink.write(MAPS, pa.Table.from_pylist([kept], schema=_MAP_SCHEMA))


def _digest(config: ScoreConfig) -> str:
    text = json.dumps([_OUTPUT_VERSION, config.has_maps], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
