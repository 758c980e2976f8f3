"""What images a model takes, and an image as that model takes it, or the reason why not."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from quatrain.core.config import Config
from quatrain.core.errors import BadDataError
from quatrain.core.images import ImageArray

_BYTE = 255
# An image with less than this share of the least contrast seen in training shows no part.
_LEAST_CONTRAST = 0.1
# Beyond this factor from the training images' proportions a part would be squeezed out of recognition.
_LARGEST_SQUEEZE = 1.5


class PixelSpec(Config):
    """The images that a model was trained on; sealed with it."""

    channels: Literal[1, 3]
    dtype: Literal["uint8", "uint16"]
    # What counts as white: 255, or of deeper images the next power of two above all that was seen, less one.
    full_scale: float = Field(gt=0)
    # The least standard deviation of a training image, in shares of full scale.
    least_contrast: float = Field(ge=0)
    # The smallest and largest width / height.
    aspects: tuple[float, float]
    # Height and width of the median image.
    median_hw: tuple[float, float]


def survey(images: list[ImageArray]) -> PixelSpec:
    """Return the spec of training images; raises BadDataError where 8 and 16 bits are mixed."""
    deep = [image.dtype == np.uint16 for image in images]
    if any(deep) and not all(deep):
        raise BadDataError(
            f"{sum(deep)} of {len(deep)} images have 16 bits, the others 8; train on images of one camera setting"
        )
    largest = max(int(image.max()) for image in images)
    full_scale = float((1 << max(8, largest.bit_length())) - 1) if deep[0] else float(_BYTE)
    shapes = np.array([image.shape[:2] for image in images], dtype=np.float64)
    aspects = shapes[:, 1] / shapes[:, 0]
    return PixelSpec(
        channels=3 if any(_is_coloured(image) for image in images) else 1,
        dtype="uint16" if deep[0] else "uint8",
        full_scale=full_scale,
        least_contrast=min(float(image.std()) for image in images) / full_scale,
        aspects=(float(aspects.min()), float(aspects.max())),
        median_hw=(float(np.median(shapes[:, 0])), float(np.median(shapes[:, 1]))),
    )


def as_input(image: ImageArray, spec: PixelSpec, *, name: str) -> NDArray[Any]:
    """Return the image as the model takes it, (H, W, C) of its dtype.

    Raises BadDataError for another depth, for colours where the model knows grey, for an image
    without contrast, and for proportions far from those that were trained on.
    """
    if image.dtype.name != spec.dtype:
        raise BadDataError(
            f"{name} has {8 * image.dtype.itemsize} bits, the model was trained on {spec.dtype}; "
            "use the camera setting of the training images, or train again"
        )
    if spec.channels == 1 and _is_coloured(image):
        raise BadDataError(f"{name} has colours, the model was trained on grey images; train again on coloured ones")
    if float(image.std()) < _LEAST_CONTRAST * spec.least_contrast * spec.full_scale or image.min() == image.max():
        raise BadDataError(
            f"{name} shows nothing: its pixels lie between {image.min()} and {image.max()}; check lamp and trigger"
        )
    aspect = image.shape[1] / image.shape[0]
    low, high = spec.aspects
    if not low / _LARGEST_SQUEEZE <= aspect <= high * _LARGEST_SQUEEZE:
        raise BadDataError(
            f"{name} is {image.shape[1]} x {image.shape[0]} pixels, its proportions {aspect:.2f} are far from "
            f"the {low:.2f} to {high:.2f} of the training images; cut it to the same region"
        )
    return _with_channels(image, spec.channels)


def _is_coloured(image: ImageArray) -> bool:
    return image.ndim == 3 and bool((image != image[..., :1]).any())  # noqa: PLR2004 - (H, W, 3)


def _with_channels(image: ImageArray, channels: int) -> NDArray[Any]:
    planes = image[..., None] if image.ndim == 2 else image  # noqa: PLR2004 - (H, W)
    if channels == 1:
        return np.ascontiguousarray(planes[..., :1])
    return np.ascontiguousarray(np.broadcast_to(planes, (*planes.shape[:2], 3)))
