"""What a run of a job did."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from quatrain.core.errors import ExitCode


@dataclass(frozen=True, kw_only=True)
class JobReport:
    """The outcome of one run, for the command line, the metrics file and the caller."""

    run_id: str
    # done, bad_data, failed, stopped or, after --dry-run, planned.
    status: str
    exit_code: int
    # new (taken up), of them done, refused and failed; skipped (settled earlier, or a duplicate).
    units: dict[str, int]
    # Rows of the units done, bad ones included.
    rows: int
    bad_rows: int
    # Every file published by this run, quarantine included.
    outputs: tuple[Path, ...] = ()
    seconds: float = 0.0
    error: str | None = None
    # After --dry-run: each {"file", "action", "reason"}.
    plan: tuple[dict[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `plan` only after --dry-run."""
        document = asdict(self) | {"outputs": [str(path) for path in self.outputs], "plan": list(self.plan)}
        if self.status != "planned":
            del document["plan"]
        return document


@dataclass(kw_only=True)
class Tally:
    """The counts of a run under way."""

    new: int = 0
    done: int = 0
    refused: int = 0
    failed: int = 0
    skipped: int = 0
    rows: int = 0
    bad_rows: int = 0
    outputs: list[Path] = field(default_factory=list)

    @property
    def units(self) -> dict[str, int]:
        """The units by outcome."""
        names = ("new", "done", "refused", "failed", "skipped")
        return {name: getattr(self, name) for name in names}

    def add(self, status: str, *, rows: int, bad_rows: int) -> None:
        """Count one unit that is done, refused or failed."""
        self.done += status == "done"
        self.refused += status == "refused"
        self.failed += status == "failed"
        self.rows += rows
        self.bad_rows += bad_rows

    def verdict(self, *, max_bad_ratio: float) -> tuple[str, ExitCode, str | None]:
        """Return status, exit code and reason of a run that came to its end."""
        if self.failed:
            return "failed", ExitCode.FAILED, f"{self.failed} of {self.new} files failed and will be tried again"
        n_files = self.done + self.refused
        if self.bad_rows > max_bad_ratio * self.rows:
            what = f"{self.bad_rows} of {self.rows} rows were bad"
        elif self.refused > max_bad_ratio * n_files:
            what = f"{self.refused} of {n_files} files were refused"
        else:
            return "done", ExitCode.DONE, None
        return "bad_data", ExitCode.BAD_DATA, f"{what}, more than max_bad_ratio {max_bad_ratio:g} allows"
