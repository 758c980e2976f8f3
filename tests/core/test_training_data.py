"""Which samples a step sees, where they come from, and the state of the generators."""

from __future__ import annotations

import random
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from quatrain.core.training import seeds
from quatrain.core.training.config import FitConfig
from quatrain.core.training.nested import apply, concatenate
from quatrain.core.training.order import Order, share
from quatrain.core.training.sources import open_source

_CPU = torch.device("cpu")


def _order(**changes: Any) -> Order:
    options = {"n": 50, "batch_size": 16, "seed": 3, "shuffle": True, "drop_last": False, "rank": 0, "size": 1}
    return Order(**options | changes)


def _batches(order: Order, *, epoch: int = 0, start: int = 0) -> list[list[int]]:
    return [index.tolist() for index in order.batches(epoch, start=start, device=_CPU)]


@given(n=st.integers(1, 60), batch_size=st.integers(1, 20), epoch=st.integers(0, 5))
@settings(deadline=None)
def test_an_epoch_takes_every_sample_once(n: int, batch_size: int, epoch: int) -> None:
    """Batches are a permutation of the samples, cut into pieces of the batch size."""
    batches = _batches(_order(n=n, batch_size=batch_size), epoch=epoch)
    assert sorted(sample for batch in batches for sample in batch) == list(range(n))
    assert all(len(batch) == batch_size for batch in batches[:-1])


@given(n=st.integers(1, 60), batch_size=st.integers(1, 20), size=st.integers(2, 5))
@settings(deadline=None)
def test_processes_together_take_one_process_s_batches(n: int, batch_size: int, size: int) -> None:
    """Joined by rank, the parts of each batch are the batch that one process takes."""
    whole = _batches(_order(n=n, batch_size=batch_size))
    orders = [_order(n=n, batch_size=batch_size, rank=rank, size=size) for rank in range(size)]
    parts = [_batches(order) for order in orders]
    for batch, expected in enumerate(whole):
        used = [part[batch][: order.local_size(batch)] for order, part in zip(orders, parts, strict=True)]
        assert list(chain(*used)) == expected
        assert all(len(part[batch]) > 0 for part in parts)


def test_order_can_start_at_any_batch() -> None:
    """A resume in the middle of an epoch sees the batches that are left."""
    assert _batches(_order(), epoch=2, start=2) == _batches(_order(), epoch=2)[2:]


