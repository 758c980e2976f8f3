"""Every backend on a CNN, a perceptron, a Transformer and trees, at 1, 8, 64 and 256 rows, on one thread.

Each network is sealed and asked through `load_model(..., backend=name).predict(x)`, checks of the
input and the output included; beside it, in the same rounds and in CPU time, runs what one would
write by hand: the module itself under `torch.inference_mode`, for trees LightGBM's own `predict`.
A backend that does not give the golden outputs is named with its reason. `auto` is what tuning
chose before, on other calls than those that are reported. A trained perceptron in int8 shows how
many labels each backend keeps of it.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _report import Claim, claim, finish, parser, table

from quatrain.core.backends.autotune import seconds_per_call, tuned
from quatrain.core.backends.buckets import BUCKETS
from quatrain.core.backends.golden import first_line
from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.bundle.open import Bundle
from quatrain.core.bundle.seal import seal
from quatrain.core.compression.artifact import Artifact
from quatrain.core.compression.quantize import Int8
from quatrain.core.errors import UserError
from quatrain.core.export import lightgbm_model, torch_model
from quatrain.core.inference import Model, largest_difference, load_model, open_session

BACKENDS = ("onnxruntime", "openvino", "torch", "torch-compile", "aoti")
QUICK_BACKENDS = ("onnxruntime", "openvino", "torch")
SHARE_OF_BEST, OVER_TORCH, LARGEST_DIFFERENCE = 1.05, 1.3, 1e-4
# Of int8: labels that must stay, and what two runtimes may differ by, each rounding to 256 steps in its own way.
LABELS_KEPT, INT8_ATOL = 0.995, 0.05
# CPU seconds behind one figure: in less, a neighbour's use of the cache shows.
LEAST_SECONDS = 0.05
N_GOLDEN, N_TREES, N_COLUMNS, SIDE = 32, 300, 30, 64


@dataclass(frozen=True)
class Subject:
    """One sealed model, rows for it, and what one would write by hand."""

    name: str
    bundle: Bundle
    rows: Callable[[int], np.ndarray]
    by_hand: Callable[[np.ndarray], np.ndarray]
    hand: str


@dataclass(frozen=True)
class Line:
    """One model at one batch size: milliseconds per call of each way, one figure a round."""

    subject: str
    batch: int
    milliseconds: dict[str, list[float]]
    largest_difference: float
    chosen: str

    def ratio(self, slow: str, fast: str) -> float:
        """Return the median over the rounds of slow / fast."""
        return statistics.median(a / b for a, b in zip(self.milliseconds[slow], self.milliseconds[fast], strict=True))

    @property
    def over_best(self) -> float:
        """Time of auto over that of the fastest single backend, each at its least disturbed."""
        single = [min(taken) for name, taken in self.milliseconds.items() if name not in ("auto", "by hand")]
        return min(self.milliseconds["auto"]) / min(single)


def main() -> None:
    """Seal, tune, measure, report."""
    arguments = parser(__doc__)
    arguments.add_argument("--networks", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS))
    arguments.add_argument("--backends", nargs="+", choices=BACKENDS)
    arguments.add_argument("--rounds", type=int)
    options = arguments.parse_args()
    backends = options.backends or (QUICK_BACKENDS if options.quick else BACKENDS)
    batches, rounds = (BUCKETS[:2], options.rounds or 5) if options.quick else (BUCKETS, options.rounds or 11)
    # Compilers warn of what a CPU has not; torch notes that one thread is no default.
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(1)
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"QUATRAIN_CORE__HOME": home, "QUATRAIN_CORE__CACHE": f"{home}/cache"}
        for name in options.networks:
            subject = SUBJECTS[name](Path(home) / name)
            found, refused = measured(subject, backends, batches, rounds)
            show(found, backends, subject.hand)
            for backend, reason in refused.items():
                print(f"{name}: refused {backend}: {reason}\n")
            lines += found
        agreements = int8_agreements(backends, Path(home) / "int8") if "mlp" in options.networks else {}
    agreed = [
        claim(f"int8 on {name}: labels kept", share, LABELS_KEPT, at_least=True) for name, share in agreements.items()
    ]
    finish([*claims(lines), *agreed])


def measured(
    subject: Subject, backends: Sequence[str], batches: Sequence[int], rounds: int
) -> tuple[list[Line], dict[str, str]]:
    """Return the figures of one model at each batch size, and the backends that do not serve it."""
    choices = tuned(subject.bundle, reference=subject.name, threads=1, names=backends, is_fresh=True)
    models: dict[str, Model] = {}
    refused = dict(choices.refused)
    for name in (*(name for name in backends if name not in refused), "auto"):
        try:
            models[name] = load_model(subject.bundle.path, backend=name, threads=1)
        except UserError as error:
            refused[name] = first_line(error)
    lines = []
    for batch in batches:
        x = subject.rows(batch)
        wanted = subject.by_hand(x)
        worst = max(largest_difference(model.predict(x)["probability"], wanted)[0] for model in models.values())
        calls: dict[str, Callable[[], object]] = {name: _predict(model, x) for name, model in models.items()}
        calls["by hand"] = lambda x=x: subject.by_hand(x)
        taken = seconds_per_call(calls, rounds=rounds, clock=time.process_time, least_seconds=LEAST_SECONDS)
        milliseconds = {name: [1e3 * each for each in seconds] for name, seconds in taken.items()}
        lines.append(Line(subject.name, batch, milliseconds, worst, choices.backends[batch]))
    return lines, refused


def int8_agreements(backends: Sequence[str], path: Path) -> dict[str, float]:
    """Return each backend's share of rows on which a trained perceptron in int8 keeps the label; prints who refuses."""
    module, rows = trained_perceptron()
    calibration = {"x": rows(512)}
    spec = TensorSpec(name="x", dtype="float32", shape=("batch", N_COLUMNS))
    onnx = torch_model(module, {"x": torch_from(rows(2))}, output_names=["probability"])
    quantised = Int8(calibration=calibration).apply(Artifact(onnx, (spec,), ())).onnx
    session = open_session(quantised, threads=1)

    def in_int8(x: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(None, {"x": x})[0])

    bundle = _sealed("int8", quantised, rows(N_GOLDEN), in_int8, path, golden_atol=INT8_ATOL)
    x = rows(4096)
    wanted = module(torch_from(x)).detach().numpy() > 0.5  # noqa: PLR2004 - the more likely label
    kept: dict[str, float] = {}
    for name in backends:
        try:
            given = load_model(bundle.path, backend=name, threads=1).predict(x)["probability"]
            kept[name] = float(np.mean((given > 0.5) == wanted))  # noqa: PLR2004 - the more likely label
        except UserError as error:
            print(f"int8: refused {name}: {first_line(error)}\n")
    return kept


