"""One file as the pixels that a model takes, or the reason why it is not scored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quatrain.core.images import SUFFIXES as IMAGE_SUFFIXES
from quatrain.core.images import ImageArray, read_image
from quatrain.healthcare import dicom
from quatrain.healthcare.features import area_weights, fit_square, with_channels

PATTERNS = tuple(f"*{suffix}" for suffix in (*IMAGE_SUFFIXES, *dicom.SUFFIXES))
# Enough for a worklist on a screen; readings are made on the originals.
PREVIEW_SIDE = 256
_ASPECT_TOLERANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Pixels for the model, uint8 (1, H, W) or (1, H, W, 3), and what the file says of itself."""

    pixels: NDArray[np.uint8]
    # What a person is shown, uint8 grey (s, s).
    preview: NDArray[np.uint8]
    source: str
    modality: str


def read_picture(path: Path, *, side: int, n_channels: int) -> Picture:
    """Return the picture in an image or DICOM file; raises BadDataError with the reason for anything else."""
    whole: ImageArray
    if dicom.is_dicom(path):
        image = dicom.read_dicom(path)
        whole, source, modality = _square_pixels(image.pixels, image.pixel_aspect), "dicom", image.modality
    else:
        whole, source, modality = read_image(path, background=0, first_frame=False), "image", ""
    fitted = fit_square(whole, side)[None]
    preview = with_channels(fit_square(whole, min(PREVIEW_SIDE, *whole.shape[:2]))[None], 1)[0]
    return Picture(pixels=with_channels(fitted, n_channels), preview=preview, source=source, modality=modality)


def _square_pixels(pixels: NDArray[np.uint8], aspect: float) -> NDArray[np.uint8]:
    """Return pixels as wide as they are high: rows are made more or fewer."""
    if abs(aspect - 1) < _ASPECT_TOLERANCE or not 0.2 < aspect < 5:  # noqa: PLR2004 - beyond it the tag is wrong
        return pixels
    rows = area_weights(len(pixels), max(1, round(len(pixels) * aspect)))
    return np.rint(rows @ pixels.astype(np.float32)).astype(np.uint8)
