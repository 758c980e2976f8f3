"""Preprocessing inside the graph gives what torch and Pillow give, for images of any size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from quatrain.core.export import torch_model
from quatrain.core.inference import open_session
from quatrain.core.vision.preprocess import IMAGENET, LITE, Normalisation, Preprocess

AS_IT_IS = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def photo(height: int, width: int) -> np.ndarray:
    """Return an image of edges and slopes, uint8 (height, width, 3)."""
    y, x = np.mgrid[:height, :width]
    waves = [127 + 127 * np.sin((x * i + y * (4 - i)) / 9) * ((x // 7 + y // 5) % 2) for i in (1, 2, 3)]
    return np.rint(np.stack(waves, axis=2)).astype(np.uint8)


@pytest.fixture(scope="module")
def graph() -> bytes:
    """Return preprocessing to 32 x 24 pixels, height, width and batch dynamic."""
    example = torch.zeros(2, 40, 50, 3, dtype=torch.uint8)
    return torch_model(
        Preprocess((32, 24), AS_IT_IS),
        {"pixels": example},
        output_names=["images"],
        dynamic={"pixels": {1: "height", 2: "width"}},
    )


@pytest.mark.parametrize("size_hw", [(32, 24), (33, 100), (256, 200), (11, 7), (1, 1)])
def test_graph_gives_what_torch_gives_for_any_size(graph: bytes, size_hw: tuple[int, int]) -> None:
    """Reduced, enlarged, mixed and single pixels, in a batch of three."""
    pixels = np.stack([photo(*size_hw), 255 - photo(*size_hw), photo(*size_hw) // 2])
    expected = Preprocess((32, 24), AS_IT_IS)(torch.from_numpy(pixels)).numpy()
    (actual,) = open_session(graph).run(None, {"pixels": pixels})
    assert actual.shape == (3, 3, 32, 24)
    np.testing.assert_allclose(actual, expected, atol=0.02)


@pytest.mark.parametrize("size_hw", [(64, 48), (256, 200), (33, 100), (20, 15)])
def test_resize_is_within_one_level_of_pillow(graph: bytes, size_hw: tuple[int, int]) -> None:
    """Pillow rounds after either axis, the graph never."""
    pixels = photo(*size_hw)
    expected = np.asarray(Image.fromarray(pixels).resize((24, 32), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    (actual,) = open_session(graph).run(None, {"pixels": pixels[None]})
    np.testing.assert_allclose(actual[0], expected, atol=1.0)


def test_a_resize_without_antialias_would_be_told() -> None:
    """The tolerance of one level is far below what a plain resize differs by."""
    pixels = photo(256, 200)
    expected = np.asarray(Image.fromarray(pixels).resize((24, 32), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    planes = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2).float()
    plain = torch.nn.functional.interpolate(planes, size=(32, 24), mode="bilinear")
    assert np.abs(plain[0].numpy() - expected).max() > 20


@pytest.mark.parametrize("normalisation", [LITE, IMAGENET])
def test_grey_becomes_three_normalised_channels(normalisation: Normalisation) -> None:
    """(B, H, W), (B, H, W, 1) and three equal colours are one image."""
    grey = torch.from_numpy(photo(9, 8)[..., 0])[None]
    of_grey = Preprocess(None, normalisation)(grey)
    of_one = Preprocess(None, normalisation)(grey[..., None])
    of_three = Preprocess(None, normalisation)(grey[..., None].repeat(1, 1, 1, 3))
    mean, std = (torch.tensor(values)[:, None, None] for values in (normalisation.mean, normalisation.std))
    torch.testing.assert_close(of_grey, (grey[:, None].float() - mean) / std)
    torch.testing.assert_close(of_grey, of_one)
    torch.testing.assert_close(of_grey, of_three)


def test_sixteen_bits_keep_their_depth() -> None:
    """A detector's pixels are not cut to eight bits."""
    pixels = torch.tensor([[[0, 1], [40_000, 65_535]]], dtype=torch.uint16)
    wide = Normalisation((32767.5,) * 3, (32767.5,) * 3)
    images = Preprocess(None, wide)(pixels)
    torch.testing.assert_close(images[0, 0], (pixels[0].float() - 32767.5) / 32767.5)


def test_channels_that_are_no_colours_are_told() -> None:
    """Channels come last, as in a file."""
    with pytest.raises(ValueError, match=r"got \(1, 3, 8, 8\)"):
        Preprocess(None)(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_a_size_without_pixels_is_told() -> None:
    """A size of nothing is a caller's mistake."""
    with pytest.raises(ValueError, match="at least 1"):
        Preprocess((0, 224))
