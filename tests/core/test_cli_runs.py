"""`quatrain runs`: one list of training runs and job runs, and the story of each."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner, Result

from quatrain.core.cli.runs import app
from quatrain.core.errors import BadDataError, UserError
from quatrain.core.jobs.config import JobConfig
from quatrain.core.jobs.engine import run_job
from quatrain.core.jobs.sink import Sink
from quatrain.core.tracking import start_run


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """Take away the handler that the command set: its stream ends with the command."""
    before = logging.getLogger().handlers
    yield
    logging.getLogger().handlers = before


def runs(*arguments: str) -> Result:
    """Return the finished command."""
    return CliRunner().invoke(app, [*arguments])


def refuse_empty(path: Path, sink: Sink) -> None:
    """Publish a file's length, refuse an empty file."""
    if not path.read_text():
        raise BadDataError("the file is empty")
    sink.count(1)
    sink.write("lengths", pa.table({"length": [path.stat().st_size]}))


@pytest.fixture
def job_id(tmp_path: Path) -> str:
    """Return the id of a job run that made one file and refused another."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "day[1].csv").write_text("x")
    (tmp_path / "in" / "empty\x1b[31m.csv").write_text("")
    config = JobConfig(inputs=(tmp_path / "in",), out=tmp_path / "out")
    return run_job(
        config, name="toy/lengths", app="toy", model_digest="m" * 64, config_digest="c" * 64, process=refuse_empty
    ).run_id


@pytest.fixture
def training_id() -> str:
    """Return the id of a finished training run."""
    with start_run(app="other", command="train", config={"epochs": 2, "columns": ["a", "b"]}) as run:
        run.log(step=1, loss=0.5)
        run.log(step=2, loss=0.25)
        run.finish(metrics={"test": {"ap": 0.8125, "n": 10}}, bundle="b" * 64)
    return run.id


def test_without_runs_the_list_says_what_to_do() -> None:
    """The empty state names the commands that fill it."""
    result = runs("list")
    assert result.exit_code == 0
    assert result.stdout == "No runs yet. Run an app's `train` or `score` command to make the first one.\n"
    assert json.loads(runs("list", "--json").stdout) == {"runs": [], "total": 0}


def test_the_list_merges_both_kinds_newest_first(job_id: str, training_id: str) -> None:
    """A row says what ran, how it ended and what came of it."""
    document = json.loads(runs("list", "--json").stdout)
    assert [(row["id"], row["kind"], row["status"]) for row in document["runs"]] == [
        (training_id, "training", "done"),
        (job_id, "job", "bad_data"),
    ]
    assert document["runs"][0]["summary"] == "test.ap 0.8125, test.n 10"
    assert document["runs"][1]["summary"] == "1 done, 1 refused; 1 rows"
    assert document["runs"][1]["error"] == "1 of 2 files were refused, more than max_bad_ratio 0.05 allows"
    lines = runs("list").stdout.splitlines()
    assert lines[0].split() == ["run", "kind", "status", "started", "took", "result"]
    assert lines[1].split()[:3] == [training_id, "training", "done"]
    assert "1 of 2 files were refused" in lines[2]


def test_the_list_can_be_narrowed(job_id: str, training_id: str) -> None:
    """By app, by kind and in number; the rest is mentioned."""
    assert [row["id"] for row in json.loads(runs("list", "--app", "toy", "--json").stdout)["runs"]] == [job_id]
    assert [row["id"] for row in json.loads(runs("list", "--kind", "job", "--json").stdout)["runs"]] == [job_id]
    limited = runs("list", "--limit", "1").stdout
    assert training_id in limited
    assert job_id not in limited
    assert "1 of 2 runs; --limit 0 shows all." in limited
    assert job_id in runs("list", "--limit", "0").stdout


def test_show_tells_what_became_of_each_file(job_id: str, tmp_path: Path) -> None:
    """Paths are printed as they are, without markup and without control characters."""
    text = runs("show", job_id).stdout
    assert "exit code      65" in text
    assert "day[1].csv" in text
    assert "empty�[31m.csv" in text
    assert "the file is empty" in text
    document = json.loads(runs("show", job_id, "--json").stdout)
    assert (document["kind"], document["exit_code"]) == ("job", 65)
    done, refused = document["files"]
    assert done["outputs"] == [str(next((tmp_path / "out" / "lengths").iterdir()))]
    assert (refused["status"], refused["reason"]) == ("refused", "the file is empty")


def test_show_tells_how_a_training_run_went(training_id: str) -> None:
    """Config, metrics and history."""
    text = runs("show", training_id).stdout
    for part in ("epochs", "a, b", "test.ap", "0.8125", "step  loss", "2     0.25", "b" * 64):
        assert part in text
    document = json.loads(runs("show", training_id, "--json").stdout)
    assert document["history"] == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
    assert document["metrics"]["test"]["ap"] == 0.8125


def test_the_beginning_of_an_id_is_enough(job_id: str, training_id: str) -> None:
    """As long as it means one run."""
    assert job_id in runs("show", job_id[:-3]).stdout
    ambiguous = runs("show", "2").exception
    assert isinstance(ambiguous, UserError)
    assert str(ambiguous).startswith("2 runs begin with '2'; give more of the id: ")
    assert training_id in str(ambiguous)


def test_an_ambiguous_beginning_names_a_few_matches_only() -> None:
    """A year of nightly runs would not fit on a screen."""
    ids = [start_run(app="toy", command=command, config={}).id for command in "abcdefg"]
    ambiguous = runs("show", "2").exception
    assert isinstance(ambiguous, UserError)
    assert sum(run_id in str(ambiguous) for run_id in ids) == 5
    assert str(ambiguous).endswith(", …")


def test_an_unknown_id_names_the_nearest(job_id: str) -> None:
    """A typing slip is answered with the run that was meant."""
    error = runs("show", job_id.replace("toy", "tyo")).exception
    assert isinstance(error, UserError)
    assert f"did you mean {job_id!r}?" in str(error)


def test_a_run_without_new_files_says_so(job_id: str, tmp_path: Path) -> None:
    """Nothing to do is not shown as an empty table."""
    config = JobConfig(inputs=(tmp_path / "in",), out=tmp_path / "out")
    second = run_job(
        config, name="toy/lengths", app="toy", model_digest="m" * 64, config_digest="c" * 64, process=refuse_empty
    )
    assert job_id != second.run_id
    assert "No file was new in this run." in runs("show", second.run_id).stdout
    assert "nothing new" in runs("list").stdout
