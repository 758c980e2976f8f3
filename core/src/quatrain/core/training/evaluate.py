"""A model's outputs and losses over a whole set, in eval mode, float32 and without gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from quatrain.core.training import nested
from quatrain.core.training.distributed import World
from quatrain.core.training.losses import Loss, per_sample
from quatrain.core.training.order import share
from quatrain.core.training.sources import Source

# (outputs, targets) of the whole set, on the CPU -> names and values.
Metrics = Callable[[Any, Any], Mapping[str, float]]


def predict(
    model: nn.Module,
    inputs: Tensor | Sequence[Tensor],
    *,
    batch_size: int = 1024,
    device: torch.device | str | None = None,
) -> Any:
    """Return the model's outputs for every row, on the CPU; `device` None means where the model is."""
    columns = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    if not columns or len(columns[0]) == 0:
        raise ValueError("predict expects at least one row, got none")
    if device is None:
        device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    model.to(device)
    with evaluating(model):
        parts = [
            nested.apply(Tensor.cpu, model(*(column.to(device) for column in batch)))
            for batch in zip(*(torch.split(column, batch_size) for column in columns), strict=True)
        ]
    return nested.concatenate(parts)


def validate(
    model: nn.Module, source: Source, *, loss: Loss, metrics: Metrics | None, batch_size: int, world: World
) -> dict[str, float]:
    """Return the mean loss as "loss" and the metrics over all of `source`, the same on every process."""
    sums: list[Tensor] = []
    kept: list[tuple[Any, Any]] = []
    with evaluating(model):
        for inputs, targets, n in _shares(source, batch_size=batch_size, world=world):
            outputs = model(*inputs)
            sums.append(per_sample(loss(outputs, targets), n=n).sum())
            if metrics is not None:
                kept.append((nested.apply(Tensor.cpu, outputs), nested.apply(Tensor.cpu, targets)))
    total = world.sum(torch.stack(sums).cpu().double().sum())
    result = {"loss": float(total) / len(source)}
    return result | (_measure(metrics, kept, n=len(source), world=world) if metrics is not None else {})


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model into eval mode without gradients, and back into its own mode after the block."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _shares(source: Source, *, batch_size: int, world: World) -> Iterator[tuple[Sequence[Any], Any, int]]:
    low, high = share(len(source), rank=world.rank, size=world.size)
    rows = torch.arange(low, high, device=source.index_device)
    indices = torch.split(rows, batch_size)
    for index, (*inputs, targets) in zip(indices, source.batches(indices, epoch=0), strict=True):
        yield inputs, targets, len(index)


def _measure(metrics: Metrics, kept: Sequence[tuple[Any, Any]], *, n: int, world: World) -> dict[str, float]:
    """Return rank 0's metrics of everyone's outputs, in the set's own order."""
    outputs, targets = nested.apply(lambda part: world.join_shares(part, n=n), nested.concatenate(kept))
    values = metrics(outputs, targets) if world.is_main else {}
    return world.agree({name: float(value) for name, value in values.items()})
