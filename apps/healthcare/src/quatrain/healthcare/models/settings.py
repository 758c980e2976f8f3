"""What decides a model, apart from the images."""

from __future__ import annotations

from pydantic import Field

from quatrain.core.config import Config
from quatrain.core.training.config import FitConfig
from quatrain.core.vision.augmentation import Augmentation


class Intensity(Config):
    """How differently another machine may show the same anatomy; each amount is drawn anew for every image.

    On a scale of 0 to 1: exponent exp(+-gamma), contrast exp(+-contrast), brightness, noise up to this deviation, and
    in this share of images a blur or sharpening by up to one pixel.
    """

    gamma: float = Field(default=0.4, ge=0)
    contrast: float = Field(default=0.3, ge=0)
    brightness: float = Field(default=0.15, ge=0)
    noise: float = Field(default=0.03, ge=0)
    blur: float = Field(default=0.3, ge=0, le=1)
    # Chance that a rectangle of up to 40 % of each side is covered, as by a marker or a device.
    cover: float = Field(default=0.0, ge=0, le=1)


# A chest has a left and a right and an up and a down: nothing is flipped unless the set says that it may be.
MOVED = Augmentation(flip=0.0, shift=0.1, rotation_degrees=10.0, zoom=0.15, brightness=0.0, contrast=0.0)


class ModelSettings(Config):
    """The networks of one model and how each is trained."""

    # Networks of the same shape from other seeds, whose logits are averaged in the graph.
    members: int = Field(default=3, ge=1, le=16)
    # Channels of the first stage; each of the three further ones has twice as many. 16 makes 0.70 M weights.
    width: int = Field(default=16, ge=4, le=128)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    # Share of the label that is taken for possibly wrong.
    label_smoothing: float = Field(default=0.05, ge=0, lt=0.5)
    # Whether every image is shown to the network by its own mean and deviation.
    standardised: bool = True
    # Whether every class weighs the same in the loss, however rare it is.
    balanced: bool = True
    moved: Augmentation = MOVED
    shown: Intensity = Intensity()
    fit: FitConfig = Field(
        default=FitConfig(
            epochs=6,
            batch_size=64,
            learning_rate=2e-3,
            weight_decay=0.05,
            schedule="one_cycle",
            warmup_fraction=0.2,
            ema_decay=0.99,
            drop_last=True,
        )
    )
