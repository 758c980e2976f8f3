"""The fraud pages run without a browser: the numbers they show, the verdicts they record."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from onnx import TensorProto, helper
from streamlit.testing.v1 import AppTest

from quatrain.core import tracking
from quatrain.core.bundle.manifest import TensorSpec
from quatrain.core.bundle.seal import seal
from quatrain.core.config import settings
from quatrain.core.dashboard import shell
from quatrain.core.jobs.config import JobConfig
from quatrain.core.jobs.engine import run_job
from quatrain.core.store import Store
from quatrain.fintech import cases
from quatrain.fintech.cases import CaseKey
from quatrain.fintech.dashboard import status

# The first page pays for imports that a shared machine may take seconds to load.
TIMEOUT_S = 60
FEATURES = ("amount", "hour")


def queue_page() -> None:
    """Draw the alert queue."""
    from quatrain.fintech.dashboard.views.alert_queue import alert_queue

    alert_queue()


def report_page() -> None:
    """Draw the model report."""
    from quatrain.fintech.dashboard.views.model_report import model_report

    model_report()


def open_page(draw: Callable[[], None], **query: str) -> AppTest:
    """Return a page after its first run, opened at an address."""
    app = AppTest.from_function(draw, default_timeout=TIMEOUT_S)
    for name, value in query.items():
        app.query_params[name] = value
    return app.run()


def text_of(app: AppTest) -> str:
    """Return everything that the page wrote as HTML, Markdown or code."""
    parts = [*app.get("html"), *app.markdown, *app.code, *app.warning, *app.error, *app.info]
    return "\n".join(str(getattr(part, "value", None) or part.proto.body) for part in parts)


def tiles_of(app: AppTest) -> dict[str, tuple[str, str]]:
    """Return the key numbers of the page: label to value and note."""
    cells = re.findall(r"<div><dt>(.*?)</dt><dd>(.*?)</dd><p>(.*?)</p></div>", text_of(app))
    return {label: (value, note) for label, value, note in cells}


def amounts(app: AppTest) -> list[float]:
    """Return the amounts in the alert table, in its order."""
    return list(app.dataframe[0].value["amount"])


def press(app: AppTest, label: str) -> AppTest:
    """Press a button of the case by its label."""
    return next(button for button in app.button if button.label == label).click().run()


def publish_model(*, is_synthetic: bool = True, run_id: str = "none", alias: str | None = "prod") -> str:
    """Seal and publish a tiny fraud model; return its digest."""
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["features", "axes"], ["probability"], keepdims=0)],
        "mean",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["batch"])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )
    onnx = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()
    x = np.array([[0.0, 1.0], [0.5, 0.5]], dtype=np.float32)
    bundle = seal(
        settings().home / "sealed",
        name="fintech/fraud",
        task="binary-classification",
        onnx=onnx,
        inputs=[TensorSpec(name="features", dtype="float32", shape=("batch", 2), columns=FEATURES)],
        outputs=[TensorSpec(name="probability", dtype="float32", shape=("batch",))],
        golden_inputs={"features": x},
        golden_outputs={"probability": x.mean(axis=1)},
        card="# Card fraud: toy\n\n![tracker](http://example.invalid/pixel.png)\n",
        metrics={"test": {"ap": 0.689, "auc": 0.881, "value_recall": 0.62}},
        intervals={"test": {"ap": (0.659, 0.717)}},
        training={"candidate": "toy trees", "run": run_id},
        data={"name": "toy", "sha256": "ab" * 32, "rows": 1000, "frauds": 20, "from": "2018-04-01", "to": "2018-05-01"},
        decision={
            "threshold": 0.4,
            "alert_budget": 0.01,
            "reference": {"amount": 22.0, "hour": 14.5},
            "is_synthetic": is_synthetic,
        },
        overwrite=True,
    )
    Store().publish(bundle, alias=alias)
    return bundle.digest


def alert_rows(source: str, digest: str, *, n_alerts: int, has_cards: bool) -> pa.Table:
    """Return alerts of 100, 200, ... with falling scores, as scoring writes them."""
    numbers = list(range(1, n_alerts + 1))
    missing = pa.nulls(n_alerts, pa.string())
    return pa.table(
        {
            "transaction_id": [f"T{number}" for number in numbers],
            "timestamp": pa.array(
                [datetime(2018, 8, 10, number, tzinfo=UTC) for number in numbers], pa.timestamp("us", "UTC")
            ),
            "customer_id": pa.array([f"C{number}" for number in numbers]) if has_cards else missing,
            "terminal_id": missing,
            "amount": [100.0 * number for number in numbers],
            "score": pa.array([0.9 - number / 100 for number in numbers], pa.float32()),
            "threshold": pa.array([0.4] * n_alerts, pa.float32()),
            "reason_1": [f"amount {100 * number:.2f}, usually 22.00" for number in numbers],
            "reason_2": missing,
            "reason_3": missing,
            "source_file": [source] * n_alerts,
            "model": [f"fintech/fraud {digest[:12]}"] * n_alerts,
            "is_synthetic": [True] * n_alerts,
            "feature:amount": pa.array([100.0 * number for number in numbers], pa.float32()),
            "feature:hour": pa.array([float(number) for number in numbers], pa.float32()),
        }
    )


def score_file(folder: Path, name: str, digest: str, *, n_alerts: int = 3, has_cards: bool = True) -> None:
    """Run the real job over a file of 200 transactions, one of them bad."""
    incoming = folder / "incoming"
    incoming.mkdir(exist_ok=True)
    (incoming / name).write_text(name, encoding="utf-8")

    def process(path: Path, sink: Any) -> None:
        sink.count(200)
        sink.reject(row=7, reason="negative", column="amount", value="-1")
        sink.write("scores", pa.table({"score": [0.1] * 199}))
        sink.write("alerts", alert_rows(path.name, digest, n_alerts=n_alerts, has_cards=has_cards))

    config = JobConfig(inputs=(incoming,), out=folder / "out")
    run_job(config, name="fintech.score", model_digest=digest, config_digest="c" * 64, process=process, app="fintech")


@dataclass(frozen=True)
class Bank:
    """A home with a model in production and one scored file."""

    folder: Path
    digest: str


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    """Return a home with a model in production and three alerts of 100, 200 and 300."""
    digest = publish_model()
    score_file(tmp_path, "2018-08-10.csv", digest)
    return Bank(tmp_path, digest)


def test_without_a_model_the_queue_says_how_to_train_one() -> None:
    """The exact next command, and no empty table."""
    app = open_page(queue_page)
    assert not app.exception
    assert [block.value for block in app.code] == ["quatrain fintech train --data ulb-creditcard"]
    assert not app.dataframe


def test_without_a_scored_file_the_queue_says_how_to_score_one() -> None:
    """The next command is another one once there is a model."""
    publish_model()
    app = open_page(queue_page)
    assert [block.value for block in app.code] == ["quatrain fintech score --data transactions.csv"]


@pytest.mark.usefixtures("bank")
def test_the_queue_shows_what_is_open_and_at_stake() -> None:
    """Open alerts, their value, the rate against the budget, the last batch."""
    app = open_page(queue_page)
    assert not app.exception
    tiles = tiles_of(app)
    assert tiles["Open alerts"] == ("3", "0 of 3 decided")
    assert tiles["Value at risk"] == ("600.00", "0.00 confirmed as fraud")
    assert tiles["Alert rate"] == ("1.51 %", "of transactions; the budget is 1.00 %")
    assert tiles["Last batch"] == ("just now", "200 transactions, 1 row rejected")
    assert "SYNTHETIC" in text_of(app)
    assert amounts(app) == [100.0, 200.0, 300.0]


@pytest.mark.usefixtures("bank")
def test_the_open_case_shows_reasons_and_inputs_beside_typical_ones() -> None:
    """The first alert is open; an absent terminal is said, not shown as empty."""
    app = open_page(queue_page)
    shown = text_of(app)
    for expected in (
        "Alert 1 of 3",
        "10 Aug 2018, 01:00 UTC",
        "Score <b>0.890</b>",
        "alerts start at 0.400",
        'Amount 100.00 <span class="q-muted">usually 22.00</span>',
        "<dt>Card</dt><dd>C1</dd>",
        "<dt>Terminal</dt><dd>No terminal given</dd>",
    ):
        assert expected in shown
    assert app.dataframe[1].value.to_dict("records") == [
        {"Input": "Amount", "Here": "100.00", "Typical": "22.00"},
        {"Input": "Hour", "Here": "01:00 UTC", "Typical": "14:30 UTC"},
    ]


@pytest.mark.usefixtures("bank")
def test_a_verdict_is_recorded_and_the_next_alert_opens() -> None:
    """The note goes with it; the numbers follow."""
    app = open_page(queue_page)
    app.text_input(key="case_note").set_value("called the customer")
    press(app, "Confirm fraud")
    event = cases.cases()[CaseKey("2018-08-10.csv", "T1")].events[0]
    assert (event.action, event.note) == ("fraud", "called the customer")
    assert amounts(app) == [200.0, 300.0]
    assert "Alert 1 of 2" in text_of(app)
    assert tiles_of(app)["Value at risk"] == ("500.00", "100.00 confirmed as fraud")
    assert app.text_input(key="case_note").value == ""


@pytest.mark.usefixtures("bank")
def test_undo_takes_the_last_verdict_back_and_opens_its_alert() -> None:
    """Also when the next alert is already open."""
    app = open_page(queue_page)
    press(app, "Dismiss")
    press(app, "Undo")
    assert [event.action for event in cases.cases()[CaseKey("2018-08-10.csv", "T1")].events] == ["dismissed", "undo"]
    assert amounts(app) == [100.0, 200.0, 300.0]
    assert app.query_params["alert"] == "2018-08-10.csv/T1"


@pytest.mark.usefixtures("bank")
def test_next_and_previous_walk_the_queue() -> None:
    """In the table's order, and they stop at its ends."""
    app = open_page(queue_page)
    press(app, "Next")
    press(app, "Next")
    assert app.query_params["alert"] == "2018-08-10.csv/T3"
    assert next(button for button in app.button if button.label == "Next").disabled
    press(app, "Previous")
    assert "Alert 2 of 3" in text_of(app)


