"""What a plan did, step by step: as a table, as JSON, and as a picture of speed against the metric."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quatrain.core.compression.gate import Measured
from quatrain.core.config import Config
from quatrain.core.errors import require

_HEADER = ("step", "{metric}", "drop (95 %)", "MB", "MMACs", "int8", "ms", "speed", "labels", "SQNR dB", "front", "")


class StepReport(Config):
    """One step: what was asked, what came of it, and the verdict."""

    name: str
    settings: dict[str, Any]
    accepted: bool
    # Every reason against it; empty where it was accepted.
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    # None where the step gave nothing to measure.
    measured: Measured | None
    # Digest of its graph, None where there is none.
    onnx_sha256: str | None
    # Seconds that it took, measuring included, when it was done.
    seconds: float
    # Whether an earlier, interrupted call had done it.
    was_kept: bool


class Baseline(Config):
    """The model that the plan began with."""

    name: str
    digest: str
    metric: float
    n_bytes: int
    macs: int
    milliseconds: float


class PlanReport(Config):
    """All steps of a plan beside the model that it began with."""

    metric_name: str
    baseline: Baseline
    steps: tuple[StepReport, ...]
    # Why nothing was sealed; None where a bundle was.
    refusal: str | None

    def table(self) -> str:
        """Return the steps in aligned columns, the reasons against a step below it."""
        base = self.baseline
        first = ("as trained", f"{base.metric:.4f}", "", f"{base.n_bytes / 1e6:.3g}", f"{base.macs / 1e6:.4g}")
        front = pareto_front(self.points())
        rows = [
            tuple(cell.format(metric=self.metric_name) for cell in _HEADER),
            (*first, "0 %", f"{base.milliseconds:.3g}", "1.00x", "", "", "*" if 0 in front else "", ""),
        ]
        place = 0
        for step in self.steps:
            place += step.measured is not None
            rows.append(_row(step, is_front=step.measured is not None and place in front))
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines += [f"{step.name}: {text}" for step in self.steps for text in (*step.reasons, *step.notes)]
        return "\n".join([*lines, *([self.refusal] if self.refusal else [])]) + "\n"

    def points(self) -> list[tuple[float, float]]:
        """Return (milliseconds, metric) of the first model and of every step that was measured."""
        measured = [step.measured for step in self.steps if step.measured is not None]
        # Ratios hold where milliseconds of different minutes do not.
        base = self.baseline
        return [
            (base.milliseconds, base.metric),
            *((base.milliseconds / each.speedup, each.metric_after) for each in measured),
        ]

    def save(self, folder: Path) -> None:
        """Write compression.json, compression.txt and compression.png into the folder."""
        (folder / "compression.json").write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (folder / "compression.txt").write_text(self.table(), encoding="utf-8")
        plot(self, folder / "compression.png")


def pareto_front(points: Sequence[tuple[float, float]]) -> set[int]:
    """Return the places of (cost, value) points that no other matches in both and beats in one."""
    return {
        place
        for place, (cost, value) in enumerate(points)
        if not any(
            other_cost <= cost and other_value >= value and (other_cost, other_value) != (cost, value)
            for other_cost, other_value in points
        )
    }


def plot(report: PlanReport, path: Path) -> None:
    """Write a PNG of the metric over CPU milliseconds: accepted steps filled, refused ones hollow, the front joined."""
    require("matplotlib", package="quatrain-core[train]")
    from matplotlib.figure import Figure

    points = report.points()
    names = ["as trained", *(step.name for step in report.steps if step.measured is not None)]
    is_accepted = [True, *(step.accepted for step in report.steps if step.measured is not None)]
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    front = sorted(points[place] for place in pareto_front(points))
    axes.plot(*zip(*front, strict=True), color="0.7", zorder=1)
    for (x, y), name, accepted in zip(points, names, is_accepted, strict=True):
        face = "tab:blue" if accepted else "white"
        axes.scatter([x], [y], s=50, facecolor=face, edgecolor="tab:blue", zorder=2)
        axes.annotate(name if accepted else f"{name} (refused)", (x, y), xytext=(6, 6), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_xlabel("CPU milliseconds per call, one thread")
    axes.set_ylabel(f"{report.metric_name}, held-back rows")
    axes.margins(x=0.2, y=0.2)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _row(step: StepReport, *, is_front: bool) -> tuple[str, ...]:
    verdict = "accepted" if step.accepted else "refused"
    measured = step.measured
    if measured is None:
        return (step.name, *[""] * (len(_HEADER) - 2), verdict)
    return (
        step.name,
        f"{measured.metric_after:.4f}",
        f"{measured.drop:.4f} ({measured.drop_low:.4f} to {measured.drop_high:.4f})",
        f"{measured.n_bytes / 1e6:.3g}",
        f"{measured.macs / 1e6:.4g}",
        f"{measured.integer_share:.0%}".replace("%", " %"),
        f"{measured.milliseconds:.3g}",
        f"{measured.speedup:.2f}x",
        "" if measured.agreement is None else f"{measured.agreement:.2%}".replace("%", " %"),
        f"{measured.sqnr_db:.1f}",
        "*" if is_front else "",
        verdict,
    )
