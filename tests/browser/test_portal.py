"""An analyst's morning in a real browser: portal, queue, an alert, a verdict by key, the model report."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from quatrain.fintech import cases

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory, serve: Callable[[Path], Any]) -> Iterator[Any]:
    """Return the portal over what `quatrain demo` leaves: a model, a scored week, a quarantine."""
    home = tmp_path_factory.mktemp("portal") / "demo"
    subprocess.run(
        [sys.executable, "-c", "from quatrain.core.cli.main import main; main()", "demo", "--home", str(home)],
        env={**os.environ, "QUATRAIN_CORE__HOME": str(home), "QUATRAIN_CORE__CACHE": str(home / "cache")},
        check=True,
        capture_output=True,
    )
    with serve(home) as running:
        yield running


@pytest.fixture(scope="module")
def empty_portal(tmp_path_factory: pytest.TempPathFactory, serve: Callable[[Path], Any]) -> Iterator[Any]:
    """Return the portal of somebody who has just installed it."""
    with serve(tmp_path_factory.mktemp("empty") / "home") as running:
        yield running


def number_of(page: Page, label: str) -> str:
    """Return the key number with this label."""
    tile = page.locator(".q-tiles > div", has=page.get_by_text(label, exact=True))
    return tile.locator("dd").inner_text()


def overflow(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    return int(page.evaluate("document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"))


def test_the_portal_leads_to_the_queue(portal: Any, open_page: Callable[..., Page], keep_picture: Any) -> None:
    """The card shows live numbers, and its button opens the queue that they come from."""
    page = open_page(portal.url)
    expect(page.locator("h1")).to_have_text("Overview")
    expect(page.get_by_text("SYNTHETIC").first).to_be_visible()
    n_open = number_of(page, "Open alerts")
    assert int(n_open.replace(",", "")) > 10
    keep_picture(page, "portal")
    page.get_by_role("button", name="Alert queue").click()
    expect(page.locator("h1")).to_have_text("Alert queue")
    assert number_of(page, "Open alerts") == n_open


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_queue_opens_with_its_top_alert(
    portal: Any, open_page: Callable[..., Page], keep_picture: Any, scheme: str
) -> None:
    """Score, reasons and verdict are in sight without scrolling, in both themes."""
    page = open_page(f"{portal.url}/alert-queue", scheme=scheme)
    expect(page.locator(".q-case-top")).to_contain_text("Alert 1 of")
    expect(page.locator(".q-reasons li").first).to_contain_text("usually")
    expect(page.get_by_role("button", name=re.compile("Confirm fraud"))).to_be_in_viewport()
    expect(page.get_by_role("button", name=re.compile("Dismiss")).last).to_be_in_viewport()
    background = page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(15, 17, 22)"}[scheme]
    keep_picture(page, f"alert-queue-{scheme}")


def test_the_own_font_is_served_and_used(portal: Any, open_page: Callable[..., Page]) -> None:
    """The look does not depend on what a machine has installed."""
    page = open_page(portal.url)
    page.wait_for_function("document.fonts.check('16px Inter')")
    faces = page.evaluate("[...document.fonts].filter(face => face.status === 'loaded').map(face => face.family)")
    assert "Inter" in [name.strip('"') for name in faces]


def test_a_verdict_by_key_is_kept_and_can_be_undone(portal: Any, open_page: Callable[..., Page]) -> None:
    """F confirms and opens the next alert, U takes it back; letters typed into the note decide nothing."""
    ledger = f"sqlite:///{portal.home / 'ledger.db'}"
    page = open_page(f"{portal.url}/alert-queue")
    n_open = int(number_of(page, "Open alerts").replace(",", ""))
    first = page.locator(".q-amount").inner_text()
    page.get_by_label("Note").fill("called the customer")
    page.get_by_label("Note").press("d")
    page.get_by_label("Note").press("Tab")
    assert cases.cases(ledger) == {}
    page.locator("h1").click()
    page.keyboard.press("f")
    expect(page.locator(".q-case-top")).to_contain_text(f"of {n_open - 1:,}")
    expect(page.locator(".q-amount")).not_to_have_text(first)
    [case] = cases.cases(ledger).values()
    assert (case.status, case.events[0].note) == ("fraud", "called the customerd")
    page.keyboard.press("u")
    expect(page.locator(".q-case-top")).to_contain_text(f"of {n_open:,}")
    expect(page.locator(".q-amount")).to_have_text(first)
    assert [one.status for one in cases.cases(ledger).values()] == ["open"]


def test_a_click_on_a_row_opens_its_alert(portal: Any, open_page: Callable[..., Page]) -> None:
    """Anywhere in the row, and the address follows."""
    page = open_page(f"{portal.url}/alert-queue")
    box = page.locator("[data-testid=stDataFrame]").first.bounding_box()
    assert box is not None
    # The grid is a canvas: a header, then rows of 36 pixels.
    page.mouse.click(box["x"] + 220, box["y"] + 34 + 36 * 3 + 18)
    expect(page.locator(".q-case-top")).to_contain_text("Alert 4 of")
    expect(page).to_have_url(re.compile("alert="))


def test_a_filter_is_in_the_address(portal: Any, open_page: Callable[..., Page]) -> None:
    """What one analyst sees can be sent to another."""
    page = open_page(f"{portal.url}/alert-queue")
    page.get_by_role("radio", name="All").click()
    expect(page).to_have_url(re.compile("status=All"))
    again = open_page(f"{portal.url}/alert-queue?min_amount=200.0&order=Newest")
    expect(again.get_by_text("1 filter on")).to_be_visible()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_model_report_draws_its_charts(
    portal: Any, open_page: Callable[..., Page], keep_picture: Any, scheme: str
) -> None:
    """Comparison, curves and simulator are drawn, each with a name for a screen reader."""
    page = open_page(f"{portal.url}/model-report", scheme=scheme)
    expect(page.locator("[data-testid=stVegaLiteChart]")).to_have_count(6)
    expect(page.get_by_text("What would another alert budget buy?")).to_be_visible()
    assert float(number_of(page, "Average precision")) > 0
    keep_picture(page, f"model-report-{scheme}")


def test_batch_and_training_runs_are_shown(portal: Any, open_page: Callable[..., Page], keep_picture: Any) -> None:
    """A refused file is named with its reason, and training has curves."""
    page = open_page(f"{portal.url}/batch-runs")
    grid = page.locator("[data-testid=stDataFrame] canvas").first.bounding_box()
    assert grid is not None
    # The demo's apps ran in the order of their names, newest first here: fintech is the third row.
    page.mouse.click(grid["x"] + 15, grid["y"] + 35 + 35 * 2 + 17)
    expect(page.get_by_text("upload-broken-off.parquet").last).to_be_visible()
    keep_picture(page, "batch-runs")
    (run,) = (portal.home / "runs").glob("*-healthcare-train-*")
    page = open_page(f"{portal.url}/training-runs?run={run.name}")
    expect(page.locator("[data-testid=stVegaLiteChart]").first).to_be_visible()


def test_the_worklist_says_what_it_will_not_answer(
    portal: Any, open_page: Callable[..., Page], keep_picture: Any
) -> None:
    """A turned image comes first, with the reason, and never as a diagnosis."""
    page = open_page(f"{portal.url}/worklist")
    expect(page.get_by_text("looks turned by 90 degrees")).to_be_visible()
    expect(page.get_by_text("Not for diagnosis", exact=True).first).to_be_visible()
    expect(page.locator("[data-testid=stImage] img").first).to_be_visible()
    keep_picture(page, "worklist")


def test_a_failed_part_is_shown_with_its_score(portal: Any, open_page: Callable[..., Page], keep_picture: Any) -> None:
    """And with the threshold that it passed."""
    page = open_page(f"{portal.url}/parts")
    expect(page.get_by_text("Fails above")).to_be_visible()
    expect(page.locator("[data-testid=stImage] img").first).to_be_visible()
    keep_picture(page, "parts")


def test_traffic_is_compared_on_a_network_that_is_marked(
    portal: Any, open_page: Callable[..., Page], keep_picture: Any
) -> None:
    """Before and after, with the gate's words."""
    page = open_page(f"{portal.url}/traffic-comparison")
    expect(page.get_by_text("City's plan", exact=True)).to_be_visible()
    expect(page.get_by_text("SYNTHETIC", exact=True).first).to_be_visible()
    expect(page.get_by_text("not worse").first).to_be_visible()
    expect(page.locator("[data-testid=stVegaLiteChart]").first).to_be_visible()
    keep_picture(page, "traffic")


_PAGES = ["/", "/alert-queue", "/model-report", "/batch-runs", "/training-runs", "/worklist", "/parts", "/signal-plans"]


@pytest.mark.parametrize("path", _PAGES)
def test_pages_fit_a_narrow_window(portal: Any, open_page: Callable[..., Page], path: str) -> None:
    """Nothing is cut off at 900 pixels, and no page shows an error."""
    page = open_page(portal.url + path, width=900)
    expect(page.locator("h1")).to_be_visible()
    assert overflow(page) == 0
    expect(page.get_by_text("This page could not be drawn")).to_have_count(0)
    expect(page.locator("[data-testid=stException]")).to_have_count(0)


def test_an_empty_home_gives_the_next_command(empty_portal: Any, open_page: Callable[..., Page]) -> None:
    """The first thing that a new user sees is what to do."""
    page = open_page(empty_portal.url)
    expect(page.get_by_text("quatrain fintech train --data ulb-creditcard")).to_be_visible()
    page.get_by_role("link", name="Alert queue").click()
    expect(page.get_by_text("There is no fraud model yet")).to_be_visible()