@pytest.mark.usefixtures("bank")
def test_an_address_opens_its_alert_and_its_filters() -> None:
    """A link that a colleague sends shows what the sender saw."""
    app = open_page(queue_page, alert="2018-08-10.csv/T2", min_amount="150.0", order="Highest amount")
    assert amounts(app) == [300.0, 200.0]
    assert "Alert 2 of 2" in text_of(app)
    assert "1 filter on" in text_of(app)


@pytest.mark.usefixtures("bank")
def test_the_status_filter_shows_decided_alerts_with_their_history() -> None:
    """Who decided, when, and the note."""
    cases.record(CaseKey("2018-08-10.csv", "T2"), "fraud", seen=0, analyst="ana", note="<b>card copied</b>")
    app = open_page(queue_page, status="Fraud")
    assert amounts(app) == [200.0]
    assert "Confirmed as fraud" in text_of(app)
    assert "<q>&lt;b&gt;card copied&lt;/b&gt;</q>" in text_of(app)


@pytest.mark.usefixtures("bank")
def test_a_verdict_that_somebody_else_gave_first_is_told() -> None:
    """The second verdict is not recorded over the first."""
    app = open_page(queue_page)
    cases.record(CaseKey("2018-08-10.csv", "T1"), "dismissed", seen=0, analyst="ben")
    press(app, "Confirm fraud")
    assert "ben dismissed it" in app.toast[0].value
    assert len(cases.cases()[CaseKey("2018-08-10.csv", "T1")].events) == 1


