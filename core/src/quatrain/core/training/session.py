"""Everything that one fit changes, and so all that a checkpoint must carry."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from quatrain.core.training.config import FitConfig
from quatrain.core.training.distributed import World
from quatrain.core.training.ema import Ema
from quatrain.core.training.order import Order


@dataclass(kw_only=True)
class Progress:
    """Where training stands, in JSON values."""

    # Steps done.
    step: int = 0
    best_step: int = 0
    best_value: float | None = None
    # Epochs since the best one.
    stale_epochs: int = 0
    seconds: float = 0.0
    # Why there is nothing more to do; empty while there is.
    reason: str = ""
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(kw_only=True)
class Session:
    """The tensors and numbers of one fit in one process."""

    config: FitConfig
    world: World
    order: Order
    # The training data as `Source.describe` gives it.
    data: dict[str, object]
    model: nn.Module
    optimizer: Optimizer
    scaler: GradScaler
    ema: Ema | None
    progress: Progress = field(default_factory=Progress)
    # The state dict at the best step, on the CPU; empty before there is one.
    best: dict[str, Tensor] = field(default_factory=dict)
    # The mean loss over all processes of each step of this epoch.
    losses: list[float] = field(default_factory=list)
