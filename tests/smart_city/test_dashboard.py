"""The traffic pages run without a browser: the numbers they show, the edits they refuse."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from quatrain.smart_city import records
from quatrain.smart_city.dashboard import tables
from quatrain.smart_city.dashboard.status import status
from quatrain.smart_city.dashboard.views.plans import edited_plan
from quatrain.smart_city.data.scenario import read_scenario
from quatrain.smart_city.retime.check import check_plan
from quatrain.smart_city.retime.plan import plan_of
from quatrain.smart_city.retime.sheets import to_dict
from quatrain.smart_city.signals.model import SignalModel

TIMEOUT_S = 60


def comparison_page() -> None:
    """Draw the comparison."""
    from quatrain.smart_city.dashboard.views.comparison import comparison

    comparison()


def plans_page() -> None:
    """Draw the plans."""
    from quatrain.core.dashboard import faults
    from quatrain.smart_city.dashboard.views.plans import plans

    faults.guarded(plans)


def shown(draw: Callable[[], None]) -> tuple[AppTest, str]:
    """Return a page that has run without an exception, and its text without tags."""
    page = AppTest.from_function(draw, default_timeout=TIMEOUT_S).run()
    assert not page.exception
    texts = [
        element.value for element in [*page.markdown, *page.get("html"), *page.success, *page.error, *page.warning]
    ]
    texts += [getattr(element.proto, "body", "") for element in page.get("html")]
    return page, re.sub(r"<[^>]+>", " ", " ".join(map(str, texts)))


def row(name: str, delay: float, **more: Any) -> dict[str, Any]:
    """Return one controller's row of an evaluation."""
    metrics = {"delay_s": delay, "trip_s": delay + 60, "undeparted": 0.0}
    return {"name": name, "metrics": metrics, "intervals": {"delay_s": [delay - 2, delay + 2]}, **more}


@pytest.fixture
def evaluation() -> dict[str, Any]:
    """Return an evaluation as the command keeps it."""
    verdict = {"controller": "rolling", "reason": "not worse"}
    versus = {"difference": -21.5, "interval": [-25.0, -18.0]}
    ours = row("quatrain", 19.5, choice="rolling", gate=[verdict], delay_vs_fixed_s=versus)
    document = {"data": "mainstreet", "split": "seeds 1, 2", "n": 812, "signals": 3, "sumo": "1.28.0"}
    return document | {"rows": [ours, row("fixed", 41.0)]}


@pytest.fixture
def retiming(junction: Path, junction_model: SignalModel) -> dict[str, Any]:
    """Return a re-timing as the command keeps it, of the city's own plan."""
    (programmes,) = read_scenario(junction).read_network().programmes.values()
    facts = {"data": "mainstreet", "is_promoted": True, "reason": "not worse", "tried": 24}
    facts |= {"incumbent_delay_s": 33.3, "delay_s": 27.1, "difference_s": -6.2, "interval_s": [-7.5, -4.9]}
    return facts | {"plans": [to_dict(plan_of(programmes[0]), junction_model)], "scenario": str(junction)}


@pytest.mark.parametrize(("page", "command"), [(comparison_page, "evaluate"), (plans_page, "retime")])
def test_an_empty_page_names_the_next_command(page: Callable[[], None], command: str) -> None:
    """Before anything was done, the page says what to run."""
    found, text = shown(page)
    assert f"quatrain smart-city {command}" in text + " ".join(block.value for block in found.code)


def test_the_comparison_shows_what_was_measured(evaluation: dict[str, Any]) -> None:
    """Delay under both, the paired difference, what ships and why."""
    records.keep("evaluation", evaluation)
    _, text = shown(comparison_page)
    assert "41.0 s" in text
    assert "19.5 s" in text
    assert "rolling, -21.5 s (-25.0 to -18.0)" in text
    assert "not worse" in text


