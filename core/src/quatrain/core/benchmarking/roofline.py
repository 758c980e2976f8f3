"""The roofline: what the machine allows at each intensity, and where each backend stands below it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quatrain.core.benchmarking.measure import roof
from quatrain.core.benchmarking.probes import Peaks
from quatrain.core.errors import require

if TYPE_CHECKING:
    from quatrain.core.benchmarking.run import Benchmark

# Okabe and Ito's palette and shapes: told apart by colour-blind readers.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def plot(found: Benchmark, path: Path) -> None:
    """Write a PNG; a model without products, such as trees, is drawn as rows per second over the batch."""
    require("matplotlib", package="quatrain-core[train]")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.add_subplot()
    has_products = any(case.flops is not None for case in found.cases)
    for place, name in enumerate(dict.fromkeys(case.backend for case in found.cases)):
        own = [case for case in found.cases if case.backend == name]
        x = [(case.intensity or 0.0) if has_products else float(case.batch) for case in own]
        y = [(case.flops or 0.0) / 1e9 if has_products else case.rows_per_second for case in own]
        colour, marker = _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]
        axes.plot(x, y, color=colour, marker=marker, linewidth=1, label=name)
    if has_products:
        _draw_roof(axes, found)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations per byte" if has_products else "rows per call")
    axes.set_ylabel("10\u2079 operations per second" if has_products else "rows per second")
    axes.set_title(f"{found.model}, {found.threads} threads", loc="left", fontsize=10)
    axes.grid(color="#E6E6E6", linewidth=0.7, which="both")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _draw_roof(axes: Any, found: Benchmark) -> None:
    limits = Peaks(found.peak_flops, found.peak_bandwidth)
    known = [case.intensity for case in found.cases if case.intensity]
    x = np.geomspace(min(known) / 4, max(*known, limits.flops / limits.bandwidth) * 4, 200)
    axes.plot(x, [roof(value, limits) / 1e9 for value in x], color="#555555", linewidth=1.6, label="this machine")
    for case in found.cases:
        if case.intensity and case.flops:
            axes.annotate(
                str(case.batch),
                (case.intensity, case.flops / 1e9),
                fontsize=7,
                xytext=(3, 3),
                textcoords="offset points",
            )
