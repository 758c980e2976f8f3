"""Training the networks of a model, and fitting what comes after them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from quatrain.core.calibration.temperature import Link, fit_temperature, sigmoid, softmax
from quatrain.core.export import check_parity, torch_model
from quatrain.core.inference import open_session
from quatrain.core.training.evaluate import predict
from quatrain.core.training.fit import fit
from quatrain.core.training.seeds import seed_everything
from quatrain.healthcare.data.known_sets import known_set
from quatrain.healthcare.data.labelled import UNKNOWN, Labelled, Part
from quatrain.healthcare.models.augment import RadiographAugment
from quatrain.healthcare.models.losses import balance_weights, loss_of, n_outputs_of
from quatrain.healthcare.models.network import Ensemble, SmallResNet, scaled
from quatrain.healthcare.models.outputs import DISTANCE, EMBEDDING, FEATURES, INPUT, LOGITS, OUTPUTS, PROBABILITY
from quatrain.healthcare.models.settings import ModelSettings
from quatrain.healthcare.models.tail import Tail, fit_distance, with_tail
from quatrain.healthcare.train.config import TrainConfig

if TYPE_CHECKING:
    from quatrain.core.tracking import Run

_LOG = logging.getLogger(__name__)
# Seeds of members lie this far apart, so that those of neighbouring runs differ.
_MEMBER_STRIDE = 1009
# Rows that the covariance of the embedding is estimated on, at most.
_MAX_ROWS = 20_000
_BATCH = 256
# Batches of training images that settle the norms.
_NORM_BATCHES = 40
_HALF = 0.5


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A trained model: the torch module, and the whole graph with calibration and distance."""

    module: Ensemble
    onnx: bytes
    temperature: float
    settings: ModelSettings

    def answer(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Return the graph's outputs by name."""
        session = open_session(self.onnx)
        parts = [
            session.run(list(OUTPUTS), {INPUT: np.ascontiguousarray(pixels[i : i + _BATCH])})
            for i in range(0, len(pixels), _BATCH)
        ]
        return {name: np.concatenate(arrays) for name, arrays in zip(OUTPUTS, zip(*parts, strict=True), strict=True)}


def fit_model(data: Labelled, config: TrainConfig, run: Run | None = None) -> Fitted:
    """Return the members trained on `train`, calibrated on `val`, as one graph that gives the module's numbers.

    Every member trains for all its epochs: validation sets are easy, and what stopped on one would lean on it.
    """
    settings = _with_flips(config, data)
    members = []
    torch.set_num_threads(config.threads)
    for number in range(settings.members):
        members.append(_member(data, settings, seed=config.seed + _MEMBER_STRIDE * number))
        if run is not None:
            run.log(step=number + 1, **{f"member/{name}": value for name, value in members[-1][1].items()})
    module = Ensemble([member for member, _ in members]).eval()
    val = data.part("val")
    link: Link = "sigmoid" if data.kind in {"binary", "multilabel"} else "softmax"
    temperature = _temperature(module, val, link=link, n_views=config.n_views, seed=config.seed)
    tail = _tail(module, data, link=link, temperature=temperature)
    network = torch_model(module, {INPUT: torch.from_numpy(val.images[:2].copy())}, output_names=[LOGITS, FEATURES])
    fitted = Fitted(module=module, onnx=with_tail(network, tail), temperature=temperature, settings=settings)
    _require_parity(fitted, val.images[:64], tail)
    return fitted


def known_rows(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return labels in which what is unknown counts as absent, for what has no other way to treat it."""
    return np.where(labels == UNKNOWN, 0, labels)


def _with_flips(config: TrainConfig, data: Labelled) -> ModelSettings:
    known = known_set(data.name)
    flips = config.flips if config.flips is not None else known.flips if known else ""
    moved = config.model.moved
    if flips:
        moved = moved.model_copy(update={"flip": _HALF, "upend": _HALF if "v" in flips else 0.0})
    return config.model.model_copy(update={"moved": moved})


def _member(data: Labelled, settings: ModelSettings, *, seed: int) -> tuple[SmallResNet, dict[str, float]]:
    train = data.part("train")
    seed_everything(seed)
    network = SmallResNet(
        side=max(data.shape[:2]),
        n_channels=3 if len(data.shape) == 3 else 1,  # noqa: PLR2004 - (H, W, 3)
        n_outputs=n_outputs_of(data.kind, len(data.classes)),
        settings=settings,
    )
    weights = balance_weights(data.kind, train.labels) if settings.balanced else None
    # A set smaller than a batch would have no whole one.
    batch = min(settings.fit.batch_size, max(2, len(train) // 2))
    result = fit(
        network,
        (torch.from_numpy(train.images), torch.from_numpy(train.labels)),
        loss=loss_of(data.kind, smoothing=settings.label_smoothing),
        config=settings.fit.model_copy(update={"seed": seed, "batch_size": batch}),
        sample_weight=None if weights is None else torch.from_numpy(weights),
    )
    _settle_norms(network.cpu(), torch.from_numpy(train.images), batch=batch)
    return network.eval(), result.metrics


def _settle_norms(network: SmallResNet, pixels: torch.Tensor, *, batch: int) -> None:
    """Give batch norms the statistics of the averaged weights; those kept in training are of other weights."""
    norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over what follows
    network.train()
    order = torch.randperm(len(pixels))
    with torch.no_grad():
        for rows in torch.split(order, batch)[:_NORM_BATCHES]:
            if len(rows) > 1:
                network(pixels[rows])


def _temperature(module: Ensemble, val: Part, *, link: Link, n_views: int, seed: int) -> float:
    """Return the temperature of the validation images and of copies as other machines would show them.

    On its own images a network is surer than it may be on another machine's; classes weigh the same.
    """
    seed_everything(seed)
    member = module.members[0]
    augment = RadiographAugment(member.augment.move.settings, member.augment.shown).train()  # type: ignore[union-attr,arg-type]
    pixels = torch.from_numpy(val.images)
    logits = [_logits(module, pixels)]
    for _ in range(n_views):
        shown = augment(scaled(pixels)).mul(255).round().to(torch.uint8)
        logits.append(_logits(module, shown[:, 0] if pixels.ndim == 3 else shown.permute(0, 2, 3, 1)))  # noqa: PLR2004
    labels = np.concatenate([known_rows(val.labels)] * (n_views + 1))
    stacked = np.concatenate(logits).astype(np.float64)
    if labels.ndim == 1:
        weight = (len(labels) / np.bincount(labels).clip(1)[labels]).astype(np.float64)
    else:
        weight = np.ones(len(labels))
    columns = stacked[:, 0] if link == "sigmoid" and labels.ndim == 1 else stacked
    return fit_temperature(columns, labels, link=link, weight=weight)


def _logits(module: Ensemble, pixels: torch.Tensor) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = predict(module, pixels, batch_size=_BATCH)[0].numpy()
    return logits


def _tail(module: Ensemble, data: Labelled, *, link: Link, temperature: float) -> Tail:
    train = data.part("train")
    rows = np.random.default_rng(0).permutation(len(train))[:_MAX_ROWS]
    features = predict(module, torch.from_numpy(train.images[rows]), batch_size=_BATCH)[1].numpy()
    groups = train.labels[rows] if train.labels.ndim == 1 else np.zeros(len(rows), dtype=np.int64)
    whitening, means = fit_distance(features, groups)
    n_outputs = n_outputs_of(data.kind, len(data.classes))
    offset = np.zeros(n_outputs, dtype=np.float32)
    return Tail(link=link, slope=1 / temperature, offset=offset, whitening=whitening, means=means)


def _require_parity(fitted: Fitted, pixels: NDArray[np.uint8], tail: Tail) -> None:
    """Raise ParityError unless the graph gives what torch and NumPy give."""
    logits, features = (tensor.numpy() for tensor in predict(fitted.module, torch.from_numpy(pixels)))
    calibrated = (logits * np.float32(tail.slope) + tail.offset).astype(np.float64)
    white = features @ tail.whitening
    gaps = np.sqrt(((white[:, None] - tail.means) ** 2).sum(2).min(1))
    expected: dict[str, Any] = {
        PROBABILITY: (sigmoid if tail.link == "sigmoid" else softmax)(calibrated).astype(np.float32),
        LOGITS: logits,
    }
    check_parity(fitted.onnx, {INPUT: pixels}, expected)
    check_parity(fitted.onnx, {INPUT: pixels}, {EMBEDDING: white, DISTANCE: gaps}, atol=2e-3)