@pytest.mark.usefixtures("bank")
def test_when_everything_is_decided_the_queue_says_so() -> None:
    """An empty queue is good news, not an empty table."""
    for number in (1, 2, 3):
        cases.record(CaseKey("2018-08-10.csv", f"T{number}"), "dismissed", seen=0, analyst="ana")
    app = open_page(queue_page)
    assert not app.exception
    assert "All alerts are decided" in text_of(app)


@pytest.mark.usefixtures("bank")
def test_filters_that_leave_nothing_can_be_cleared() -> None:
    """One button shows everything again."""
    app = open_page(queue_page, min_amount="5000.0")
    assert "No alert matches these filters" in text_of(app)
    press(app, "Show all alerts")
    assert amounts(app) == [100.0, 200.0, 300.0]


def test_a_file_without_cards_has_no_empty_columns(bank: Bank) -> None:
    """Columns that no alert fills are left out."""
    score_file(bank.folder, "ulb.csv", bank.digest, n_alerts=2, has_cards=False)
    app = open_page(queue_page, files="ulb.csv")
    assert list(app.dataframe[0].value) == ["score", "amount", "timestamp"]
    assert "No card given" in text_of(app)


def write_report(run: tracking.Run, digest: str) -> None:
    """Write a report as training does: 1,000 test rows, 20 of them fraud."""
    measures = {"ap": 0.689, "auc": 0.881, "ece": 0.004}
    champion = {
        "name": "toy trees",
        "split": "test",
        "n": 1000,
        "metrics": measures,
        "intervals": {"ap": [0.659, 0.717]},
    }
    baseline = {"name": "logistic_regression", "split": "test", "n": 1000}
    baseline |= {"metrics": {"ap": 0.6, "auc": 0.85}, "intervals": {"ap": [0.55, 0.65]}}
    document = {
        "champion": "toy trees",
        "digest": digest,
        "rows": [champion, baseline, champion | {"split": "valid"}],
        "precision_recall": [
            {"threshold": 0.9, "precision": 1.0, "recall": 0.25},
            {"threshold": 0.4, "precision": 0.5, "recall": 0.5},
            {"threshold": 0.1, "precision": 0.1, "recall": 1.0},
        ],
        "calibration": [{"n": 900, "score": 0.1, "rate": 0.01}, {"n": 100, "score": 0.8, "rate": 0.7}],
        "score_histogram": [
            {"low": 0.0, "high": 0.5, "legitimate": 970, "fraud": 5},
            {"low": 0.5, "high": 1.0, "legitimate": 10, "fraud": 15},
        ],
        "importance": [{"feature": "amount", "ap_drop": 0.3}, {"feature": "hour", "ap_drop": -0.001}],
    }
    (run.folder / "report.json").write_text(json.dumps(document), encoding="utf-8")


