"""What one training step costs: `fit` beside a plain loop over resident tensors and one over a DataLoader.

All run in this process, in turns, on one thread; the figure is the median over the turns of CPU
microseconds per step at batch 256. The plain loops have no clipping, schedule, history or check
for a broken loss; "fit" has its defaults, and "fit, EMA" a moving average and a history row every
20 steps on top.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable

import _report
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW
from torch.utils.data import DataLoader, TensorDataset

from quatrain.core.training.config import FitConfig
from quatrain.core.training.fit import fit

BATCH_SIZE = 256
STEPS_PER_EPOCH = 100
N_FEATURES = 30
# Measured 1.10 and 0.55 on two cores of an AMD EPYC; the room left is for other machines.
LARGEST_RATIO = 1.15
LARGEST_SHARE_OF_LOADER = 0.65


def main() -> None:
    """Measure, print, and exit as the claims say."""
    options = _report.parser(__doc__).parse_args()
    torch.set_num_threads(1)
    n_epochs, n_turns = (2, 7) if options.quick else (5, 15)
    data = _data()
    ways = {"plain, resident": _plain, "fit": _fit, "fit, EMA": _fit_averaged, "plain, DataLoader": _plain_loader}
    costs: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way(data, 1)
    for _ in range(n_turns):
        for name, way in ways.items():
            costs[name].append(_microseconds_per_step(way, data, n_epochs))
    medians = {name: statistics.median(values) for name, values in costs.items()}
    # Within a turn the machine is in one mood, so ratios are taken there.
    ratios = {name: _median_ratio(values, costs["plain, resident"]) for name, values in costs.items()}
    _report.table(("way", "CPU us / step", "x plain, resident"), [(name, medians[name], ratios[name]) for name in ways])
    share = _median_ratio(costs["fit"], costs["plain, DataLoader"])
    _report.finish(
        [
            _report.claim("fit / plain resident loop", ratios["fit"], LARGEST_RATIO, at_least=False),
            _report.claim("fit / plain DataLoader loop", share, LARGEST_SHARE_OF_LOADER, at_least=False),
        ]
    )


def _microseconds_per_step(
    way: Callable[[tuple[Tensor, Tensor], int], None], data: tuple[Tensor, Tensor], n: int
) -> float:
    start = time.process_time()
    way(data, n)
    return (time.process_time() - start) / (n * STEPS_PER_EPOCH) * 1e6


def _median_ratio(values: Iterable[float], bases: Iterable[float]) -> float:
    return statistics.median(value / base for value, base in zip(values, bases, strict=True))


def _data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(BATCH_SIZE * STEPS_PER_EPOCH, N_FEATURES, generator=generator)
    return inputs, (inputs[:, :1] > 0).float()


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(N_FEATURES, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1))


def _plain(data: tuple[Tensor, Tensor], n_epochs: int) -> None:
    inputs, targets = data

    def batches() -> Iterable[tuple[Tensor, Tensor]]:
        for index in torch.randperm(len(inputs)).split(BATCH_SIZE):
            yield inputs.index_select(0, index), targets.index_select(0, index)

    _plain_loop(batches, n_epochs)


def _plain_loader(data: tuple[Tensor, Tensor], n_epochs: int) -> None:
    loader = DataLoader(TensorDataset(*data), batch_size=BATCH_SIZE, shuffle=True)
    _plain_loop(lambda: loader, n_epochs)


def _plain_loop(batches: Callable[[], Iterable[tuple[Tensor, Tensor]]], n_epochs: int) -> None:
    model = _model()
    optimizer = AdamW(model.parameters(), lr=1e-3, fused=True)
    for _ in range(n_epochs):
        for inputs, targets in batches():
            loss = functional.binary_cross_entropy_with_logits(model(inputs), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()


def _fit(data: tuple[Tensor, Tensor], n_epochs: int) -> None:
    config = FitConfig(epochs=n_epochs, batch_size=BATCH_SIZE, device="cpu")
    fit(_model(), data, loss=functional.binary_cross_entropy_with_logits, config=config)


def _fit_averaged(data: tuple[Tensor, Tensor], n_epochs: int) -> None:
    config = FitConfig(epochs=n_epochs, batch_size=BATCH_SIZE, device="cpu", ema_decay=0.999, log_every=20)
    fit(_model(), data, loss=functional.binary_cross_entropy_with_logits, config=config)


if __name__ == "__main__":
    main()
