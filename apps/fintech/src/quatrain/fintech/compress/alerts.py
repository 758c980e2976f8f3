"""What the sealed threshold makes of a compressed model: as many alerts as before, or it is told how many changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.bundle.open import Bundle
from quatrain.core.compression.artifact import Artifact, Step, digest_of
from quatrain.core.compression.gate import Promise
from quatrain.core.export import finished
from quatrain.core.graphs import LARGEST, SMALLEST, log_odds
from quatrain.core.inference import load_model, open_session
from quatrain.fintech.metrics.scored import Floats

X = NDArray[np.float32]
_PREDICT_ROWS = 8_192
# What a calibrated graph calls the model's own answer, which is its score.
INNER = "model_probability"
_UNSHIFTED = "model_unshifted"


@dataclass(frozen=True, kw_only=True)
class Alerts:
    """What the sealed threshold makes of the held-back rows, before and after."""

    before: int
    after: int
    # Alerts of one model that are none of the other.
    new: int
    gone: int

    def told(self, n_rows: int) -> str:
        """Return it as a sentence."""
        kept = self.before - self.gone
        return (
            f"alerts on {n_rows:,} held-back rows: {self.before:,} before, {self.after:,} after; "
            f"{kept:,} the same, {self.new:,} new, {self.gone:,} gone"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class KeepsAlerts:
    """A step that moves all scores, followed by a shift of their log odds.

    A model that was cut or trained again gives other scores to the same rows, and the sealed
    threshold would make more or fewer alerts than analysts can look at. With the shift it makes as
    many of the `recent` rows as before; the order of rows stays.
    """

    step: Step
    # Raw inputs of the latest rows before the model's test, (n, F).
    recent: X
    threshold: float
    # Share of rows that analysts can look at.
    alert_budget: float

    @property
    def name(self) -> str:
        """What the report calls it."""
        return self.step.name

    @property
    def promise(self) -> Promise:
        """What it must show besides keeping the metric."""
        return self.step.promise

    def settings(self) -> Mapping[str, Any]:
        """Return what decides the outcome."""
        own = {"recent": digest_of({"features": self.recent}), "threshold": self.threshold, "budget": self.alert_budget}
        return {**self.step.settings(), **own}

    def fallbacks(self, before: Artifact) -> Iterable[Step]:
        """Yield the step's milder forms, each with a shift of its own."""
        for milder in self.step.fallbacks(before):
            yield replace(self, step=milder)

    def apply(self, before: Artifact) -> Artifact:
        """Return what the step makes, its scores shifted."""
        after = self.step.apply(before)
        shift = self._shift(*(_ranked_odds(artifact.onnx, self.recent) for artifact in (before, after)))
        note = (
            f"log odds shifted by {shift:+.2f}, so that the threshold makes as many alerts of the rows before the test"
        )
        return replace(after, onnx=shifted(after.onnx, shift), notes=(*after.notes, note))

    def _shift(self, old: Floats, new: Floats) -> float:
        """Return what to add to the new log odds; both are ranked, the highest first."""
        cut = float(log_odds(np.array([self.threshold]))[0])
        n_alerts = int((old >= cut).sum())
        n_budget = min(max(1, round(self.alert_budget * len(old))), len(old) - 1)
        if n_alerts < n_budget:
            n_alerts, cut = n_budget, float(old[n_budget - 1 : n_budget + 1].mean())
        return cut - float(new[n_alerts - 1 : n_alerts + 1].mean())


def shifted(calibrated: bytes, shift: float) -> bytes:
    """Return the calibrated graph with the log odds of its score shifted, in float64 and ahead of the calibration."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load_from_string(calibrated)
    [place] = [place for place, node in enumerate(model.graph.node) if INNER in node.output]
    maker = model.graph.node[place]
    maker.output[list(maker.output).index(INNER)] = _UNSHIFTED
    steps = [
        helper.make_node("Cast", [_UNSHIFTED], ["shift_wide"], to=TensorProto.DOUBLE),
        helper.make_node("Clip", ["shift_wide", "shift_smallest", "shift_largest"], ["shift_inside"]),
        helper.make_node("Log", ["shift_inside"], ["shift_log"]),
        helper.make_node("Sub", ["shift_one", "shift_inside"], ["shift_rest"]),
        helper.make_node("Log", ["shift_rest"], ["shift_log_rest"]),
        helper.make_node("Sub", ["shift_log", "shift_log_rest"], ["shift_odds"]),
        helper.make_node("Add", ["shift_odds", "shift_by"], ["shift_moved"]),
        helper.make_node("Sigmoid", ["shift_moved"], ["shift_score"]),
        helper.make_node("Cast", ["shift_score"], [INNER], to=TensorProto.FLOAT),
    ]
    nodes = [*model.graph.node[: place + 1], *steps, *model.graph.node[place + 1 :]]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    numbers = {"smallest": SMALLEST, "largest": LARGEST, "one": 1.0, "by": shift}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.float64), f"shift_{name}") for name, value in numbers.items()
    )
    return finished(model)


def alerts_of(before: Bundle, after: Bundle, x: X) -> Alerts:
    """Return what the threshold makes of the rows by either model."""
    old, new = (_is_alert(bundle, x) for bundle in (before, after))
    return Alerts(
        before=int(old.sum()), after=int(new.sum()), new=int((new & ~old).sum()), gone=int((old & ~new).sum())
    )


def score_of(bundle: Bundle) -> str:
    """Return the output that the sealed threshold is compared with."""
    return str(bundle.manifest.decision.get("threshold_on", "probability"))


def threshold_of(bundle: Bundle) -> float:
    """Return the sealed threshold."""
    return float(bundle.manifest.decision["threshold"])


def _is_alert(bundle: Bundle, x: X) -> NDArray[np.bool_]:
    model = load_model(bundle.path)
    starts = range(0, len(x), _PREDICT_ROWS)
    score = np.concatenate([model.predict(x[start : start + _PREDICT_ROWS])[score_of(bundle)] for start in starts])
    return np.asarray(score >= threshold_of(bundle))


def _ranked_odds(onnx: bytes, x: X) -> Floats:
    session = open_session(onnx, threads=1)
    starts = range(0, len(x), _PREDICT_ROWS)
    parts = [session.run(["score"], {"features": x[start : start + _PREDICT_ROWS]})[0] for start in starts]
    return np.sort(log_odds(np.concatenate(parts)))[::-1]
