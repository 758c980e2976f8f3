"""What a training run is asked to do."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from quatrain.core.config import Config, UserPath

MODEL_NAME = "industrial/surface"
TASK = "anomaly"


class TrainConfig(Config):
    """Good parts, target and where the sealed model goes: the `[industrial.train]` section."""

    # A catalogue name, or a folder in any layout that `data.layouts` knows.
    data: str
    # A folder for the bundle, which then is not published; None publishes it to the store.
    out: UserPath | None = None
    promote: Literal["auto", "yes", "no"] = "auto"
    seed: int = Field(default=0, ge=0)
    # The share of good parts that may fail.
    target_overkill: float = Field(default=0.02, gt=0, lt=0.5)
    backbone: str = "efficientnet_lite2"
    # Parts are resized to about this side squared, in their own proportions.
    side_px: int = Field(default=256, ge=64, le=2048)
    # One scorer by name; "auto" chooses among all.
    scorer: str = "auto"
    # Good parts at most; more are drawn from by the seed, and the rest is left unread.
    max_parts: int = Field(default=2000, ge=2)
    # Images with pasted defects that the choice is made on.
    n_pasted: int = Field(default=64, ge=8)
    # Parts among the good that stand out are told; left out of the model only on request, as a rare good part that is
    # left out will be missing from the overkill that is promised.
    suspects: Literal["leave-out", "warn"] = "warn"
