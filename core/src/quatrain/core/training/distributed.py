"""Several processes as one: who we are under torchrun, and what must be agreed between ranks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

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

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the module whose backward averages gradients over all processes."""
        if self.size == 1:
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        # Without it, DDP lays its buckets out anew after the first step: a resumed run would add
        # the same gradients in another order. It also allows weights that a batch does not use.
        return DistributedDataParallel(model, device_ids=devices, find_unused_parameters=True)

    @torch.no_grad()
    def share_buffers(self, model: nn.Module) -> None:
        """Give every process rank 0's buffers, such as the running means of batch normalisation."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of every process's tensor, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

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


@contextmanager
def join(device: str) -> Iterator[World]:
    """Yield this process's world: torchrun's if it started us, else one process."""
    chosen = choose_device(device)
    is_ours = not dist.is_initialized()
    if is_ours and os.environ.get("WORLD_SIZE", "1") == "1":
        yield World(rank=0, size=1, device=chosen)
        return
    if is_ours:
        is_cuda = chosen.type == "cuda"
        dist.init_process_group("nccl" if is_cuda else "gloo", device_id=chosen if is_cuda else None)
    try:
        yield World(rank=dist.get_rank(), size=dist.get_world_size(), device=chosen)
    finally:
        if is_ours:
            dist.destroy_process_group()


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
