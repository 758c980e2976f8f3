"""Ranking measures against sklearn, scipy and a second implementation of PRO."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from quatrain.industrial.metrics.intervals import binomial_band, bootstrap, clopper_pearson
from quatrain.industrial.metrics.pixels import PixelTally
from quatrain.industrial.metrics.ranking import auroc


def test_auroc_is_sklearns_with_ties() -> None:
    """Scores rounded to a few values tie often."""
    rng = np.random.default_rng(0)
    is_bad = rng.random(300) < 0.3
    score = np.round(rng.normal(size=300) + is_bad, 1)
    assert auroc(is_bad, score) == pytest.approx(roc_auc_score(is_bad, score), abs=1e-12)
    assert np.isnan(auroc(np.zeros(3, dtype=bool), score[:3]))


def plain_aupro(masks: list[np.ndarray], maps: list[np.ndarray], *, limit: float) -> float:
    """PRO as the paper describes it: every value a threshold, every region found anew."""
    from skimage.measure import label

    clean = np.concatenate([m[~mask] for mask, m in zip(masks, maps, strict=True)])
    levels = np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]
    rates, overlaps = [0.0], [0.0]
    for level in levels:
        shares = []
        for mask, m in zip(masks, maps, strict=True):
            numbers = label(mask, connectivity=2)
            shares += [(m[numbers == i] >= level).mean() for i in range(1, numbers.max() + 1)]
        rates.append(float((clean >= level).mean()))
        overlaps.append(float(np.mean(shares)))
    grid = np.linspace(0, limit, 5000)
    return float(np.trapezoid(np.interp(grid, rates, overlaps), grid) / limit)


def drawn() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return four masks of a large and a small defect, and maps that see the large one only."""
    rng = np.random.default_rng(1)
    masks, maps = [], []
    for _ in range(4):
        mask = np.zeros((24, 24), dtype=bool)
        mask[2:12, 2:12] = True
        mask[18:20, 18:20] = True
        raised = np.zeros(mask.shape)
        raised[:12, :12] = 1.5
        masks.append(mask)
        maps.append(rng.normal(size=mask.shape) + raised * mask)
    return masks, maps


def tallied(masks: list[np.ndarray], maps: list[np.ndarray]) -> PixelTally:
    """Return the tally of these images."""
    tally = PixelTally(np.concatenate([m.ravel() for m in maps]))
    for mask, m in zip(masks, maps, strict=True):
        tally.add(m, mask)
    return tally


def test_aupro_is_the_mean_over_defects_not_pixels() -> None:
    """A large defect that is found does not outweigh a small one that is missed."""
    masks, maps = drawn()
    tally = tallied(masks, maps)
    assert tally.n_defects == 8
    assert tally.aupro() == pytest.approx(plain_aupro(masks, maps, limit=0.3), abs=0.005)
    assert tallied(masks, [mask.astype(float) for mask in masks]).aupro() == pytest.approx(1, abs=0.01)


def test_pixel_auroc_is_sklearns() -> None:
    """Counting in bins of equal rank costs less than a thousandth."""
    masks, maps = drawn()
    expected = roc_auc_score(np.concatenate([m.ravel() for m in masks]), np.concatenate([m.ravel() for m in maps]))
    assert tallied(masks, maps).auroc() == pytest.approx(expected, abs=1e-3)


def test_without_a_defect_there_is_nothing_to_measure() -> None:
    """Not a number, rather than a perfect score."""
    tally = tallied([np.zeros((4, 4), dtype=bool)], [np.arange(16.0).reshape(4, 4)])
    assert np.isnan(tally.auroc())
    assert np.isnan(tally.aupro())


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (1, 50), (7, 141), (20, 20)])
def test_clopper_pearson_is_scipys(hits: int, n: int) -> None:
    """The exact interval of a share."""
    expected = binomtest(hits, n).proportion_ci(method="exact")
    assert clopper_pearson(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_band_holds_a_binomial_count_95_times_in_100() -> None:
    """And no narrower one would."""
    from scipy.stats import binom

    low, high = binomial_band(0.02, 141)
    assert binom.cdf(high, 141, 0.02) - binom.cdf(low - 1, 141, 0.02) >= 0.95
    assert binom.cdf(high - 1, 141, 0.02) < 0.975


def test_bootstrap_covers_the_auroc() -> None:
    """The interval is around the value, and narrower with more images."""
    rng = np.random.default_rng(2)
    widths = []
    for n in (40, 640):
        is_bad = np.arange(n) % 2 == 0
        score = rng.normal(size=n) + is_bad
        low, high = bootstrap(auroc, is_bad, score, n_resamples=200)
        assert low < auroc(is_bad, score) < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2
