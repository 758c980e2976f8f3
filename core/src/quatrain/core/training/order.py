"""Which samples each step takes: decided by seed, epoch and step alone, whatever the number of processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from quatrain.core.training import seeds


@dataclass(frozen=True, kw_only=True)
class Order:
    """The global batches of every epoch and one process's part of them."""

    n: int
    batch_size: int
    seed: int
    shuffle: bool
    drop_last: bool
    rank: int
    size: int

    @property
    def steps_per_epoch(self) -> int:
        """Global batches in one epoch."""
        return self.n // self.batch_size if self.drop_last else -(-self.n // self.batch_size)

    def global_size(self, batch: int) -> int:
        """Return how many samples all processes together take in a batch."""
        return min(self.batch_size, self.n - batch * self.batch_size)

    def local_size(self, batch: int) -> int:
        """Return how many of a batch's samples are this process's."""
        low, high = self._bounds(batch)
        return high - low

    def batches(self, epoch: int, *, start: int, device: torch.device) -> Iterator[Tensor]:
        """Yield this process's sample indices, int64 on `device`, of each batch from `start` on.

        A process without a share of a short last batch gets one sample all the same, so that no
        source has to read an empty batch; `local_size` says 0, and the sample is not used.
        """
        permutation = self._permutation(epoch).to(device)
        whole = torch.split(permutation, self.batch_size)[: self.steps_per_epoch]
        if self.size == 1:
            yield from whole[start:]
            return
        for batch in range(start, len(whole)):
            low, high = self._bounds(batch)
            yield whole[batch][low : max(high, low + 1)]

    def _bounds(self, batch: int) -> tuple[int, int]:
        return share(self.global_size(batch), rank=self.rank, size=self.size)

    def _permutation(self, epoch: int) -> Tensor:
        if not self.shuffle:
            return torch.arange(self.n)
        generator = torch.Generator().manual_seed(seeds.mix(self.seed, epoch))
        return torch.randperm(self.n, generator=generator)


def share(n: int, *, rank: int, size: int) -> tuple[int, int]:
    """Return the bounds of one process's contiguous part of n; parts differ by one at most."""
    return rank * n // size, (rank + 1) * n // size
