"""From a sealed network to a smaller, faster one that decides alike: `quatrain fintech compress`."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from quatrain.core.bundle.open import Bundle, open_bundle
from quatrain.core.compression.artifact import Step
from quatrain.core.compression.gate import Gate
from quatrain.core.compression.measures import held_back
from quatrain.core.compression.plan import compress as run_plan
from quatrain.core.compression.planned import Materials, Planned
from quatrain.core.compression.report import PlanReport
from quatrain.core.config import settings
from quatrain.core.errors import LockedError, UsageError, UserError
from quatrain.core.inference import find_bundle
from quatrain.core.tracking import start_run
from quatrain.fintech import journal
from quatrain.fintech.compress.alerts import Alerts, KeepsAlerts, alerts_of, score_of, threshold_of
from quatrain.fintech.compress.config import CompressConfig
from quatrain.fintech.compress.plan import fitted_steps, planned_steps, suited_graph
from quatrain.fintech.compress.rows import Rows, read_rows
from quatrain.fintech.data.named import TASK
from quatrain.fintech.metrics.ranking import average_precision
from quatrain.fintech.train.sealing import publish

if TYPE_CHECKING:
    from quatrain.core.store import Version

_LOG = logging.getLogger(__name__)
_BUNDLE, _REPORT, _REQUEST, _LOCK = "bundle", "compression.json", "request.json", ".lock"
# Of a bundle's digest: enough to name a folder.
_SHORT = 12
_PREDICT_ROWS = 8_192


@dataclass(frozen=True, kw_only=True)
class CompressResult:
    """The report of every step, and the new bundle with its place where there is one."""

    report: PlanReport
    folder: Path
    parent: Bundle
    bundle: Bundle | None
    version: Version | None
    alerts: Alerts | None
    data: str
    n_held_back: int

    def told(self) -> str:
        """Return the table of all steps, and what came of them."""
        lines = [self.report.table()]
        if self.alerts is not None:
            lines.append(self.alerts.told(self.n_held_back) + "\n")
        if self.bundle is not None:
            place = self.version.reference if self.version else self.bundle.path
            lines.append(f"sealed {place} (digest {self.bundle.digest[:_SHORT]})\n")
        return "".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return what `compress --json` prints."""
        return {
            "app": "fintech",
            "task": TASK,
            "parent": self.parent.digest,
            "bundle": str(self.bundle.path) if self.bundle else None,
            "digest": self.bundle.digest if self.bundle else None,
            "version": self.version.reference if self.version else None,
            "refusal": self.report.refusal,
            "folder": str(self.folder),
            "data": self.data,
            "n": self.n_held_back,
            "alerts": vars(self.alerts) if self.alerts else None,
            "report": self.report.model_dump(mode="json"),
        }


def compress(config: CompressConfig) -> CompressResult:
    """Return the compressed model, sealed and, unless `config.out` is given, published; or why there is none.

    Every step is judged on rows from after the time that the bundle was trained on. A killed run
    goes on where it was, and a finished one is not done again: give the same --out, or none. Raises
    UserError for a bundle in which nothing can be compressed, LockedError while another run works
    in the same folder.
    """
    planned = planned_steps(config.plan)
    parent, _ = find_bundle(config.bundle)
    graph = suited_graph(parent, planned)
    folder = config.out or settings().home / "compressed" / "fintech" / parent.digest[:_SHORT]
    with _alone(folder), start_run(app="fintech", command="compress", config=config.model_dump(mode="json")) as run:
        _require_own(folder, parent)
        rows = read_rows(config, parent.manifest)
        calibration = {"features": rows.calibration(config.calibration_rows, seed=config.seed)}
        steps = fitted_steps(
            planned,
            graph,
            materials=Materials(calibration=calibration),
            on_network=lambda step: _on_network(step, config, parent, rows),
        )
        steps = [step if step.promise.same_model else _keeping_alerts(step, parent, rows) for step in steps]
        request = _request(config, parent, rows)
        bundle, report = _kept(folder, request) or _made(config, parent, steps, rows, folder)
        if bundle is not None:
            _write(folder / _REQUEST, request)
            _inherit_history(parent, bundle)
        version = publish(bundle, promote=config.promote) if bundle is not None and config.out is None else None
        run.finish(metrics=_metrics(report), bundle=bundle.digest if bundle else None)
    return CompressResult(
        report=report,
        folder=folder,
        parent=parent,
        bundle=bundle,
        version=version,
        alerts=alerts_of(parent, bundle, rows.later_x) if bundle else None,
        data=rows.data,
        n_held_back=len(rows.later_x),
    )