def test_generated_networks_are_marked(evaluation: dict[str, Any]) -> None:
    """On the page and on the overview; a city's own network is not."""
    records.keep("evaluation", evaluation)
    assert "SYNTHETIC" not in shown(comparison_page)[1]
    assert not status().is_synthetic
    records.keep("evaluation", evaluation | {"is_synthetic": True})
    page, _ = shown(comparison_page)
    assert ["SYNTHETIC" in option for option in page.selectbox[0].options] == [True, False]
    assert status().is_synthetic


def test_the_chart_s_table_has_a_row_per_controller(evaluation: dict[str, Any]) -> None:
    """The shipped row says what it is; intervals are those of the document."""
    frame = tables.comparison_frame(evaluation)
    assert frame["Controller"].tolist() == ["quatrain (rolling)", "fixed"]
    assert frame["Delay (s)"].tolist() == [19.5, 41.0]
    assert (frame["low"].tolist(), frame["high"].tolist()) == ([17.5, 39.0], [21.5, 43.0])


def test_the_plan_page_shows_the_proof_and_lets_a_good_plan_out(retiming: dict[str, Any]) -> None:
    """The city's own plan keeps every limit."""
    records.keep("retiming", retiming)
    page, text = shown(plans_page)
    assert "33.3 s" in text
    assert "-6.2 s" in text
    assert "Cycle 90 s; every limit is kept." in [element.value for element in page.success]
    assert len(page.get("download_button")) == 1


def test_a_plan_with_a_short_clearance_is_refused(retiming: dict[str, Any]) -> None:
    """The kept plan has a yellow of one second: the page says so, and offers no export."""
    sheet = retiming["plans"][0]
    sheet["rows"] = [{**r, "seconds": 1.0} if "y" in r["state"] else r for r in sheet["rows"]]
    records.keep("retiming", retiming)
    page, _ = shown(plans_page)
    assert any("Short yellow" in element.value for element in page.error)
    assert not page.get("download_button")


def test_a_scenario_that_is_gone_is_said_to_be(retiming: dict[str, Any]) -> None:
    """The proof stays; the editor asks for the scenario."""
    records.keep("retiming", {**retiming, "scenario": "gone.sumocfg"})
    page, _ = shown(plans_page)
    assert any("Copy it back" in element.value for element in page.warning)


def test_an_edited_green_makes_another_cycle(retiming: dict[str, Any], junction_model: SignalModel) -> None:
    """Five seconds more in the first row are five seconds more in the cycle, within all limits."""
    sheet = retiming["plans"][0]
    frame = tables.plan_frame(sheet)
    frame.loc[0, "Seconds"] += 5
    plan = edited_plan(sheet, frame)
    assert plan.cycle_s == sheet["cycle_s"] + 5
    assert check_plan(plan, junction_model) == []
    assert frame["Shows"].tolist()[:2] == ["green", "change"]


def test_the_time_space_table_repeats_each_green_a_cycle_later(retiming: dict[str, Any]) -> None:
    """Three cycles of one signal, at its place."""
    plan = edited_plan(retiming["plans"][0], tables.plan_frame(retiming["plans"][0]))
    frame = tables.time_space_frame([plan], {plan.tls: 120.0})
    assert frame["Start (s)"].tolist() == [0.0, 90.0, 180.0]
    assert set(frame["Place (m)"]) == {120.0}
    assert ((frame["End (s)"] - frame["Start (s)"]) == plan.rows[0].duration_s).all()


def test_the_overview_says_where_signals_stand(evaluation: dict[str, Any]) -> None:
    """From nothing to the last comparison."""
    assert status().state == "empty"
    records.keep("evaluation", evaluation)
    found = status()
    assert found.state == "good"
    assert ("Delay", "19.5 s", "41.0 s under the city's plan") in [(f.label, f.value, f.note) for f in found.facts]


def test_a_damaged_record_is_passed_over(evaluation: dict[str, Any]) -> None:
    """The other results are still shown."""
    path = records.keep("evaluation", evaluation)
    path.with_name("99999999-broken.json").write_text("{")
    assert [document["data"] for document in records.kept("evaluation")] == ["mainstreet"]
