"""`compress`: a plan of steps, each measured against the sealed model that it began with and gated."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from quatrain.core.bundle.open import Bundle, open_bundle
from quatrain.core.bundle.seal import seal
from quatrain.core.compression.artifact import Artifact, Step
from quatrain.core.compression.gate import Gate, Measured, RefusedError, is_too_coarse, reasons_against
from quatrain.core.compression.kernels import cost_of, cpu_milliseconds
from quatrain.core.compression.measure import Evaluated, evaluated, measured, timed_rows
from quatrain.core.compression.measures import Arrays, Evaluate, fingerprint
from quatrain.core.compression.modules import require_same_model, weights_of, with_weights
from quatrain.core.compression.report import Baseline, PlanReport, StepReport
from quatrain.core.compression.shelf import MODEL, WEIGHTS, Finished, Shelf, digests
from quatrain.core.errors import require
from quatrain.core.inference import load_model

if TYPE_CHECKING:
    from torch import nn

_log = logging.getLogger(__name__)
# Machines and batch sizes that were not tried may differ a little more than those that were.
_TOLERANCE_FACTOR = 2.0


@dataclass(frozen=True)
class CompressionResult:
    """What a plan gave: the new sealed bundle, or None and the reason in the report."""

    bundle: Bundle | None
    report: PlanReport


@dataclass(frozen=True)
class _State:
    """The last accepted artifact, how it was evaluated and measured, and the settings that led to it."""

    artifact: Artifact
    evaluated: Evaluated
    chain: tuple[Mapping[str, Any], ...]
    measured: Measured | None = None
    changed_precision: bool = False


def compress(
    bundle: Bundle | Path,
    steps: Sequence[Step],
    *,
    gate: Gate,
    evaluate: Evaluate,
    folder: Path,
    module: nn.Module | None = None,
    overwrite: bool = False,
) -> CompressionResult:
    """Return the bundle compressed step by step, sealed as `folder`/bundle, and the report of every step.

    A step that the gate refuses is left out, and the next one takes the last accepted artifact.
    `evaluate` asks a model for its scores of held-back rows, always the same rows in the same order.
    Pruning and distillation need `module`, the torch module that was exported into the bundle. Where
    an int8 step is too coarse, its milder forms are tried before it is given up.
    Nothing is sealed where no step is accepted, or where the last accepted artifact is not
    `gate.min_speedup` times as fast as the bundle.

    Finished steps lie in `folder`/steps, and a killed plan goes on from there; what the report says
    is in `folder`, too, as compression.json, .txt and .png. Raises BundleError for a bundle that
    does not give its golden outputs here.
    """
    if not steps:
        raise ValueError("a plan needs one step or more")
    parent = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    load_model(parent.path, threads=1)
    golden_inputs, golden_outputs = parent.golden()
    if module is not None:
        require_same_model(module, golden_inputs, golden_outputs, atol=parent.manifest.golden_atol)
    folder.mkdir(parents=True, exist_ok=True)
    artifact = Artifact(parent.onnx, parent.manifest.inputs, parent.manifest.outputs, golden_inputs, module)
    runner = _Runner(
        first=evaluated(artifact, evaluate, golden_inputs),
        golden_inputs=golden_inputs,
        gate=gate,
        evaluate=evaluate,
        shelf=Shelf(folder / "steps"),
    )
    state = _State(artifact, runner.first, ({"bundle": parent.digest},))
    reports: list[StepReport] = []
    with _progress() as show:
        for place, step in enumerate(steps, start=1):
            show(f"{step.name} ({place} of {len(steps)})")
            state, taken = runner.take_or_fall_back(state, step, is_last=place == len(steps))
            reports += taken
    report = PlanReport(
        metric_name=gate.metric_name,
        baseline=_baseline(parent, runner),
        steps=tuple(reports),
        refusal=_refusal(state, gate),
    )
    report.save(folder)
    if report.refusal is not None:
        return CompressionResult(None, report)
    return CompressionResult(_sealed(parent, state, report, runner, folder / "bundle", overwrite=overwrite), report)


@dataclass(frozen=True)
class _Runner:
    """What all steps of a plan share."""

    first: Evaluated
    golden_inputs: Arrays
    gate: Gate
    evaluate: Evaluate
    shelf: Shelf

    def take_or_fall_back(self, state: _State, step: Step, *, is_last: bool) -> tuple[_State, list[StepReport]]:
        """Return the state after the step, or after the first of its milder forms that is accepted, and all reports."""
        after, report = self.take(state, step, is_last=is_last)
        reports = [report]
        if report.accepted or report.measured is None or not is_too_coarse(report.measured, self.gate, step.promise):
            return after, reports
        for milder in step.fallbacks(state.artifact):
            after, report = self.take(state, milder, is_last=is_last)
            reports.append(report)
            if report.accepted:
                break
        return after, reports

    def take(self, state: _State, step: Step, *, is_last: bool) -> tuple[_State, StepReport]:
        """Return the state after the step, the same if it was refused, and its report."""
        settings = dict(step.settings())
        chain = (*state.chain, settings)
        key = self.shelf.key(chain, self._measuring())
        kept = self.shelf.find(key)
        finished, files, after = (*kept, None) if kept is not None else self._finish(state, step, key)
        reasons = [finished.refusal] if finished.refusal is not None else []
        if finished.measured is not None:
            reasons += reasons_against(finished.measured, self.gate, step.promise, is_last=is_last)
        report = StepReport(
            name=step.name,
            settings=settings,
            accepted=not reasons,
            reasons=tuple(reasons),
            notes=finished.notes,
            measured=finished.measured,
            onnx_sha256=finished.files.get(MODEL),
            seconds=finished.seconds,
            was_kept=kept is not None,
        )
        _log.info("%s: %s", step.name, "; ".join(reasons) or "accepted")
        if reasons:
            return state, report
        artifact = _restored(state.artifact, files)
        after = after or evaluated(artifact, self.evaluate, self.golden_inputs)
        precision = state.changed_precision or step.promise.changes_numbers
        return _State(artifact, after, chain, finished.measured, precision), report

    def _finish(self, state: _State, step: Step, key: str) -> tuple[Finished, dict[str, bytes], Evaluated | None]:
        start = time.monotonic()
        try:
            artifact = step.apply(state.artifact)
        except RefusedError as refusal:
            finished = Finished(name=step.name, refusal=str(refusal), seconds=time.monotonic() - start)
            self.shelf.keep(key, finished, {})
            return finished, {}, None
        files = _files_of(artifact)
        after = evaluated(artifact, self.evaluate, self.golden_inputs)
        finished = Finished(
            name=step.name,
            notes=artifact.notes,
            measured=measured(self.first, state.evaluated, after, self.golden_inputs, self.gate),
            files=digests(files),
            seconds=time.monotonic() - start,
        )
        self.shelf.keep(key, finished, files)
        return finished, files, after

    def _measuring(self) -> dict[str, Any]:
        """Return what decides the measurement of a step, apart from the step."""
        gate = self.gate
        return {
            "evaluation": self.first.digest,
            "metric": {"name": gate.metric_name, "answers": fingerprint(gate.metric, self.first.scored)},
            "batch_size": gate.batch_size,
            "n_resamples": gate.n_resamples,
            "seed": gate.seed,
        }


def _files_of(artifact: Artifact) -> dict[str, bytes]:
    files = {MODEL: artifact.onnx}
    if artifact.module is not None:
        safetensors = require("safetensors.numpy", package="quatrain-core[train]")
        files[WEIGHTS] = safetensors.save(weights_of(artifact.module))
    return files


def _restored(before: Artifact, files: Mapping[str, bytes]) -> Artifact:
    """Return the artifact in the files; its module is the one before with these weights, as wide as they are."""
    module = None
    if WEIGHTS in files and before.module is not None:
        safetensors = require("safetensors.numpy", package="quatrain-core[train]")
        module = with_weights(before.module, safetensors.load(files[WEIGHTS]))
    return replace(before, onnx=files[MODEL], module=module)


def _baseline(parent: Bundle, runner: _Runner) -> Baseline:
    first = runner.first
    rows = timed_rows(runner.golden_inputs, runner.gate.batch_size)
    return Baseline(
        name=parent.manifest.name,
        digest=parent.digest,
        metric=runner.gate.metric(first.scored.targets, first.scored.scores),
        n_bytes=len(parent.onnx),
        macs=cost_of(parent.onnx, runner.golden_inputs).macs,
        milliseconds=float(np.median(cpu_milliseconds({"first": first.graph.session}, rows)["first"])),
    )


def _refusal(state: _State, gate: Gate) -> str | None:
    if state.measured is None:
        return "nothing was sealed: no step was accepted"
    if state.measured.speedup < gate.min_speedup:
        return (
            f"nothing was sealed: what was accepted is {state.measured.speedup:.2f}x as fast as the first model, "
            f"{gate.min_speedup:g}x is asked"
        )
    return None


def _sealed(
    parent: Bundle, state: _State, report: PlanReport, runner: _Runner, path: Path, *, overwrite: bool
) -> Bundle:
    last = state.measured
    assert last is not None  # noqa: S101 - a plan without an accepted step was refused
    spread = max(last.batch_spread, last.kernel_spread) if state.changed_precision else 0.0
    manifest = parent.manifest
    sealed = seal(
        path,
        name=manifest.name,
        task=manifest.task,
        onnx=state.artifact.onnx,
        inputs=manifest.inputs,
        outputs=manifest.outputs,
        golden_inputs=runner.golden_inputs,
        golden_outputs=state.evaluated.golden,
        golden_atol=max(manifest.golden_atol, _TOLERANCE_FACTOR * spread),
        card=_card(parent, report),
        metrics={"held_back": {report.metric_name: last.metric_after}},
        training=manifest.training,
        data=manifest.data,
        decision=manifest.decision,
        weights=None if state.artifact.module is None else weights_of(state.artifact.module),
        parent=parent.digest,
        compression=report.model_dump(mode="json"),
        overwrite=overwrite,
    )
    load_model(sealed.path, threads=1)
    return sealed


def _card(parent: Bundle, report: PlanReport) -> str:
    return (
        f"{parent.card.rstrip()}\n\n## Compression\n\nMade from the bundle {parent.digest} of {parent.manifest.name}; "
        f"figures above are that bundle's.\n\n```text\n{report.table()}```\n"
    )


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Give a function that shows what is being done, on stderr; silent where it is no terminal."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("")
        yield lambda text: progress.update(task, description=text)
