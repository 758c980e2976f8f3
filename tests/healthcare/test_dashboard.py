"""The medical pages with values: what a reader sees, moves and is not told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest
from tests.healthcare.conftest import Trained, blobs

from quatrain.core.store import Store
from quatrain.healthcare.dashboard.picture import through_window, with_saliency
from quatrain.healthcare.score.run import ScoreConfig, score


def worklist_page() -> None:
    """Run the page as the portal does."""
    from quatrain.healthcare.dashboard.views.worklist import worklist

    worklist()


def audit_page() -> None:
    """Run the page as the portal does."""
    from quatrain.healthcare.dashboard.views.model_audit import model_audit

    model_audit()


def text_of(page: AppTest) -> str:
    """Return everything that a page says."""
    parts = [element.value for kind in ("markdown", "caption", "warning", "code") for element in getattr(page, kind)]
    return " ".join(map(str, parts)) + " ".join(str(element.proto) for element in page.get("html"))


@pytest.fixture
def scored(trained: Trained, tmp_path: Path) -> str:
    """Publish the model and score five images, one of them a negative; return the model's reference."""
    version = Store().publish(trained.result.bundle, alias="prod")
    folder = tmp_path / "in"
    folder.mkdir()
    images, _ = blobs(4, seed=5)
    for number, image in enumerate([*images, 255 - images[0]]):
        Image.fromarray(image).save(folder / f"{number}.png")
    assert score(ScoreConfig(inputs=(folder,), bundle=version.reference)).exit_code == 0
    return version.reference


def test_empty_pages_say_the_next_command() -> None:
    """Before any model and any image."""
    page = AppTest.from_function(worklist_page).run(timeout=60)
    assert not page.exception
    assert "No images have been scored yet" in text_of(page)
    assert "quatrain healthcare train" in text_of(AppTest.from_function(audit_page).run(timeout=60))


def test_the_worklist_opens_an_image_and_changes_its_window(scored: str) -> None:
    """The negative is first with its warning; level and width go into the caption; what is shown is filtered."""
    page = AppTest.from_function(worklist_page).run(timeout=60)
    assert not page.exception
    said = text_of(page)
    assert "4.png" in said
    assert "negative" in said
    assert "Not for diagnosis" in said
    page.slider(key="level-Whole range").set_value(90).run(timeout=60)
    assert not page.exception
    page.selectbox(key="window-preset").set_value("Lungs").run(timeout=60)
    assert page.slider(key="width-Lungs").value == 140
    page.slider(key="saliency").set_value(60).run(timeout=60)
    assert not page.exception
    page.number_input(key="worklist-row").set_value(2).run(timeout=60)
    assert not page.exception
    assert "4.png, level" not in text_of(page)
    assert scored.startswith("healthcare/")


def test_the_audit_shows_groups_with_intervals(scored: str) -> None:
    """Both sexes of the test split, and the measures of the model in use."""
    page = AppTest.from_function(audit_page).run(timeout=60)
    assert not page.exception
    tables = [element.value for element in page.dataframe]
    assert {"female", "male"} <= set(tables[-1]["Group"])
    assert (tables[-1]["Images"] == 200).all()
    assert scored.startswith("healthcare/")


def test_a_window_spreads_its_levels_and_saliency_its_colour() -> None:
    """Below is black, above is white; without opacity nothing is laid over the picture."""
    pixels = np.array([[0, 64, 128, 192, 255]] * 5, dtype=np.uint8)
    shown = through_window(pixels, centre=128, width=128)
    assert shown[0].tolist() == [0, 0, 128, 255, 255]
    saliency = np.zeros((5, 5))
    saliency[2, 2] = 1.0
    assert np.array_equal(with_saliency(pixels, saliency, opacity=0.0)[..., 0], pixels)
    laid = with_saliency(pixels, saliency, opacity=0.5)
    assert laid[2, 2].tolist() == [192, 134, 64]
    assert laid[0, 1].tolist() == [64, 64, 64]
