"""Webster against his own formulas; plans keep the city's intergreens; half the counts are no plan."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from quatrain.core.errors import BadDataError, ExitCode
from quatrain.smart_city.data.network import Programme
from quatrain.smart_city.data.scenario import read_scenario
from quatrain.smart_city.retime.check import check_plan, in_words
from quatrain.smart_city.retime.plan import plan_of
from quatrain.smart_city.retime.run import read_counts
from quatrain.smart_city.retime.search import Space
from quatrain.smart_city.retime.sheets import to_csv
from quatrain.smart_city.retime.webster import (
    stage_ratios,
    stage_rows,
    webster,
    webster_delay_s,
    webster_plan,
    with_greens,
)
from quatrain.smart_city.score import ScoreConfig, score
from quatrain.smart_city.signals.model import SignalModel


@pytest.fixture
def programme(junction: Path) -> Programme:
    """Return the city's programme of the junction."""
    (found,) = read_scenario(junction).read_network().programmes.values()
    return found[0]


def test_webster_s_worked_example() -> None:
    """Flow ratios .25 and .30 with 10 s lost: C = (1.5 x 10 + 5) / .45 = 44 s, greens 15.7 and 18.8 s."""
    timing = webster([0.25, 0.30], lost_s=10)
    assert timing.cycle_s == pytest.approx(20 / 0.45)
    assert timing.greens_s == pytest.approx(((20 / 0.45 - 10) * 25 / 55, (20 / 0.45 - 10) * 30 / 55))


@pytest.mark.parametrize("ratios", [(0.2, 0.25), (0.3, 0.3), (0.15, 0.2, 0.25)])
def test_webster_s_cycle_is_near_the_least_of_his_delay_formula(ratios: tuple[float, ...]) -> None:
    """The paper: between 3/4 and 1 1/2 of the optimum the delay is at most 10 to 20 % above the least."""
    lost, saturation = 4.0 * len(ratios), 1800.0

    def total(cycle: float) -> float:
        greens = [(cycle - lost) * ratio / sum(ratios) for ratio in ratios]
        flows = [ratio * saturation for ratio in ratios]
        delays = [
            webster_delay_s(cycle_s=cycle, green_s=green, flow_vph=flow, saturation_vph=saturation)
            for green, flow in zip(greens, flows, strict=True)
        ]
        return float(np.average(delays, weights=flows))

    least = min(total(cycle) for cycle in np.arange(lost + 2, 150, 0.5))
    assert total(webster(ratios, lost).cycle_s) <= 1.1 * least


def test_webster_refuses_what_cannot_be_and_bounds_what_can() -> None:
    """Saturated flows get the longest cycle, empty ones an even split of the shortest."""
    assert webster([0.6, 0.5], 8).cycle_s == 150
    assert webster([0.0, 0.0], 8).greens_s == pytest.approx((11, 11))
    with pytest.raises(ValueError, match="must not be negative"):
        webster([0.2, -0.1], 8)


def test_more_flow_gets_more_green(junction_model: SignalModel, programme: Programme) -> None:
    """Flow on the first stage's links only: its ratio and its green are the largest."""
    first = junction_model.stages[0].green
    flows = [600.0 if link in first else 60.0 for link in range(junction_model.n_links)]
    ratios = stage_ratios(junction_model, programme, flows)
    assert ratios[0] == max(ratios) > 0.2
    plan = webster_plan(junction_model, programme, flows)
    greens = [plan.rows[row].duration_s for row in stage_rows(programme)]
    assert greens[0] == max(greens)


def test_new_greens_leave_the_city_s_rows_between_them(junction_model: SignalModel, programme: Programme) -> None:
    """Only stage rows change; the plan keeps every limit; too short a green is lifted to the least."""
    greens = [1.0, 17.4, 22.6, 9.0]
    plan = with_greens(programme, greens, name="new")
    rows = set(stage_rows(programme))
    assert [plan.rows[row].duration_s for row in sorted(rows)] == [5, 17, 23, 9]
    for number, (old, new) in enumerate(zip(programme.phases, plan.rows, strict=True)):
        assert old.state == new.state
        assert number in rows or old.duration_s == new.duration_s
    assert check_plan(plan, junction_model) == []


