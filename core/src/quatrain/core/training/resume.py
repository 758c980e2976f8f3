"""From a session to a checkpoint and back, so that nothing tells a resumed fit from one that ran through."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from quatrain.core.errors import UserError
from quatrain.core.training import optimizers, seeds
from quatrain.core.training.checkpoint import Checkpoint
from quatrain.core.training.config import OPERATIONAL, FitConfig
from quatrain.core.training.session import Progress, Session


def to_checkpoint(session: Session) -> Checkpoint:
    """Return all that the session holds; every process must call it, for each has its own generators."""
    optimizer_tensors, optimizer_rest = optimizers.pack(session.optimizer)
    generators = session.world.stack(seeds.capture(session.world.device))
    tensors = {
        **_named("model", session.model.state_dict()),
        **_named("optimizer", optimizer_tensors),
        **_named("ema", session.ema.tensors if session.ema else {}),
        **_named("best", session.best),
        **_named("generators", {str(rank): row for rank, row in enumerate(generators)}),
        "losses": torch.tensor(session.losses, dtype=torch.float64),
        # Not among the facts: the header of a safetensors file has an upper size.
        "history": _from_json(session.progress.history),
    }
    facts = {
        "settings": _settings(session),
        "progress": {**asdict(session.progress), "history": []},
        "optimizer": optimizer_rest,
        "scaler": session.scaler.state_dict(),
    }
    return Checkpoint(tensors=tensors, facts=facts)


def restore(session: Session, checkpoint: Checkpoint) -> None:
    """Put the session where the checkpoint was taken; UserError if it is of another fit."""
    _refuse_other_settings(checkpoint.facts["settings"], _settings(session))
    session.model.load_state_dict(checkpoint.under("model"))
    optimizers.unpack(session.optimizer, checkpoint.under("optimizer"), checkpoint.facts["optimizer"])
    if session.ema is not None:
        session.ema.load(checkpoint.under("ema"))
    if session.scaler.is_enabled():
        session.scaler.load_state_dict(checkpoint.facts["scaler"])
    session.best = checkpoint.under("best")
    session.losses = checkpoint.tensors["losses"].tolist()
    history = json.loads(checkpoint.tensors["history"].numpy().tobytes())
    session.progress = Progress(**checkpoint.facts["progress"] | {"history": history})
    generators = checkpoint.under("generators").get(str(session.world.rank))
    # A process that the first run did not have keeps its fresh seed.
    if generators is not None:
        seeds.restore(generators, session.world.device)


def _from_json(value: Any) -> Tensor:
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _settings(session: Session) -> dict[str, Any]:
    """Return what must be the same for a resume to mean anything."""
    weights = {name: list(tensor.shape) for name, tensor in session.model.state_dict().items()}
    return {
        # Not what an app's own config adds to it.
        **session.config.model_dump(mode="json", include=FitConfig.model_fields.keys() - OPERATIONAL),
        "optimizer": type(session.optimizer).__name__,
        "training data": session.data,
        "model": weights,
    }


def _refuse_other_settings(then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = [name for name in now if then.get(name) != now[name]]
    if not changed:
        return
    lines = [f"  {name}: {_brief(then.get(name))} then, {_brief(now[name])} now" for name in changed]
    detail = "\n".join(lines)
    raise UserError(
        f"the checkpoint was written with other settings:\n{detail}\n"
        "set them back to resume, or start over with a new run or resume=False"
    )


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) < 80 else text[:77] + "…"  # noqa: PLR2004  one line of a terminal
