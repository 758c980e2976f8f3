"""The baseline task on images: labelled pixels in, a sealed classifier out, calibrated and with its golden rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.bundle.open import Bundle
from quatrain.core.bundle.seal import seal
from quatrain.core.calibration.temperature import Link, fit_temperature
from quatrain.core.compression.retraining import TrainingRows, label_loss
from quatrain.core.config import Config
from quatrain.core.errors import BadDataError
from quatrain.core.export import check_parity, dynamic_sizes, torch_model
from quatrain.core.images import ImageArray
from quatrain.core.tracking import Run
from quatrain.core.training.config import FitConfig
from quatrain.core.training.evaluate import predict
from quatrain.core.training.fit import fit
from quatrain.core.training.result import FitResult
from quatrain.core.training.seeds import seed_everything
from quatrain.core.vision.augmentation import Augmentation
from quatrain.core.vision.backbones import load_backbone
from quatrain.core.vision.network import Embedding, ImageClassifier, trained_part
from quatrain.core.vision.preprocess import Preprocess
from quatrain.core.vision.scores import Scores, scores_of

INPUT, OUTPUT = "pixels", "probability"
# Rows of the validation part that become golden, and what they may take; four are always kept.
_N_GOLDEN, _GOLDEN_BYTES, _FEWEST_GOLDEN = 32, 16 << 20, 4
_DEFAULT_FIT = FitConfig(epochs=10, batch_size=64, learning_rate=1e-3, drop_last=True)


class ClassifierConfig(Config):
    """What decides a classifier, apart from the images."""

    # A name that `load_backbone` takes.
    backbone: str = "efficientnet_lite0"
    pretrained: bool = True
    # "head" trains the last layer alone, on embeddings of the images as they are, without augmentation.
    tuned: Literal["all", "head"] = "all"
    # Height and width that the backbone sees; None is what its weights were published for.
    size_hw: tuple[int, int] | None = None
    # Whether the bundle takes images of any height and width, or only of those that it was trained on.
    any_size: bool = False
    # "sigmoid" gives one probability, that of the second of two classes.
    link: Link = "softmax"
    augmentation: Augmentation | None = Augmentation()
    # Batch norms keep their published values: the choice for few images.
    frozen_norms: bool = False
    fit: FitConfig = Field(default=_DEFAULT_FIT)


@dataclass(frozen=True)
class LabelledImages:
    """Images of one size, uint8 or uint16 (n, H, W) or (n, H, W, 3), and the class number of each, (n,)."""

    pixels: ImageArray
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class TrainedClassifier:
    """The sealed bundle, and what `compress` needs beside it."""

    bundle: Bundle
    # The module in the bundle: `compress(..., module=...)`; the layer to keep in pruning is "head".
    module: ImageClassifier
    # The training part, its settings, and which part of the module is trained.
    training: TrainingRows
    valid: Scores
    test: Scores | None
    fitted: FitResult


def train_classifier(
    train: LabelledImages,
    valid: LabelledImages,
    *,
    classes: Sequence[str],
    path: Path,
    name: str,
    config: ClassifierConfig | None = None,
    test: LabelledImages | None = None,
    about: str = "",
    data: Mapping[str, Any] | None = None,
    run: Run | None = None,
    resume: bool = True,
    overwrite: bool = False,
) -> TrainedClassifier:
    """Return a classifier trained on `train` and sealed at `path`; `valid` chooses when to stop and the temperature.

    Figures of `valid` are therefore a little kind; `test` is looked at once, at the end. The card says
    `about` of the data and its limits. Raises BadDataError for labels without a class or without an
    image, and UserError as `fit`, `load_backbone` and `seal` do.
    """
    config = config or ClassifierConfig()
    for part in (train, valid, *(() if test is None else (test,))):
        _require_images(part, classes)
    seed_everything(config.fit.seed)
    backbone = load_backbone(config.backbone, pretrained=config.pretrained)
    scale = backbone.normalisation if train.pixels.dtype == np.uint8 else backbone.normalisation.of_16_bits()
    preprocess = Preprocess(config.size_hw or backbone.size_hw, scale)
    module = ImageClassifier(preprocess, backbone, n_classes=len(classes), link=config.link)
    training = _training(train, config)
    fitted = _fitted(module, training, valid, config, run=run, resume=resume)
    module.cpu()
    part = training.logits(module).eval()
    of_valid = _logits(part, valid.pixels, config)
    temperature = fit_temperature(_for(config.link, of_valid), valid.labels, link=config.link)
    module.temperature.fill_(temperature)
    measured = {
        name: scores_of(_for(config.link, logits) / temperature, labels, link=config.link)
        for name, logits, labels in [
            ("valid", of_valid, valid.labels),
            *([] if test is None else [("test", _logits(part, test.pixels, config), test.labels)]),
        ]
    }
    bundle = seal_classifier(
        module,
        valid.pixels,
        path=path,
        name=name,
        any_size=config.any_size,
        card=_card(name, classes, config, measured, about),
        metrics={part: scores.values for part, scores in measured.items()},
        intervals={part: scores.intervals for part, scores in measured.items()},
        training=config.model_dump(mode="json") | {"classes": list(classes), "temperature": temperature},
        data=data,
        overwrite=overwrite,
    )
    return TrainedClassifier(bundle, module, training, measured["valid"], measured.get("test"), fitted)


def seal_classifier(
    module: ImageClassifier,
    golden: ImageArray,
    *,
    path: Path,
    name: str,
    card: str,
    any_size: bool = False,
    metrics: Mapping[str, Mapping[str, float]] | None = None,
    intervals: Mapping[str, Mapping[str, tuple[float, float]]] | None = None,
    training: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Return the classifier sealed with the first of the `golden` images; its graph gave what the module gives."""
    n_golden = min(_N_GOLDEN, max(_FEWEST_GOLDEN, _GOLDEN_BYTES // golden[0].nbytes), len(golden))
    pixels = np.ascontiguousarray(golden[:n_golden])
    sizes = ("height", "width") if any_size else pixels.shape[1:3]
    dtype: Literal["uint8", "uint16"] = "uint8" if pixels.dtype == np.uint8 else "uint16"
    spec = TensorSpec(name=INPUT, dtype=dtype, shape=("batch", *sizes, *pixels.shape[3:]))
    onnx = torch_model(
        module,
        {INPUT: torch.from_numpy(np.resize(pixels, (max(2, n_golden), *pixels.shape[1:]))[:2])},
        output_names=[OUTPUT],
        dynamic=dynamic_sizes([spec]),
    )
    answers = {OUTPUT: predict(module, torch.from_numpy(pixels), batch_size=_N_GOLDEN).numpy()}
    check_parity(onnx, {INPUT: pixels}, answers, batches=(1, 2, 7))
    shape = ("batch", *answers[OUTPUT].shape[1:])
    return seal(
        path,
        name=name,
        task="classification",
        onnx=onnx,
        inputs=[spec],
        outputs=[TensorSpec(name=OUTPUT, dtype="float32", shape=shape, low=0, high=1)],
        golden_inputs={INPUT: pixels},
        golden_outputs=answers,
        card=card,
        metrics=metrics,
        intervals=intervals,
        training=training,
        data=data,
        weights={key: tensor.numpy(force=True) for key, tensor in module.state_dict().items()},
        overwrite=overwrite,
    )


def _require_images(part: LabelledImages, classes: Sequence[str]) -> None:
    pixels, labels = part.pixels, part.labels
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim not in {3, 4} or pixels.shape[3:] not in {(), (3,)}:
        raise BadDataError(
            f"images must be uint8 or uint16 (n, H, W) or (n, H, W, 3), got {pixels.dtype} {pixels.shape}"
        )
    if labels.shape != (len(pixels),) or len(pixels) == 0:
        raise BadDataError(f"expected a label for each of 1 or more images, got {labels.shape} for {len(pixels)}")
    wrong = (labels < 0) | (labels >= len(classes))
    if wrong.any():
        raise BadDataError(
            f"labels must be numbers of the {len(classes)} classes, 0 to {len(classes) - 1}; "
            f"row {int(wrong.argmax())} has {labels[wrong][0]}"
        )


def _training(train: LabelledImages, config: ClassifierConfig) -> TrainingRows:
    # A batch larger than the part would leave no step where the last, smaller one is dropped.
    batch_size = min(config.fit.batch_size, len(train.pixels))
    return TrainingRows(
        inputs=torch.from_numpy(np.ascontiguousarray(train.pixels)),
        targets=torch.from_numpy(np.ascontiguousarray(train.labels, dtype=np.int64)),
        config=config.fit.model_copy(update={"batch_size": batch_size}),
        logits=trained_part(config.augmentation, frozen_norms=config.frozen_norms),
    )


def _fitted(
    module: ImageClassifier,
    training: TrainingRows,
    valid: LabelledImages,
    config: ClassifierConfig,
    *,
    run: Run | None,
    resume: bool,
) -> FitResult:
    trained: nn.Module = training.logits(module)
    of_train, of_valid = training.inputs, torch.from_numpy(np.ascontiguousarray(valid.pixels))
    if config.tuned == "head":
        embedding, size = Embedding(module), config.fit.batch_size
        trained = module.head
        of_train = predict(embedding, of_train, batch_size=size)
        of_valid = predict(embedding, of_valid, batch_size=size)
    return fit(
        trained,
        (of_train, _column(training.targets)),
        (of_valid, _column(torch.from_numpy(valid.labels))),
        loss=label_loss,
        config=training.config,
        run=run,
        resume=resume,
    )


def _column(labels: Tensor) -> Tensor:
    return labels[:, None].float()


def _logits(part: nn.Module, pixels: ImageArray, config: ClassifierConfig) -> NDArray[np.float32]:
    rows = torch.from_numpy(np.ascontiguousarray(pixels))
    logits: NDArray[np.float32] = predict(part, rows, batch_size=config.fit.batch_size).numpy()
    return logits


def _for(link: Link, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return logits as calibration takes them: (n, classes), with sigmoid (n,)."""
    return logits if link == "softmax" else logits[:, 0]


def _card(
    name: str, classes: Sequence[str], config: ClassifierConfig, measured: Mapping[str, Scores], about: str
) -> str:
    weights = "ImageNet's published weights" if config.pretrained else "random weights"
    begun = "its last layer" if config.tuned == "head" else "the whole network"
    rows = [
        f"| {part} | {scores.n} | " + " | ".join(_shown(scores, measure) for measure in scores.values) + " |"
        for part, scores in measured.items()
    ]
    names = " | ".join(next(iter(measured.values())).values)
    rule = "|---" * (2 + len(next(iter(measured.values())).values)) + "|"
    return "\n".join(
        [
            f"# {name}",
            "",
            f"Tells {', '.join(classes)} apart in images: {config.backbone} with {weights}, then {begun} trained.",
            "Resize, normalisation and temperature are in the graph. `valid` chose when to stop and the temperature.",
            "",
            *([about, ""] if about else []),
            f"| part | images | {names} |",
            rule,
            *rows,
            "",
            "In brackets, intervals of 95 %. Images unlike those of the training part get a confident answer, too.",
            "",
        ]
    )


def _shown(scores: Scores, measure: str) -> str:
    value = f"{scores.values[measure]:.4f}"
    if measure not in scores.intervals:
        return value
    low, high = scores.intervals[measure]
    return f"{value} [{low:.4f}, {high:.4f}]"