def test_a_plan_with_short_yellow_is_refused_in_words(junction_model: SignalModel, programme: Programme) -> None:
    """One second less of a row between stages breaks yellow and intergreen."""
    plan = plan_of(programme)
    change = max(set(range(len(plan.rows))) - set(stage_rows(programme)))
    rows = list(plan.rows)
    rows[change] = type(rows[change])(state=rows[change].state, duration_s=2.0)
    faults = check_plan(type(plan)(tls=plan.tls, name="x", rows=tuple(rows)), junction_model)
    assert {fault.kind for fault in faults} == {"short yellow", "short intergreen"}
    assert "2 s, at least 3 s are needed" in in_words(faults[0])


def test_a_vector_of_zeros_is_the_city_s_plan(programme: Programme) -> None:
    """The search starts where the city is, and its vectors and plans are each other's inverse."""
    space = Space({programme.tls: programme})
    (plan,) = space.plans(np.zeros(space.size))
    assert [row.duration_s for row in plan.rows] == [phase.duration_s for phase in programme.phases]
    doubled = with_greens(programme, [2 * programme.phases[r].duration_s for r in stage_rows(programme)], name="x")
    (again,) = space.plans(space.vector({programme.tls: doubled}))
    assert again.rows == doubled.rows


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"vph": "-5"}, "must not be negative"),
        ({"vph": "many"}, "expected signal, link and vph"),
        ({"vph": "nan"}, "must not be negative"),
        ({"link": "99"}, "has no link 99"),
        (None, "has no count for links"),
    ],
)
def test_counts_with_gaps_or_negatives_are_refused(
    junction_model: SignalModel, tmp_path: Path, changed: dict[str, str] | None, said: str
) -> None:
    """A plan from half the counts would be a wrong plan."""
    rows = [{"signal": junction_model.tls, "link": str(i), "vph": "100"} for i in sorted(junction_model.served)]
    if changed is None:
        rows = rows[:-1]
    else:
        rows[3] = rows[3] | changed
    path = tmp_path / "counts.csv"
    path.write_text("signal,link,vph\n" + "".join(f"{r['signal']},{r['link']},{r['vph']}\n" for r in rows))
    with pytest.raises(BadDataError, match=said):
        read_counts(path, {junction_model.tls: junction_model})


def test_the_plan_sheet_holds_every_row(programme: Programme) -> None:
    """One line per row, with the cycle beside each."""
    lines = list(csv.DictReader(io.StringIO(to_csv([plan_of(programme)]))))
    assert [line["state"] for line in lines] == [phase.state for phase in programme.phases]
    assert {line["cycle_s"] for line in lines} == {f"{programme.cycle_s:g}"}


def test_a_nightly_run_does_what_is_new_and_refuses_what_is_broken(junction: Path, tmp_path: Path) -> None:
    """The good scenario is re-timed beside the broken one; a second run does nothing again."""
    inputs = tmp_path / "in"
    (inputs / "good").mkdir(parents=True)
    for file in junction.parent.iterdir():
        (inputs / "good" / file.name).write_bytes(file.read_bytes())
    (inputs / "broken.sumocfg").write_text("<configuration>")
    config = ScoreConfig(inputs=(inputs,), out=tmp_path / "out", budget=0, n_proof_seeds=2, workers=1)
    first = score(config)
    assert first.units == {"new": 2, "done": 1, "refused": 1, "failed": 0, "skipped": 0}
    assert first.exit_code == ExitCode.BAD_DATA
    assert "broken.sumocfg" in str(first.error)
    result = json.loads((tmp_path / "out" / "scenario" / "retimed.json").read_text())
    assert result["delay_s"] > 0
    assert {path.name for path in first.outputs} == {"plans.add.xml", "plans.csv", "plans.json", "retimed.json"}
    second = score(config)
    assert (second.units["done"], second.units["skipped"], second.outputs) == (0, 1, ())
