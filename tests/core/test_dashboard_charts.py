"""A run's history becomes lines: one measure in one panel, each line by a name that people read."""

from __future__ import annotations

from quatrain.core.dashboard import charts

ROWS = [
    {"step": 1, "valid_ap/LightGBM + ratios": 0.5, "train_loss": 2.0},
    {"step": 2, "valid_ap/LightGBM": 0.4, "valid_loss": 2.1},
]


def test_lines_of_a_measure_share_its_panel() -> None:
    """The panel is called by the measure, losses share one."""
    assert charts.history_panels(ROWS) == {
        "Loss": ["train_loss", "valid_loss"],
        "Valid AP": ["valid_ap/LightGBM + ratios", "valid_ap/LightGBM"],
    }


def test_lines_are_called_as_whoever_logged_them_did() -> None:
    """A measure alone is made a label; a line's own name stays as it is."""
    frame = charts.history_frame({"run": ROWS}, ["valid_ap/LightGBM + ratios", "train_loss"])
    assert frame[["step", "measure", "value"]].values.tolist() == [
        [1, "LightGBM + ratios", 0.5],
        [1, "Train loss", 2.0],
    ]
