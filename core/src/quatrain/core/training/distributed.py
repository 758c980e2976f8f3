"""Several processes as one: who we are under torchrun, and what must be agreed between ranks."""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from quatrain.core.errors import UsageError
from quatrain.core.training.order import share

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class World:
    """This process's place among those that train together; one alone is rank 0 of 1."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give every process rank 0's values, in place."""
        if self.size == 1:
            return
        for group in _by_dtype(tensor.detach() for tensor in tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in group])
            dist.broadcast(flat, 0)
            _scatter(flat, group)

    def sum_gradients(self, weights: Sequence[Tensor]) -> None:
        """Give every process the sum of all gradients; a weight without one counts as zero.

        All go as one buffer after the backward pass, where torch's DistributedDataParallel sends
        buckets during it. DDP lays its buckets out anew after the first step, so that a resumed run
        would add in another order; it also cannot take a process without a sample, nor, without
        a warning, a weight that a batch leaves out. The price is what the link takes, unhidden.
        """
        if self.size == 1:
            return
        for weight in weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        for group in _by_dtype(weight.grad for weight in weights if weight.grad is not None):
            flat = torch.cat([gradient.reshape(-1) for gradient in group])
            dist.all_reduce(flat)
            _scatter(flat, group)

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of every process's tensor."""
        if self.size == 1:
            return tensor
        total = tensor.to(self.device, copy=True)
        dist.all_reduce(total)
        return total

    def agree(self, value: T) -> T:
        """Return rank 0's value, a JSON one, on every process."""
        if self.size == 1:
            return value
        text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(self.device)
        length = torch.tensor([len(text)], device=self.device)
        dist.broadcast(length, 0)
        received = text if self.is_main else torch.empty(int(length), dtype=torch.uint8, device=self.device)
        dist.broadcast(received, 0)
        agreed: T = json.loads(received.cpu().numpy().tobytes())
        return agreed

    def stack(self, vector: Tensor) -> Tensor:
        """Return every process's vector of one length as rows by rank, on the CPU."""
        if self.size == 1:
            return vector[None].cpu()
        own = vector.to(self.device)
        rows = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(rows, own)
        return torch.stack(rows).cpu()

    def join_shares(self, part: Tensor, *, n: int) -> Tensor:
        """Return n rows on the CPU from each process's `share` of them."""
        if self.size == 1:
            return part.cpu()
        bounds = [share(n, rank=rank, size=self.size) for rank in range(self.size)]
        longest = max(high - low for low, high in bounds)
        padded = part.new_zeros((longest, *part.shape[1:]), device=self.device)
        padded[: len(part)] = part
        rows = [torch.empty_like(padded) for _ in bounds]
        dist.all_gather(rows, padded)
        return torch.cat([row[: high - low] for row, (low, high) in zip(rows, bounds, strict=True)]).cpu()


def join(device: str) -> World:
    """Return this process's world: torchrun's if it started us, else one process."""
    chosen = choose_device(device)
    if not dist.is_initialized():
        if os.environ.get("WORLD_SIZE", "1") == "1":
            return World(rank=0, size=1, device=chosen)
        is_cuda = chosen.type == "cuda"
        dist.init_process_group("nccl" if is_cuda else "gloo", device_id=chosen if is_cuda else None)
        # Not at the end of a fit: a second group in one process can meet the first one's addresses.
        atexit.register(dist.destroy_process_group)
    return World(rank=dist.get_rank(), size=dist.get_world_size(), device=chosen)


def choose_device(device: str) -> torch.device:
    """Return the torch device of a name; "auto" is this process's CUDA device where there is one."""
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        chosen = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device must be auto, cpu, cuda or cuda:N, got {device!r}") from error
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise UsageError(f"device {device!r} was asked for, but torch finds no CUDA device; use device=cpu")
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) if chosen.index is None else chosen.index)
        torch.cuda.set_device(chosen)
    return chosen


def _by_dtype(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    groups: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.dtype, []).append(tensor)
    return list(groups.values())


def _scatter(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    """Copy the parts of one long vector back into the tensors it was made of."""
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view(tensor.shape))