def test_epochs_and_seeds_differ() -> None:
    """Each epoch and each seed has an order of its own."""
    orders = [_batches(_order(seed=seed), epoch=epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({str(order) for order in orders}) == 4


def test_order_without_shuffle_is_the_data_s() -> None:
    """shuffle=False keeps the rows as they come."""
    assert list(chain(*_batches(_order(shuffle=False)))) == list(range(50))


def test_drop_last_leaves_the_short_batch_out() -> None:
    """Fifty samples give three whole batches of sixteen."""
    assert [len(batch) for batch in _batches(_order(drop_last=True))] == [16, 16, 16]


@given(n=st.integers(0, 100), size=st.integers(1, 9))
@settings(deadline=None)
def test_shares_are_contiguous_and_even(n: int, size: int) -> None:
    """Shares cover everything once and differ by one at most."""
    bounds = [share(n, rank=rank, size=size) for rank in range(size)]
    assert [low for low, _ in bounds] == [0, *[high for _, high in bounds[:-1]]]
    assert bounds[-1][1] == n
    lengths = [high - low for low, high in bounds]
    assert max(lengths) - min(lengths) <= 1


class _Rows(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, *tensors: Tensor) -> None:
        self._tensors = tensors

    def __len__(self) -> int:
        return len(self._tensors[0])

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self._tensors)


def test_tensors_and_a_dataset_of_them_give_the_same_batches() -> None:
    """Where the data lies changes speed, not values."""
    inputs, targets, weight = torch.randn(20, 3), torch.arange(20), torch.rand(20)
    sources = [
        open_source(data, config=FitConfig(), device=_CPU, sample_weight=weight)
        for data in ((inputs, targets), TensorDataset(inputs, targets), _Rows(inputs, targets))
    ]
    index = [torch.tensor([3, 1, 19]), torch.tensor([0])]
    for batches in zip(*(source.batches(index, epoch=0) for source in sources), strict=True):
        for columns in zip(*batches, strict=True):
            assert all(torch.equal(columns[0], other) for other in columns[1:])
        assert len(batches[0]) == 3


class _Noise(Dataset[tuple[Tensor, Tensor]]):
    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = torch.rand(1) + random.random() + np.random.random()  # noqa: NPY002, S311
        return noise, torch.tensor(index)


def test_augmentation_depends_on_seed_epoch_and_sample_only() -> None:
    """A sample draws the same whatever batch it is in, and something else in another epoch."""

    def draws(batches: list[list[int]], *, epoch: int = 0, seed: int = 0) -> dict[int, float]:
        source = open_source(_Noise(), config=FitConfig(seed=seed), device=_CPU)
        read = source.batches([torch.tensor(batch) for batch in batches], epoch=epoch)
        return {int(i): float(x) for xs, indices in read for x, i in zip(xs, indices, strict=True)}

    base = draws([[0, 1, 2], [3]])
    assert draws([[3, 2], [1, 0]]) == base
    assert len({*base.values(), *draws([[0]], epoch=1).values(), *draws([[0]], seed=1).values()}) == 6


def test_reading_a_dataset_leaves_the_generators_alone() -> None:
    """Dropout in the main process must not see the seeds of the samples."""
    source = open_source(_Noise(), config=FitConfig(), device=_CPU)
    before = seeds.capture(_CPU)
    list(source.batches([torch.arange(4)], epoch=0))
    assert torch.equal(seeds.capture(_CPU), before)


def test_captured_generators_repeat_their_draws() -> None:
    """Python, NumPy and torch all go on from the captured state, a pending Gaussian included."""

    def draw() -> list[float]:
        return [random.gauss(0, 1), float(np.random.standard_normal()), float(torch.randn(()))]  # noqa: NPY002

    seeds.seed_everything(5)
    draw()
    state = seeds.capture(_CPU)
    expected = [draw(), draw()]
    seeds.restore(state, _CPU)
    assert [draw(), draw()] == expected


def test_seed_everything_repeats_a_model() -> None:
    """The same seed before the model is built gives the same first weights."""
    models = []
    for seed in (1, 1, 2):
        seeds.seed_everything(seed)
        models.append(torch.nn.Linear(3, 3).weight)
    assert torch.equal(models[0], models[1])
    assert not torch.equal(models[0], models[2])


@given(st.lists(st.integers(0, 2**32), min_size=2, max_size=3, unique=True))
@settings(deadline=None)
def test_mixed_seeds_depend_on_order(numbers: list[int]) -> None:
    """Seed 1 in epoch 2 is not seed 2 in epoch 1."""
    assert seeds.mix(*numbers) != seeds.mix(*reversed(numbers))
    assert 0 <= seeds.mix(*numbers) < 2**64


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((torch.zeros(3),), r"got lengths \[3\]"),
        ((torch.zeros(3), torch.zeros(4)), r"of one length above 0, got lengths \[3, 4\]"),
        ((torch.zeros(0), torch.zeros(0)), r"got lengths \[0, 0\]"),
    ],
)
def test_tensors_that_are_no_samples_are_refused(data: tuple[Tensor, ...], message: str) -> None:
    """Inputs without targets, columns of two lengths, or nothing at all."""
    with pytest.raises(ValueError, match=message):
        open_source(data, config=FitConfig(), device=_CPU)


def test_dataset_of_bare_tensors_is_refused() -> None:
    """A sample without a target says what was expected."""

    class Bare(_Rows):
        def __getitem__(self, index: int) -> Any:
            return self._tensors[0][index]

    source = open_source(Bare(torch.zeros(3, 2)), config=FitConfig(), device=_CPU)
    with pytest.raises(ValueError, match=r"gives tuples \(input, …, target\), got Tensor"):
        list(source.batches([torch.arange(2)], epoch=0))


def test_nested_outputs_are_joined_by_part() -> None:
    """A dict of a tensor and a pair keeps its form over batches."""
    batches = [{"a": torch.zeros(2), "b": (torch.ones(2, 3), [torch.ones(2)])} for _ in range(3)]
    joined = concatenate(batches)
    assert apply(len, joined) == {"a": 6, "b": (6, [6])}


def test_outputs_that_are_no_tensors_are_refused() -> None:
    """A model that returns numbers is told so."""
    with pytest.raises(ValueError, match="got float"):
        concatenate([1.0, 2.0])
