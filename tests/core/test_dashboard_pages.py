"""The portal's own pages, run without a browser: what they show, and what they say when there is nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest

from quatrain.core import tracking
from quatrain.core.dashboard import installed, quarantine, run
from quatrain.core.dashboard.card import Card, Fact, Status
from quatrain.core.errors import BadDataError, UserError
from quatrain.core.jobs.config import JobConfig
from quatrain.core.jobs.engine import run_job
from quatrain.core.jobs.history import job_run, list_job_runs

PORTAL = Path(run.__file__).parent / "portal.py"
# The first page pays for imports that a shared machine may take seconds to load.
TIMEOUT_S = 60


def open_page(draw: Callable[[], None]) -> AppTest:
    """Return a page after its first run."""
    return AppTest.from_function(draw, default_timeout=TIMEOUT_S).run()


def text_of(app: AppTest) -> str:
    """Return everything that the page wrote as HTML, Markdown or code."""
    parts = [*app.get("html"), *app.markdown, *app.code, *app.warning, *app.error]
    return "\n".join(str(getattr(part, "value", None) or part.proto.body) for part in parts)


def batch_page() -> None:
    """Draw the batch runs."""
    from quatrain.core.dashboard.views.batch_runs import batch_runs

    batch_runs()


def training_page() -> None:
    """Draw the training runs."""
    from quatrain.core.dashboard.views.training_runs import training_runs

    training_runs()


def overview_page() -> None:
    """Draw the overview without its navigation."""
    from quatrain.core.dashboard.views.overview import overview

    overview()


@pytest.fixture
def no_apps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that no app is installed."""
    monkeypatch.setattr(installed, "_points", lambda _: {})


def score(path: Path, sink: Any) -> None:
    """Read a JSON file of {"rows": n, "bad": m}; "refuse" refuses it whole."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if "refuse" in content:
        raise BadDataError(content["refuse"])
    sink.count(content["rows"])
    for row in range(content["bad"]):
        sink.reject(row=row, reason="amount is negative", column="TX_AMOUNT", value="-3.5")
    sink.write("scores", pa.table({"score": [0.5]}))


def run_batch(folder: Path, **files: dict[str, Any]) -> str:
    """Run a job over these files, by stem, and return the run's id."""
    inputs = folder / "in"
    inputs.mkdir(exist_ok=True)
    for stem, content in files.items():
        (inputs / f"{stem}.csv").write_text(json.dumps(content), encoding="utf-8")
    config = JobConfig(inputs=(inputs,), out=folder / "out", max_bad_ratio=1)
    report = run_job(config, name="toy.score", model_digest="a" * 64, config_digest="b" * 64, process=score, app="toy")
    return report.run_id


@pytest.mark.usefixtures("no_apps")
def test_the_portal_without_apps_says_how_to_get_one() -> None:
    """Nothing installed is no error; the exact command stands there."""
    app = AppTest.from_file(str(PORTAL), default_timeout=TIMEOUT_S).run()
    assert not app.exception
    assert "No app is installed here" in text_of(app)
    assert "pip install 'quatrain-fintech[all]'" in [block.value for block in app.code]


def test_a_card_shows_the_status_of_its_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts, state and synthetic mark come from the app; core knows none by name."""
    facts = (Fact(label="Open alerts", value="37", note="12,400.00 at risk"),)
    status = Status(state="good", headline="Up to date", facts=facts, is_synthetic=True)
    card = Card(title="Toy", summary="A toy app.", status=lambda: status)
    monkeypatch.setattr(installed, "cards", lambda: {"toy": card})
    shown = text_of(open_page(overview_page))
    for expected in ("Toy", "A toy app.", "Open alerts", ">37<", "12,400.00 at risk", "Up to date", "SYNTHETIC"):
        assert expected in shown


def test_a_card_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """One app's broken store is told in words on its card."""

    def fail() -> Status:
        raise UserError("the store cannot be read; check its address")

    good = Card(title="Good", summary="Works.", status=lambda: Status(state="good", headline="Up to date"))
    monkeypatch.setattr(installed, "cards", lambda: {"bad": Card(title="Bad", summary="-", status=fail), "good": good})
    app = open_page(overview_page)
    assert [warning.value for warning in app.warning] == ["Check its address"]
    assert "Works." in text_of(app)


