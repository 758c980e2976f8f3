"""Pixel AUROC and AUPRO over many images, in one pass and little memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label as connected  # type: ignore[import-untyped]  # scipy brings no stubs

Floats = NDArray[np.floating]
Labels = NDArray[np.bool_]

# Map values are counted in so many bins, even in rank: a measure is then exact to half a bin's share.
_N_BINS = 8192
_EIGHT = np.ones((3, 3), dtype=np.int64)


class PixelTally:
    """Counts of pixels by map value, apart for good pixels, for bad ones and for each defect."""

    def __init__(self, sample: Floats) -> None:
        """Take a sample of the map values that will come, such as every map before it is enlarged."""
        self._edges = np.unique(np.quantile(sample, np.linspace(0, 1, _N_BINS)))
        self._good = np.zeros(len(self._edges) + 1, dtype=np.int64)
        self._regions: list[NDArray[np.int64]] = []
        self._sizes: list[int] = []

    def add(self, found: Floats, mask: Labels) -> None:
        """Count the pixels of an image: its map (H, W) and which are defective."""
        place = np.searchsorted(self._edges, found.ravel())
        bad = mask.ravel()
        self._good += np.bincount(place[~bad], minlength=len(self._good))
        if bad.any():
            numbers = connected(mask, structure=_EIGHT)[0].ravel()
            for number in range(1, int(numbers.max()) + 1):
                counts = np.bincount(place[numbers == number], minlength=len(self._good))
                self._regions.append(counts)
                self._sizes.append(int(counts.sum()))

    @property
    def n_defects(self) -> int:
        """Connected regions of bad pixels."""
        return len(self._regions)

    def auroc(self) -> float:
        """Return the chance that a bad pixel lies above a good one; NaN without both."""
        bad = np.sum(self._regions, axis=0) if self._regions else np.zeros_like(self._good)
        if not bad.sum() or not self._good.sum():
            return float("nan")
        below = np.cumsum(self._good) - self._good
        return float((bad * (below + self._good / 2)).sum() / (bad.sum() * self._good.sum()))

    def aupro(self, *, limit: float = 0.3) -> float:
        """Return the area under the PRO curve up to this false-positive rate, divided by it; NaN without a defect.

        PRO is the mean over defects of the share of their pixels above a level (Bergmann et al.,
        IJCV 2021, section 5.1).
        """
        if not self._regions or not self._good.sum():
            return float("nan")
        # From the highest bin down.
        rates = np.r_[0, np.cumsum(self._good[::-1]) / self._good.sum()]
        shares = [np.cumsum(region[::-1]) / size for region, size in zip(self._regions, self._sizes, strict=True)]
        overlaps = np.r_[0, np.mean(shares, axis=0)]
        inside = rates <= limit
        x = np.r_[rates[inside], limit]
        y = np.r_[overlaps[inside], np.interp(limit, rates, overlaps)]
        return float(np.trapezoid(y, x) / limit)
