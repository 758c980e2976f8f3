"""Phantoms: the same bytes for a seed, truth where the masks say, two sites that differ, and the mark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quatrain.healthcare.data.npz import read_npz
from quatrain.healthcare.simulation.anatomy import FINDINGS, NODULE, PNEUMOTHORAX
from quatrain.healthcare.simulation.lettering import has_stamp
from quatrain.healthcare.simulation.phantom import draw_phantoms, write_chest_phantoms


def test_a_seed_gives_the_same_bytes_and_another_one_others() -> None:
    """Whatever the number of images, too: they are drawn in fixed pieces."""
    assert np.array_equal(draw_phantoms(6, seed=1).images, draw_phantoms(6, seed=1).images)
    assert not np.array_equal(draw_phantoms(6, seed=1).images, draw_phantoms(6, seed=2).images)


def test_every_image_says_synthetic() -> None:
    """At each size, in the pixels."""
    for side in (48, 64, 256):
        assert all(has_stamp(image) for image in draw_phantoms(3, side=side, seed=0).images)
    with pytest.raises(ValueError, match="needs 40 pixels"):
        draw_phantoms(2, side=28)


def test_findings_lie_in_their_masks() -> None:
    """Masks are empty exactly without the finding; nodules brighten and air darkens what is under them."""
    drawn = draw_phantoms(300, seed=3, task="findings")
    assert np.array_equal(drawn.masks.any((2, 3)), drawn.findings)
    assert drawn.masks.shape[1] == len(FINDINGS)
    only = drawn.findings.sum(1) == 1
    for kind, is_brighter in ((NODULE, True), (PNEUMOTHORAX, False)):
        ill = only & drawn.findings[:, kind]
        masks = drawn.masks[ill, kind]
        gaps = [
            image[mask].mean() - image[around(mask)].mean()
            for image, mask in zip(drawn.images[ill], masks, strict=True)
        ]
        assert np.mean(gaps) > 8 if is_brighter else np.mean(gaps) < -8, (kind, np.mean(gaps))


def around(mask: np.ndarray) -> np.ndarray:
    """Return the pixels within three of a mask, and not in it."""
    grown = mask.copy()
    for _ in range(3):
        grown[1:-1, 1:-1] |= grown[:-2, 1:-1] | grown[2:, 1:-1] | grown[1:-1, :-2] | grown[1:-1, 2:]
    return np.asarray(grown & ~mask)


def test_sites_differ_in_physics_and_people() -> None:
    """Site b is hazier and older."""
    a, b = (draw_phantoms(200, seed=5, site=site) for site in ("a", "b"))
    assert b.age_years.mean() > a.age_years.mean() + 8
    lung = (slice(None), slice(20, 34), slice(14, 22))
    assert b.images[lung].mean() > a.images[lung].mean() + 10


def test_the_written_file_is_a_set_with_groups_and_masks(tmp_path: Path) -> None:
    """It reads as any MedMNIST file, says that it is synthetic, and tells sex, age and site."""
    write_chest_phantoms(tmp_path / "p.npz", seed=0, n_train=12, n_val=6, n_test=8, side=48)
    found = read_npz(tmp_path / "p.npz")
    assert (found.kind, found.classes, found.is_synthetic) == ("binary", ("normal", "opacity"), True)
    assert [len(part) for part in found.parts.values()] == [12, 6, 8]
    test = found.part("test")
    assert set(test.groups) == {"sex", "age", "site"}
    assert set(test.groups["site"]) == {"b"}
    assert test.masks is not None
    assert np.array_equal(test.masks.any((1, 2, 3)), test.labels == 1)
