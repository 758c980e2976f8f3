"""`quatrain smart-city score`: the nightly re-timing of a folder, once for each state of a scenario's files."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import Field

from quatrain.core.config import Config, UserPath, settings
from quatrain.core.errors import ExitCode, LockedError, UserError
from quatrain.core.jobs.report import JobReport, Tally
from quatrain.smart_city.data.scenario import Scenario, read_scenario
from quatrain.smart_city.retime.config import RetimeConfig
from quatrain.smart_city.retime.run import retime

_RESULT = "retimed.json"


class ScoreConfig(Config):
    """Which scenarios are re-timed into which folder: the `[smart_city.score]` section."""

    # .sumocfg files, or folders that hold some.
    inputs: tuple[UserPath, ...]
    out: UserPath
    budget: int = Field(default=60, ge=0)
    n_proof_seeds: int = Field(default=4, ge=2)
    workers: int | None = Field(default=None, ge=1)
    # Above this share of scenarios that cannot be used the run ends with exit code 65.
    max_bad_ratio: float = Field(default=0.0, ge=0, le=1)
    seed: int = Field(default=1, ge=0)


def score(config: ScoreConfig) -> JobReport:
    """Return what was re-timed: plans beside a result file per scenario, written last.

    A scenario whose files and settings are those of its result file is passed over; one that cannot
    be used is refused and the others are still done. Raises LockedError while another run writes the
    same folder, UserError where no scenario is named.
    """
    paths = _found(config.inputs)
    config.out.mkdir(parents=True, exist_ok=True)
    started, tally, errors = time.monotonic(), Tally(), []
    with _lock(config.out):
        for path in paths:
            try:
                done = _retimed(path, config)
            except UserError as error:
                tally.new += 1
                tally.add("refused", rows=1, bad_rows=1)
                errors.append(f"{path.name}: {error}")
                continue
            if done is None:
                tally.skipped += 1
                continue
            tally.new += 1
            tally.add("done", rows=1, bad_rows=0)
            tally.outputs += done
    status, code, reason = tally.verdict(max_bad_ratio=config.max_bad_ratio)
    return JobReport(
        run_id=secrets.token_hex(6),
        status=status,
        exit_code=ExitCode(code),
        units=tally.units,
        rows=tally.rows,
        bad_rows=tally.bad_rows,
        outputs=tuple(tally.outputs),
        seconds=time.monotonic() - started,
        error="; ".join(filter(None, [reason, *errors])) or None,
    )


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / ".quatrain-retime.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise LockedError(f"a re-timing into {folder} is running already; try again later") from error
    try:
        yield
    finally:
        lock.release()


def _found(inputs: tuple[Path, ...]) -> list[Path]:
    paths = [path for each in inputs for path in (sorted(each.rglob("*.sumocfg")) if each.is_dir() else [each])]
    if not paths:
        raise UserError(f"no .sumocfg in {', '.join(map(str, inputs))}; give scenario files or a folder of some")
    names = [path.stem for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(
            f"two scenarios are called {', '.join(twice)}: their plans would overwrite each other; rename one"
        )
    return paths


def _retimed(path: Path, config: ScoreConfig) -> list[Path] | None:
    """Return the files written for one scenario, or None where it was done before."""
    scenario = read_scenario(path)
    folder = config.out / scenario.name
    digest = _digest(scenario, config)
    if _digest_of(folder / _RESULT) == digest:
        return None
    result = retime(
        RetimeConfig(
            scenario=path,
            out=folder,
            budget=config.budget,
            n_proof_seeds=config.n_proof_seeds,
            workers=config.workers,
            seed=config.seed,
        )
    )
    document: dict[str, Any] = {"digest": digest, **result.to_dict()}
    part = folder / f".{_RESULT}.part"
    part.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return [*result.outputs, part.replace(folder / _RESULT)]


def _digest(scenario: Scenario, config: ScoreConfig) -> str:
    digest = hashlib.sha256(config.model_dump_json(exclude={"inputs", "out", "workers"}).encode())
    digest.update(repr((scenario.begin_s, scenario.end_s, scenario.step_s, scenario.options)).encode())
    for path in (scenario.network, *scenario.routes, *scenario.additional):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _digest_of(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError):
        return None


def default_out() -> Path:
    """Return where plans go when no folder is named."""
    return settings().home / "smart_city" / "plans"
