"""From any picture to a model's pixels: areas averaged as Pillow averages them, bits and channels as asked."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from quatrain.healthcare.features import area_weights, fit_square, with_channels

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(56, 56), (84, 90), (200, 140, 3)])
def test_reduction_is_pillows_box_filter(shape: tuple[int, ...]) -> None:
    """Within one level, on the middle square; Pillow counts whole pixels, so a whole factor is where both agree."""
    image = RNG.integers(0, 256, shape, dtype=np.uint8)
    edge = min(shape[:2])
    top, left = (shape[0] - edge) // 2, (shape[1] - edge) // 2
    square = Image.fromarray(image[top : top + edge, left : left + edge])
    theirs = np.asarray(square.resize((28, 28), Image.Resampling.BOX)).astype(int)
    assert np.abs(fit_square(image, 28).astype(int) - theirs).max() <= 1


def test_a_constant_stays_and_an_enlargement_keeps_its_mean() -> None:
    """Weights sum to one in either direction."""
    assert (fit_square(np.full((50, 40), 77, np.uint8), 28) == 77).all()
    assert (fit_square(np.full((10, 10, 3), 5, np.uint8), 28) == 5).all()
    assert area_weights(10, 37).sum(1) == pytest.approx(1.0)
    assert area_weights(37, 10).sum(1) == pytest.approx(1.0)


def test_16_bits_use_the_whole_range() -> None:
    """Lowest is black, highest is white; a flat picture is black, not a division by zero."""
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64) + 300
    shown = fit_square(ramp, 64)
    assert (int(shown.min()), int(shown.max())) == (0, 255)
    assert not fit_square(np.full((8, 8), 900, np.uint16), 8).any()


def test_channels_are_repeated_or_become_luma() -> None:
    """Red counts .299; grey stays grey."""
    red = np.zeros((1, 2, 2, 3), np.uint8)
    red[..., 0] = 100
    assert (with_channels(red, 1) == 30).all()
    grey = RNG.integers(0, 256, (2, 4, 4), dtype=np.uint8)
    assert np.array_equal(with_channels(with_channels(grey, 3), 1), grey)


def test_nothing_is_refused_with_the_shape() -> None:
    """Zero pixels."""
    with pytest.raises(ValueError, match=r"got \(0, 5\)"):
        fit_square(np.zeros((0, 5), np.uint8), 8)