def trained_perceptron() -> tuple[Any, Callable[[int], np.ndarray]]:
    """Return a perceptron that has learnt whether a sum of columns is positive."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = (nn.Linear(N_COLUMNS, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1), nn.Sigmoid())
    module, rows = nn.Sequential(*layers, nn.Flatten(0)), _columns(N_COLUMNS)
    optimiser = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(300):
        x = torch_from(rows(256))
        loss = nn.functional.binary_cross_entropy(module(x), (x[:, :5].sum(1) > 0).float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return module.eval(), rows


def torch_from(x: np.ndarray) -> Any:
    """Return the array as a tensor."""
    import torch

    return torch.from_numpy(x)


def show(lines: Sequence[Line], backends: Sequence[str], hand: str) -> None:
    """Print CPU milliseconds per call, the choice, and how far the choice is from the best and from the hand."""
    ways = ("by hand", *(name for name in backends if name in lines[0].milliseconds), "auto")
    titles = [f"by hand: {hand}" if way == "by hand" else way for way in ways]
    header = ("model", "batch", *titles, "chosen", "auto/best", "hand/auto", "largest difference")
    rows = [
        (
            line.subject,
            line.batch,
            *(statistics.median(line.milliseconds[way]) for way in ways),
            line.chosen,
            line.over_best,
            line.ratio("by hand", "auto"),
            line.largest_difference,
        )
        for line in lines
    ]
    table(header, rows)


def claims(lines: Sequence[Line]) -> list[Claim]:
    """Return the promises beside the worst of what was measured."""
    from_torch = [line for line in lines if line.subject != "trees"]
    found = [
        claim("largest difference from the trained model", max(line.largest_difference for line in lines),
              LARGEST_DIFFERENCE, at_least=False),
        claim("auto / best single backend", max(line.over_best for line in lines),
              SHARE_OF_BEST, at_least=False),
    ]  # fmt: skip
    if from_torch:
        slowest = min(line.ratio("by hand", "auto") for line in from_torch)
        found.append(claim("plain torch / auto", slowest, OVER_TORCH, at_least=True))
    return found


def cnn(path: Path) -> Subject:
    """Return ResNet-18 on grey images of 64 pixels, preprocessing inside."""
    from quatrain.core.vision.backbones import load_backbone
    from quatrain.core.vision.network import ImageClassifier

    backbone = load_backbone("resnet18", pretrained=False)
    module = ImageClassifier(backbone.preprocess((SIDE, SIDE)), backbone, n_classes=10, link="softmax")
    rng = np.random.default_rng(0)

    def rows(n: int) -> np.ndarray:
        return rng.integers(0, 256, (n, SIDE, SIDE)).astype(np.uint8)

    return _network("cnn", module, rows, path)


def perceptron(path: Path) -> Subject:
    """Return three layers of 256 on 64 columns."""
    from torch import nn

    layers = (nn.Linear(64, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1))
    return _network("mlp", nn.Sequential(*layers, nn.Sigmoid(), nn.Flatten(0)), _columns(64), path)


def transformer(path: Path) -> Subject:
    """Return the FT-Transformer on 30 columns."""
    from quatrain.core.networks import FTTransformer

    return _network("ft-transformer", FTTransformer(n_columns=N_COLUMNS), _columns(N_COLUMNS), path)


def trees(path: Path) -> Subject:
    """Return 300 LightGBM trees on 30 columns."""
    import lightgbm as lgb

    rows = _columns(N_COLUMNS)
    x = rows(5000)
    labels = x[:, 0] + x[:, 1] * x[:, 2] > 0
    parameters = {"objective": "binary", "verbosity": -1, "seed": 0, "num_threads": 1}
    booster = lgb.train(parameters, lgb.Dataset(x, labels), N_TREES)

    def by_hand(x: np.ndarray) -> np.ndarray:
        return np.asarray(booster.predict(x, num_threads=1)).astype(np.float32)

    onnx = lightgbm_model(booster, input_name="x")
    return Subject("trees", _sealed("trees", onnx, x[:N_GOLDEN], by_hand, path), rows, by_hand, "LightGBM")


SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    "cnn": cnn,
    "mlp": perceptron,
    "ft-transformer": transformer,
    "trees": trees,
}


def _columns(n_columns: int) -> Callable[[int], np.ndarray]:
    rng = np.random.default_rng(0)
    return lambda n: rng.normal(size=(n, n_columns)).astype(np.float32)


def _network(name: str, module: Any, rows: Callable[[int], np.ndarray], path: Path) -> Subject:
    import torch

    module = module.eval()
    onnx = torch_model(module, {"x": torch.from_numpy(rows(2))}, output_names=["probability"])

    def by_hand(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(x)).numpy()

    return Subject(name, _sealed(name, onnx, rows(N_GOLDEN), by_hand, path), rows, by_hand, "torch")


def _sealed(
    name: str,
    onnx: bytes,
    golden: np.ndarray,
    by_hand: Callable[[np.ndarray], np.ndarray],
    path: Path,
    *,
    golden_atol: float = LARGEST_DIFFERENCE,
) -> Bundle:
    answers = by_hand(golden)
    given = open_session(onnx, threads=1).run(None, {"x": golden})[0]
    return seal(
        path,
        name=f"benchmark/{name}",
        task="classification",
        onnx=onnx,
        inputs=[TensorSpec(name="x", dtype=golden.dtype.name, shape=("batch", *golden.shape[1:]))],
        outputs=[TensorSpec(name="probability", dtype="float32", shape=("batch", *given.shape[1:]))],
        golden_inputs={"x": golden},
        golden_outputs={"probability": answers},
        card="# A benchmark's model\n",
        golden_atol=golden_atol,
    )


def _predict(model: Model, x: np.ndarray) -> Callable[[], object]:
    return lambda: model.predict(x)


if __name__ == "__main__":
    main()