@pytest.fixture
def reported() -> str:
    """Return the digest of a published model whose run left a report."""
    run = tracking.start_run(app="fintech", command="train", config={})
    digest = publish_model(run_id=run.id)
    write_report(run, digest)
    run.finish(bundle=digest)
    return digest


def test_without_a_model_the_report_says_how_to_train_one() -> None:
    """The exact next command."""
    assert open_page(report_page).code[0].value == "quatrain fintech train --data ulb-creditcard"


def test_a_version_is_in_use_once_prod_means_it() -> None:
    """A model that nobody promoted is shown, and no score is made with it."""
    publish_model(alias=None)
    assert "in use" not in text_of(open_page(report_page))
    Store().promote("fintech/fraud", 1, alias="prod")
    assert "in use" in text_of(open_page(report_page))


def test_the_report_shows_the_champion_beside_the_baselines(reported: str) -> None:
    """Measures with their intervals, the chosen model first."""
    app = open_page(report_page)
    assert not app.exception
    assert tiles_of(app)["Average precision"] == ("0.689", "95 % interval 0.659 to 0.717")
    assert tiles_of(app)["Alerts start at"] == ("0.400", "for a budget of 1.00 % of transactions")
    table = app.dataframe[0].value
    assert table["Model"].tolist() == ["toy trees (chosen)", "logistic regression"]
    assert table["Average precision"].tolist() == ["0.689 (0.659 to 0.717)", "0.600 (0.550 to 0.650)"]
    assert table["Calibration error"].tolist() == ["0.0040", "\u2013"]
    assert len(app.get("vega_lite_chart")) == 6
    assert reported[:12] in text_of(app)


