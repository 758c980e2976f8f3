"""Where batches come from: tensors that stay on the device, tensors on the host, or a Dataset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate, get_worker_info

from quatrain.core.training import nested, seeds
from quatrain.core.training.config import FitConfig

Data = Dataset[Any] | Sequence[Tensor]

# Share of the device's free memory that resident data may take; weights and activations need the rest.
_RESIDENT_SHARE = 0.5


class Source(Protocol):
    """Samples by number, in batches of (inputs..., targets) on the device."""

    # Where the indices given to `batches` lie.
    index_device: torch.device

    def __len__(self) -> int: ...

    def batches(self, indices: Iterable[Tensor], *, epoch: int) -> Iterator[Sequence[Any]]:
        """Yield the batch of each index tensor."""

    def describe(self) -> dict[str, Any]:
        """Return what a resume compares, as JSON values."""

    def find_fault(self) -> str | None:
        """Return what is wrong with the values, or None."""


def open_source(data: Data, *, config: FitConfig, device: torch.device, sample_weight: Tensor | None = None) -> Source:
    """Return the quickest source for `data`; with `sample_weight`, each batch ends in its weights."""
    if isinstance(data, TensorDataset):
        data = data.tensors
    if not isinstance(data, Dataset):
        weights = () if sample_weight is None else (sample_weight,)
        return TensorSource((*data, *weights), device=device, resident=config.resident)
    return DatasetSource(data, config=config, device=device, sample_weight=sample_weight)


class TensorSource:
    """Rows of equally long tensors, gathered on the device where they fit, else on the host."""

    def __init__(self, tensors: Sequence[Tensor], *, device: torch.device, resident: bool) -> None:
        lengths = [len(tensor) for tensor in tensors]
        if len(tensors) < 2 or len(set(lengths)) != 1 or lengths[0] == 0:  # noqa: PLR2004  inputs and targets
            raise ValueError(f"expected (inputs, …, targets) of one length above 0, got lengths {lengths}")
        home = device if resident and _fits(tensors, device) else torch.device("cpu")
        self._tensors = [tensor.to(home) for tensor in tensors]
        self._device = device
        self.index_device = home

    def __len__(self) -> int:
        return len(self._tensors[0])

    def batches(self, indices: Iterable[Tensor], *, epoch: int) -> Iterator[Sequence[Any]]:
        """Yield the rows of each index tensor; the epoch changes nothing."""
        del epoch
        is_home = self.index_device == self._device
        for index in indices:
            rows = [tensor.index_select(0, index) for tensor in self._tensors]
            yield rows if is_home else [row.pin_memory().to(self._device, non_blocking=True) for row in rows]

    def describe(self) -> dict[str, Any]:
        """Return length, row shapes and dtypes."""
        columns = [[str(tensor.dtype), list(tensor.shape[1:])] for tensor in self._tensors]
        return {"samples": len(self), "columns": columns}

    def find_fault(self) -> str | None:
        """Return which tensor holds values that are not finite, or None."""
        for position, tensor in enumerate(self._tensors):
            n_bad = int((~torch.isfinite(tensor)).sum()) if tensor.is_floating_point() else 0
            if n_bad:
                return f"tensor {position} of the training data holds {n_bad} values that are not finite"
        return None


class DatasetSource:
    """Samples of a Dataset through a DataLoader.

    Random augmentation may draw from random, numpy.random or torch: each sample is read under a
    seed of its own made from seed, epoch and index, so that neither workers, processes nor a
    resume change what it draws.
    """

    def __init__(
        self, data: Dataset[Any], *, config: FitConfig, device: torch.device, sample_weight: Tensor | None
    ) -> None:
        if not isinstance(data, Sized) or len(data) == 0:
            raise ValueError(f"expected a Dataset with a length above 0, got {type(data).__name__}")
        self.index_device = torch.device("cpu")
        self._device = device
        self._weight = sample_weight
        self._keys = _Keys()
        samples = _SeededSamples(data, seed=config.seed)
        self._length = len(data)
        self._loader = DataLoader(
            samples,
            # A sampler of lists makes the loader fetch by list.
            sampler=self._keys,
            batch_size=None,
            collate_fn=_identity,
            num_workers=config.workers,
            persistent_workers=config.workers > 0,
            pin_memory=device.type == "cuda",
            # Its own, or the loader would draw its base seed from torch's and break a resume.
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return self._length

    def batches(self, indices: Iterable[Tensor], *, epoch: int) -> Iterator[Sequence[Any]]:
        """Yield the collated samples of each index tensor."""
        queue: list[Tensor] = []
        self._keys.source = _recorded(indices, queue)
        self._keys.epoch = epoch
        for batch in self._loader:
            index = queue.pop(0)
            moved = nested.to_device(batch, self._device)
            yield moved if self._weight is None else [*moved, self._weight[index].to(self._device)]

    def describe(self) -> dict[str, Any]:
        """Return the length; reading samples to learn their shape could cost much."""
        return {"samples": len(self)}

    def find_fault(self) -> str | None:
        """Return None: looking at every sample would mean reading them all again."""
        return None


class _Keys:
    """The loader's sampler: lists of (epoch, index), set anew for each epoch."""

    def __init__(self) -> None:
        self.epoch = 0
        self.source: Iterable[Tensor] = ()

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        for index in self.source:
            yield self.epoch, index.tolist()


class _SeededSamples(Dataset[Any]):
    """A Dataset read by (epoch, indices), each sample under its own seed."""

    def __init__(self, data: Dataset[Any], *, seed: int) -> None:
        self._data = data
        self._seed = seed

    def __getitem__(self, key: tuple[int, list[int]]) -> Sequence[Any]:
        epoch, indices = key
        is_main = get_worker_info() is None
        cpu = torch.device("cpu")
        state = seeds.capture(cpu) if is_main else None
        samples = []
        for index in indices:
            seeds.seed_cpu(seeds.mix(self._seed, epoch, index))
            samples.append(_checked(self._data[index]))
        if state is not None:
            seeds.restore(state, cpu)
        return cast("Sequence[Any]", default_collate(samples))


def _checked(sample: Any) -> Any:
    if not isinstance(sample, tuple | list) or len(sample) < 2:  # noqa: PLR2004  inputs and target
        raise ValueError(f"a Dataset for fit gives tuples (input, …, target), got {type(sample).__name__}")
    return sample


def _recorded(indices: Iterable[Tensor], queue: list[Tensor]) -> Iterator[Tensor]:
    """Yield the indices and keep them: the loader asks ahead of what it delivers."""
    for index in indices:
        queue.append(index)
        yield index


def _identity(batch: Any) -> Any:
    return batch


def _fits(tensors: Sequence[Tensor], device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return sum(tensor.nbytes for tensor in tensors) <= _RESIDENT_SHARE * free
