"""A loaded model applied to one picture after another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from quatrain.core.inference import Model
from quatrain.core.jobs.sink import Sink
from quatrain.healthcare.checks import Checks
from quatrain.healthcare.decision import NOT_FOR_DIAGNOSIS, Decision, finding_probability
from quatrain.healthcare.models.outputs import DISTANCE, PROBABILITY
from quatrain.healthcare.score.reading import read_picture

# The output that holds a row for each picture.
FINDINGS = "findings"
NO_ANSWER = "no answer"
LOOK_FIRST = "look at the image first"
_DIGEST_SHOWN = 12
_COLOUR_AXES = 3


class Scorer:
    """A model with its sealed decision and checks."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._decision = Decision.from_json(model.manifest.decision)
        self._checks = Checks.from_json(model.manifest.decision["checks"])
        self._name = f"{model.manifest.name} {model.digest[:_DIGEST_SHOWN]}"
        shape = model.manifest.inputs[0].shape[1:]
        self._side = int(shape[0])
        self._n_channels = _COLOUR_AXES if len(shape) == _COLOUR_AXES else 1

    def process(self, path: Path, sink: Sink) -> None:
        """Score one file; raises BadDataError for a file that cannot be used."""
        picture = read_picture(path, side=self._side, n_channels=self._n_channels)
        sink.count(1)
        outputs = self._model.predict({self._model.manifest.inputs[0].name: picture.pixels}).outputs
        faults = list(self._checks.faults(picture.pixels)[0])
        if float(outputs[DISTANCE][0]) > self._decision.distance_limit:
            faults.append("unlike the pictures that the network was trained on")
        row = {
            "file": path.name,
            "source": picture.source,
            "modality": picture.modality,
            **self._findings(outputs[PROBABILITY], faults),
            "distance": float(outputs[DISTANCE][0]),
            "faults": "; ".join(dict.fromkeys(faults)),
            "model": self._name,
            "is_synthetic": bool(self._model.manifest.decision["is_synthetic"]),
            "note": NOT_FOR_DIAGNOSIS,
            "preview": picture.preview.tobytes(),
            "preview_side": len(picture.preview),
        }
        sink.write(FINDINGS, pa.Table.from_pylist([row], schema=schema_of(self._decision)))

    def _findings(self, probability: Any, faults: list[str]) -> dict[str, Any]:
        decision = self._decision
        sets = decision.sets(probability)[0]
        answer, told = answer_of(decision, sets)
        urgency = float(finding_probability(probability, decision)[0])
        columns = {
            f"probability:{name}": value
            for name, value in zip(shown_classes(decision), probability[0].tolist(), strict=True)
        }
        return {
            "urgency": urgency,
            "answer": LOOK_FIRST if faults else answer,
            "set": told,
            "called": called_of(decision, probability),
            **columns,
        }


def answer_of(decision: Decision, sets: np.ndarray) -> tuple[str, str]:
    """Return (the answer or "no answer", the set in words) of one image's set."""
    if decision.kind != "multilabel":
        names = [name for name, is_in in zip(decision.classes, sets, strict=True) if is_in]
        return (names[0] if len(names) == 1 else NO_ANSWER), " or ".join(names) or "none"
    present = [name for name, (no, yes) in zip(decision.classes, sets, strict=True) if yes and not no]
    unsure = [name for name, (no, yes) in zip(decision.classes, sets, strict=True) if yes == no]
    told = ", ".join(present + [f"{name}?" for name in unsure]) or "none"
    return (NO_ANSWER if unsure else told), told


def called_of(decision: Decision, probability: np.ndarray) -> str:
    """Return what the threshold alone would call one image."""
    named = decision.named(probability)[0]
    if decision.kind == "multilabel":
        return ", ".join(name for name, is_there in zip(decision.classes, named, strict=True) if is_there) or "none"
    return decision.classes[int(named)]


def shown_classes(decision: Decision) -> tuple[str, ...]:
    """Return what the columns of `probability` are of: of a binary set the finding alone."""
    return decision.classes[1:] if decision.kind == "binary" else decision.classes


def schema_of(decision: Decision) -> pa.Schema:
    """Return the columns of the findings' table, the same for every file of a model."""
    texts: list[pa.Field[Any]] = [pa.field(name, pa.string()) for name in ("file", "source", "modality")]
    numbers: list[pa.Field[Any]] = [pa.field(f"probability:{name}", pa.float64()) for name in shown_classes(decision)]
    names = ("answer", "set", "called")
    middle: list[pa.Field[Any]] = [pa.field("urgency", pa.float64()), *(pa.field(name, pa.string()) for name in names)]
    last: list[pa.Field[Any]] = [
        pa.field("distance", pa.float64()),
        pa.field("faults", pa.string()),
        pa.field("model", pa.string()),
        pa.field("is_synthetic", pa.bool_()),
        pa.field("note", pa.string()),
        pa.field("preview", pa.binary()),
        pa.field("preview_side", pa.int32()),
    ]
    return pa.schema([*texts, *middle, *numbers, *last])