@pytest.mark.usefixtures("reported")
def test_the_simulator_says_what_a_budget_buys() -> None:
    """10 of 20 frauds in 20 alerts at 2 per 100: the arithmetic of the curve."""
    app = open_page(report_page)
    app.select_slider(key="budget").set_value(20.0).run()
    tiles = tiles_of(app)
    assert tiles["Frauds caught"] == ("50.0 %", "10 of 20")
    assert tiles["Alerts that are fraud"] == ("50.0 %", "20 alerts on 1,000 transactions")
    assert "--set alert_budget=0.02" in [block.value for block in app.code]


def test_without_its_run_the_report_shows_the_sealed_numbers() -> None:
    """A model from another machine has no report here; that is said."""
    publish_model(run_id="20260101-000000-fintech-train-abcdef")
    app = open_page(report_page)
    assert not app.exception
    assert "those sealed in the model" in app.info[0].value
    assert tiles_of(app)["Average precision"][0] == "0.689"
    assert not app.dataframe


def test_a_report_of_another_model_is_not_shown() -> None:
    """A report is not signed, so its digest must be the bundle's."""
    run = tracking.start_run(app="fintech", command="train", config={})
    publish_model(run_id=run.id)
    write_report(run, "f" * 64)
    assert open_page(report_page).info


def test_a_run_name_cannot_leave_the_runs_folder(quatrain_home: Path) -> None:
    """The name comes out of a bundle that somebody else may have sealed."""
    quatrain_home.mkdir(parents=True, exist_ok=True)
    (quatrain_home / "report.json").write_text("{}", encoding="utf-8")
    publish_model(run_id="..")
    assert not open_page(report_page).exception


@pytest.mark.usefixtures("reported")
def test_a_card_cannot_fetch_a_picture() -> None:
    """Showing a model tells nobody that it is looked at."""
    card = next(block.value for block in open_page(report_page).markdown if "toy" in block.value)
    assert "![" not in card
    assert "Card fraud: toy" in card


def test_the_overview_follows_model_batch_and_queue(tmp_path: Path) -> None:
    """No model, nothing scored, alerts: each state has its command or its numbers."""
    assert (status.status().state, status.status().command) == ("empty", "quatrain fintech train --data ulb-creditcard")
    digest = publish_model()
    assert status.status().command == "quatrain fintech score --data transactions.csv"
    score_file(tmp_path, "2018-08-10.csv", digest)
    now = status.status()
    assert (now.state, now.headline, now.is_synthetic) == ("good", "Up to date", True)
    assert [(fact.label, fact.value, fact.note) for fact in now.facts[:1]] == [("Open alerts", "3", "600.00 at risk")]
    assert now.facts[2].value == "fintech/fraud:1"


@pytest.mark.parametrize("only", [None, "fintech"])
def test_the_portal_has_the_fraud_pages(only: str | None) -> None:
    """Alone or among other apps, before the pages of operations."""
    n_pages = {title: len(pages) for title, pages in shell.sections(only).items()}
    assert [n_pages[title] for title in ("", "Card fraud", "Operations")] == [1, 2, 2]
    assert list(n_pages)[-1] == "Operations"
    assert (len(n_pages) == 3) is (only is not None)


def test_the_portal_of_another_app_has_no_fraud_pages() -> None:
    """`--app` shows one app only."""
    assert list(shell.sections("another")) == ["", "Operations"]
