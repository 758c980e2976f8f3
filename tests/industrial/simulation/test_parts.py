"""Drawn parts: the same for a seed, marked exactly, and labelled synthetic."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from quatrain.core.errors import UsageError
from quatrain.industrial.data.layouts import read_folder
from quatrain.industrial.data.samples import mask_of, select
from quatrain.industrial.simulation.camera import draw_pose
from quatrain.industrial.simulation.defects import DEFECTS, damage, kinds_for
from quatrain.industrial.simulation.noise import smooth, smooth_noise
from quatrain.industrial.simulation.parts import TRUTH, PartsConfig, draw_bad, kinds_of, write_parts
from quatrain.industrial.simulation.surfaces import SURFACES

SIDE = 96


@pytest.mark.parametrize("kind", SURFACES)
def test_a_defect_changes_its_mask_and_nothing_else(kind: str) -> None:
    """The mask is where the part with the defect differs from the same part without it."""
    rng = np.random.default_rng(1)
    part = SURFACES[kind](rng, SIDE, draw_pose(rng, SIDE, jitter=1))
    for name in kinds_for(part):
        defect = damage(part, name, np.random.default_rng(2), contrast=0.4)
        clean = np.clip(part.reflectance, 0, 1)
        assert 0 < defect.mask.mean() < 0.3, name
        assert np.abs(defect.reflectance - clean)[~defect.mask].max() <= 1 / 255 + 1e-12


def test_a_part_without_features_misses_none() -> None:
    """Cloth has no hole that could be forgotten; a board has."""
    assert "missing" not in kinds_of("fabric")
    assert set(kinds_of("pcb")) == set(DEFECTS)


def test_contrast_is_how_far_a_defect_stands_out() -> None:
    """Twice the contrast changes the pixels more, wherever the same dice fall."""
    rng = np.random.default_rng(3)
    part = SURFACES["cast"](rng, SIDE, draw_pose(rng, SIDE, jitter=1))
    for name in kinds_for(part):
        weak, strong = (
            damage(part, name, np.random.default_rng(5), contrast=contrast).reflectance for contrast in (0.1, 0.4)
        )
        assert np.abs(strong - part.reflectance).sum() > 1.5 * np.abs(weak - part.reflectance).sum(), name


def test_a_folder_is_mvtec_ad_and_says_that_it_is_synthetic(tmp_path: Path) -> None:
    """Its own reader finds every image, mask and kind, and parts.json the millimetres."""
    write_parts(tmp_path / "disc", seed=4, n_train=3, n_good=2, n_bad=1, side_px=SIDE, mm_per_px=0.5)
    folder = read_folder(tmp_path / "disc")
    assert folder.describe() == {
        "data": "disc",
        "layout": "MVTec AD",
        "n": 3 + 2 + 6,
        "train_good": 3,
        "test_good": 2,
        "test_bad": 6,
        "kinds": sorted(["good", *DEFECTS]),
        "with_masks": 6,
        "with_boxes": 0,
    }
    truth = json.loads((tmp_path / "disc" / TRUTH).read_text())
    assert truth["is_synthetic"] is True
    for sample in select(folder.samples, is_defective=True):
        mask = mask_of(sample, (SIDE, SIDE))
        told = truth["defects"][f"{sample.kind}/{sample.path.name}"]
        assert told["area_mm2"] == pytest.approx(mask.sum() * 0.25)


def test_a_seed_draws_the_same_bytes(tmp_path: Path) -> None:
    """And another seed draws others."""
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_parts(tmp_path / name, seed=seed, kind="fabric", n_train=1, n_good=0, n_bad=1, side_px=64)
    first, same, other = (
        (tmp_path / name / "train/good/000.png").read_bytes() + (tmp_path / name / "test/crack/000.png").read_bytes()
        for name in "abc"
    )
    assert first == same != other


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    """Generated parts must not mix with real ones."""
    (tmp_path / "mine.txt").write_text("real")
    with pytest.raises(UsageError, match="is not empty; name a new folder"):
        write_parts(tmp_path, n_train=1)


def test_lighting_and_pose_make_every_shot_another() -> None:
    """Two good parts never give the same image; without jitter and lighting only noise is left."""
    still = PartsConfig(kind="pcb", side_px=SIDE, jitter=0, lighting=0)
    rng = np.random.default_rng(0)
    shots = [draw_bad(still, "colour", rng)[0].astype(float) for _ in range(2)]
    assert 0 < np.abs(shots[0] - shots[1]).mean() < 12


def test_blur_is_that_of_scipy() -> None:
    """The transform's Gaussian agrees with scipy's, wrapped at the edges."""
    from scipy.ndimage import gaussian_filter

    field = np.random.default_rng(0).standard_normal((64, 48))
    expected = gaussian_filter(field, (3.0, 5.0), mode="wrap", truncate=8)
    assert np.abs(smooth(field, 3.0, sigma_x_px=5.0) - expected).max() < 1e-6
    assert smooth_noise(np.random.default_rng(0), (32, 32), 2.0).std() == pytest.approx(1)
