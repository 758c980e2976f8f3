"""Measuring one artifact against the model that the plan began with, on the same rows and in the same minute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from quatrain.core.compression.artifact import Artifact, digest_of
from quatrain.core.compression.gate import Gate, Measured
from quatrain.core.compression.kernels import cost_of, cpu_milliseconds, median_ratio
from quatrain.core.compression.measures import Array, Arrays, Evaluate, Predict, Scored, paired_drop, sqnr_db
from quatrain.core.compression.nan_guard import swallowed
from quatrain.core.compression.sessions import looking_session
from quatrain.core.inference import Session, largest_difference, open_session
from quatrain.core.inputs import check_inputs

# Golden outputs must come out alike in batches of these sizes.
BATCHES = (1, 2, 7, 64)
# Stands for infinity, which JSON cannot hold: float64 ends before.
_MOST_DB = 200.0


class Graph:
    """A graph that answers as a loaded model does, one thread, its inputs checked at the door."""

    def __init__(self, artifact: Artifact) -> None:
        self.onnx = artifact.onnx
        self.session: Session = open_session(artifact.onnx, threads=1)
        self.inputs = artifact.inputs
        self._outputs = [spec.name for spec in artifact.outputs]

    def __call__(self, inputs: Arrays) -> dict[str, Array]:
        """Return the outputs by name; raises InvalidInputError as `Model.predict` does."""
        return self.bare(check_inputs(self.inputs, dict(inputs)))

    def bare(self, inputs: Arrays) -> dict[str, Array]:
        """Return what the graph answers to anything."""
        return dict(zip(self._outputs, self.session.run(self._outputs, dict(inputs)), strict=True))


@dataclass(frozen=True)
class Evaluated:
    """A graph with its score of the held-back rows and its answers to golden and held-back rows."""

    graph: Graph
    scored: Scored
    golden: Arrays
    # One entry per call that the evaluation made, the golden rows first.
    answers: Sequence[Arrays]

    @property
    def digest(self) -> str:
        """What the evaluation gave, so that another evaluation is told from this one."""
        return digest_of({"targets": self.scored.targets, "scores": self.scored.scores})


def evaluated(artifact: Artifact, evaluate: Evaluate, golden_inputs: Arrays) -> Evaluated:
    """Return the artifact's answers."""
    graph = Graph(artifact)
    golden = graph(golden_inputs)
    answers: list[Arrays] = [golden]
    return Evaluated(graph, evaluate(_recorded(graph, answers)), golden, answers)


def measured(first: Evaluated, before: Evaluated, after: Evaluated, golden_inputs: Arrays, gate: Gate) -> Measured:
    """Return what `after` loses and gains: metric, size and speed against `first`, answers against `before`."""
    drop = paired_drop(gate.metric, first.scored, after.scored, n_resamples=gate.n_resamples, seed=gate.seed)
    cost = cost_of(after.graph.onnx, golden_inputs)
    times = cpu_milliseconds(
        {"first": first.graph.session, "after": after.graph.session}, timed_rows(golden_inputs, gate.batch_size)
    )
    return Measured(
        metric_before=gate.metric(first.scored.targets, first.scored.scores),
        metric_after=gate.metric(after.scored.targets, after.scored.scores),
        drop=drop.value,
        drop_low=drop.low,
        drop_high=drop.high,
        step_gain=gate.metric(after.scored.targets, after.scored.scores)
        - gate.metric(before.scored.targets, before.scored.scores),
        n_bytes=len(after.graph.onnx),
        step_bytes=len(before.graph.onnx),
        macs=cost.macs,
        integer_share=cost.integer_share,
        integer_kernels=cost.integer_kernels,
        milliseconds=float(np.median(times["after"])),
        speedup=median_ratio(times["first"], times["after"]),
        agreement=_agreement(before.answers, after.answers, gate.label),
        sqnr_db=_worst_sqnr(before.answers, after.answers),
        swallows=swallowed(before.graph.bare, after.graph.bare, after.graph.inputs, golden_inputs),
        batch_spread=_batch_spread(after, golden_inputs),
        kernel_spread=_kernel_spread(after, golden_inputs),
        output_range=max(float(np.ptp(array)) for array in first.golden.values() if array.dtype.kind == "f"),
    )


def timed_rows(inputs: Arrays, n: int) -> dict[str, Array]:
    """Return n rows, the first ones again where there are fewer."""
    return {name: np.ascontiguousarray(array[np.arange(n) % len(array)]) for name, array in inputs.items()}


def _recorded(graph: Graph, answers: list[Arrays]) -> Predict:
    def predict(inputs: Arrays) -> Arrays:
        outputs = graph(inputs)
        answers.append(outputs)
        return outputs

    return predict


def _agreement(
    before: Sequence[Arrays], after: Sequence[Arrays], label: Callable[[Arrays], Array | None]
) -> float | None:
    same: list[Array] = []
    for old, new in zip(before, after, strict=True):
        expected, actual = label(old), label(new)
        if expected is None or actual is None:
            return None
        same.append(expected == actual)
    return float(np.concatenate(same).mean())


def _worst_sqnr(before: Sequence[Arrays], after: Sequence[Arrays]) -> float:
    """Return the SQNR over all rows of the output that has the least, cut to 200 dB on either side."""
    names = [name for name, array in before[0].items() if array.dtype.kind == "f"]
    worst = min(
        sqnr_db(np.concatenate([old[name] for old in before]), np.concatenate([new[name] for new in after]))
        for name in names
    )
    return float(np.clip(worst, -_MOST_DB, _MOST_DB))


def _batch_spread(after: Evaluated, golden_inputs: Arrays) -> float:
    n_rows = len(next(iter(golden_inputs.values())))
    spread = 0.0
    for batch in BATCHES:
        for start in range(0, n_rows, batch):
            rows = np.arange(start, start + batch) % n_rows
            outputs = after.graph({name: np.ascontiguousarray(array[rows]) for name, array in golden_inputs.items()})
            spread = max(spread, _difference(outputs, {name: array[rows] for name, array in after.golden.items()}))
    return spread


def _kernel_spread(after: Evaluated, golden_inputs: Arrays) -> float:
    """Return how far fused integer kernels are from the plain ones, which another machine may run."""
    plain = looking_session(after.graph.onnx, level="disabled")
    names = list(after.golden)
    return _difference(dict(zip(names, plain.run(names, dict(golden_inputs)), strict=True)), after.golden)


def _difference(actual: Arrays, expected: Arrays) -> float:
    return max(largest_difference(actual[name], expected[name])[0] for name in expected)