def test_an_app_that_cannot_be_imported_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-installed app does not take the portal down."""
    point = EntryPoint(name="gone", value="no_such_module:pages", group=run.PAGES_GROUP)
    monkeypatch.setattr(installed, "_points", lambda _: {"gone": point})
    assert installed.pages() == {}


def test_no_batch_yet_gives_the_next_command() -> None:
    """The empty state is a way on."""
    app = open_page(batch_page)
    assert not app.exception
    assert app.code[0].value.startswith("quatrain fintech score --data")


def test_a_batch_run_shows_files_and_rejected_rows_with_reasons(tmp_path: Path) -> None:
    """Counts by file, the refused file's reason, and every rejected row."""
    run_batch(
        tmp_path, good={"rows": 1000, "bad": 0}, mixed={"rows": 500, "bad": 3}, broken={"refuse": "the file is cut off"}
    )
    app = open_page(batch_page)
    assert not app.exception
    runs, files, rejected = (element.value for element in app.dataframe)
    assert runs[["Job", "Files", "Rows", "Rejected"]].to_dict("records") == [
        {"Job": "toy.score", "Files": 3, "Rows": 1500, "Rejected": 3}
    ]
    by_file = {row["File"]: row for row in files.to_dict("records")}
    assert by_file["mixed.csv"]["Rejected"] == 3
    assert by_file["broken.csv"]["Status"] == "Refused"
    assert "<dt>broken.csv</dt><dd>the file is cut off</dd>" in text_of(app)
    assert rejected["reason"].value_counts().to_dict() == {"amount is negative": 3, "the file is cut off": 1}
    assert ">1,500<" in text_of(app)
    assert "0.20 % of rows" in text_of(app)


def test_reasons_are_counted_by_column(tmp_path: Path) -> None:
    """The chart says which column and how many rows."""
    run_id = run_batch(tmp_path, mixed={"rows": 500, "bad": 3}, broken={"refuse": "the file is cut off"})
    rejected = quarantine.read(quarantine.describe(job_run(run_id).files))
    assert quarantine.by_reason(rejected).to_dict("records") == [
        {"reason": "TX_AMOUNT: amount is negative", "rows": 3},
        {"reason": "the file is cut off", "rows": 1},
    ]


def test_the_newest_batch_run_is_open_until_another_is_picked(tmp_path: Path) -> None:
    """Picking a row shows that run's files."""
    run_batch(tmp_path, first={"rows": 10, "bad": 0})
    run_batch(tmp_path, second={"rows": 20, "bad": 0})
    app = open_page(batch_page)
    assert app.dataframe[1].value["File"].tolist() == ["second.csv"]
    app.session_state["batch_run_row"] = 1
    app.run()
    assert app.dataframe[1].value["File"].tolist() == ["first.csv"]
    assert [run.rows for run in list_job_runs()] == [20, 10]


def record_run(*, steps: int, **end: Any) -> str:
    """Record a training run with a falling loss and return its id."""
    with tracking.start_run(app="toy", command="train", config={"learning_rate": 0.01, "layers": [64, 32]}) as recorded:
        for step in range(1, steps + 1):
            recorded.log(step=step, train_loss=1 / step, valid_loss=1.1 / step, ap=step / 10)
        recorded.finish(**end)
    return recorded.id


def test_no_training_yet_gives_the_next_command() -> None:
    """The empty state is a way on."""
    assert open_page(training_page).code[0].value == "quatrain fintech train --data ulb-creditcard"


def test_a_training_run_shows_measures_settings_and_curves() -> None:
    """Losses share one chart, every other measure has its own."""
    record_run(steps=5, metrics={"test_ap": 0.689}, bundle="c" * 64)
    app = open_page(training_page)
    assert not app.exception
    shown = text_of(app)
    for expected in ("Test AP", ">0.689<", "sealed cccccccccccc", "Learning rate", "0.01", "[64, 32]"):
        assert expected in shown
    assert len(app.get("vega_lite_chart")) == 2


def test_the_run_in_the_address_is_the_one_shown() -> None:
    """A link to a run opens that run, not the newest."""
    first = record_run(steps=1, metrics={"test_ap": 0.111})
    record_run(steps=1, metrics={"test_ap": 0.222})
    app = AppTest.from_function(training_page, default_timeout=TIMEOUT_S)
    app.query_params["run"] = first
    app.run()
    assert ">0.111<" in text_of(app)
    assert ">0.222<" not in text_of(app)


def test_a_failed_run_says_why() -> None:
    """The reason without the name of its class."""
    record_run(steps=1, status="failed", error="UserError: the file has no column TX_FRAUD; map it in columns.toml")
    app = open_page(training_page)
    assert [error.value for error in app.error] == [r"the file has no column TX\_FRAUD; map it in columns\.toml"]


def test_a_run_without_steps_says_so() -> None:
    """No empty chart."""
    record_run(steps=0)
    assert "logged no steps" in text_of(open_page(training_page))


def broken_page() -> None:
    """Draw a page with a bug."""
    from quatrain.core.dashboard import faults

    faults.guarded([].pop)


def test_an_unexpected_error_shows_no_stack_trace(caplog: pytest.LogCaptureFixture) -> None:
    """The analyst reads what to do; the log keeps the traceback."""
    app = open_page(broken_page)
    assert not app.exception
    assert "IndexError" in app.error[0].value
    assert "File" not in app.error[0].value
    assert "IndexError: pop from empty list" in caplog.text