def _keeping_alerts(step: Step, parent: Bundle, rows: Rows) -> Step:
    budget = float(parent.manifest.decision["alert_budget"])
    return KeepsAlerts(step=step, recent=rows.recent_x, threshold=threshold_of(parent), alert_budget=budget)


def _on_network(planned: Planned, config: CompressConfig, parent: Bundle, rows: Rows) -> Step:
    # Torch is needed by steps that train only.
    from quatrain.fintech.compress.pruning import OnNetwork, perceptron_of

    perceptron = perceptron_of(parent)
    return OnNetwork(step=planned.build(perceptron.materials(config, rows)), perceptron=perceptron)


def _made(
    config: CompressConfig, parent: Bundle, steps: Sequence[Step], rows: Rows, folder: Path
) -> tuple[Bundle | None, PlanReport]:
    """Return what the plan gives; finished steps that lie in the folder are not redone."""
    gate = Gate(
        metric=average_precision,
        metric_name="ap",
        metric_drop=config.metric_drop,
        min_speedup=config.min_speedup,
        label=lambda outputs: outputs[score_of(parent)] >= threshold_of(parent),
        batch_size=config.batch_size,
        n_resamples=config.n_resamples,
        seed=config.seed,
    )
    evaluate = held_back({"features": rows.later_x}, rows.later_y, output=score_of(parent), batch_size=_PREDICT_ROWS)
    made = run_plan(parent, steps, gate=gate, evaluate=evaluate, folder=folder, overwrite=True)
    return made.bundle, made.report


def _kept(folder: Path, request: Mapping[str, Any]) -> tuple[Bundle, PlanReport] | None:
    """Return what an earlier run with the same request has sealed in the folder."""
    try:
        if json.loads((folder / _REQUEST).read_bytes()) != request:
            return None
        report = PlanReport.model_validate_json((folder / _REPORT).read_bytes())
        bundle = open_bundle(folder / _BUNDLE)
    except (OSError, ValueError, UserError):
        return None
    _LOG.info("%s has the result of this plan already", folder)
    return bundle, report


def _request(config: CompressConfig, parent: Bundle, rows: Rows) -> dict[str, Any]:
    """Return all that decides the outcome, as JSON gives it back."""
    asked = config.model_dump(mode="json", exclude={"data", "columns", "bundle", "out", "promote", "max_bad_ratio"})
    facts = {"bundle": parent.digest, "data": rows.digest, "onnxruntime": version_of("onnxruntime")}
    plain: dict[str, Any] = json.loads(json.dumps(asked | facts))
    return plain


def _require_own(folder: Path, parent: Bundle) -> None:
    """Raise UsageError for a folder with another model's bundle, which would be replaced."""
    path = folder / _BUNDLE
    if not path.exists():
        return
    try:
        is_own = open_bundle(path).manifest.parent == parent.digest
    except UserError:
        is_own = False
    if not is_own:
        raise UsageError(
            f"{path} was not made from {parent.manifest.name} {parent.digest[:_SHORT]}; give --out a new folder"
        )


def _inherit_history(parent: Bundle, bundle: Bundle) -> None:
    """Keep the parent's last transactions for the new model, too: it looks back on the same."""
    events = journal.load_for(parent.digest)
    if events is not None:
        journal.save_for(bundle.digest, events)


def _metrics(report: PlanReport) -> dict[str, float]:
    accepted = [step.measured for step in report.steps if step.accepted and step.measured is not None]
    found = {"ap_before": report.baseline.metric}
    return found | {"ap": accepted[-1].metric_after, "speedup": accepted[-1].speedup} if accepted else found


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the kernel lets go when the process dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise LockedError(f"another run compresses into {folder}; try again when it has ended") from error
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; give another folder with --out") from error
    try:
        yield
    finally:
        lock.release()


def _write(path: Path, document: Mapping[str, Any]) -> None:
    with journal.replacing(path) as part:
        part.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
