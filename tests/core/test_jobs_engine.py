"""The batch engine in one process: what is done, skipped, refused, failed, and said."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from quatrain.core.errors import BadDataError, LockedError, UsageError, UserError
from quatrain.core.jobs import identity, plan
from quatrain.core.jobs.config import JobConfig
from quatrain.core.jobs.engine import run_job
from quatrain.core.jobs.files import OutputError, part_path
from quatrain.core.jobs.history import JobUnit, job_run, list_job_runs
from quatrain.core.jobs.identity import Job
from quatrain.core.jobs.lock import job_lock
from quatrain.core.jobs.report import JobReport
from quatrain.core.jobs.sink import Sink

Process = Callable[[Path, Sink], None]


def copy_amounts(path: Path, sink: Sink) -> None:
    """Publish the amounts of a one-column file; reject what is negative, refuse what is no number."""
    amounts = []
    for row, line in enumerate(path.read_text().splitlines()):
        try:
            amounts.append(float(line))
        except ValueError as error:
            raise BadDataError(f"expected a number in line {row + 1}, got {line!r}") from error
        if amounts[-1] < 0:
            sink.reject(row=row, reason="negative", column="amount", value=line)
    sink.count(len(amounts))
    sink.write("scores", pa.table({"amount": [amount for amount in amounts if amount >= 0]}))


class Desk:
    """An inbox, an out folder, and a job between them."""

    def __init__(self, root: Path) -> None:
        self.inbox = root / "in"
        self.out = root / "out"
        self.inbox.mkdir()

    def put(self, name: str, text: str) -> Path:
        """Return a new input file."""
        path = self.inbox / name
        path.write_text(text)
        return path

    def run(
        self, process: Process = copy_amounts, *, model: str = "model", settings: str = "config", **options: Any
    ) -> JobReport:
        """Run the job."""
        config = JobConfig(**{"inputs": (self.inbox,), "out": self.out, **options})
        return run_job(config, name="toy/copy", app="toy", model_digest=model, config_digest=settings, process=process)

    def files(self) -> list[str]:
        """Return every visible file below the out folder."""
        paths = [path for path in self.out.rglob("*") if path.is_file() and not path.name.startswith(".")]
        return sorted(str(path.relative_to(self.out)) for path in paths)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Return an empty desk."""
    return Desk(tmp_path)


def the_unit(report: JobReport) -> JobUnit:
    """Return what the ledger says of the only file of a run."""
    (unit,) = job_run(report.run_id).files
    return unit


def never(*arguments: object) -> None:
    """Fail if a file is processed, or read."""
    raise AssertionError(f"called with {arguments}")


def test_a_new_file_is_processed_and_reported(desk: Desk) -> None:
    """The report, the ledger and the out folder tell the same."""
    desk.put("day.csv", "1\n2\n")
    report = desk.run()
    assert (report.status, report.exit_code, report.rows, report.bad_rows) == ("done", 0, 2, 0)
    assert report.units == {"new": 1, "done": 1, "refused": 0, "failed": 0, "skipped": 0}
    (path,) = report.outputs
    assert path.parent == desk.out / "scores"
    assert pq.read_table(path)["amount"].to_pylist() == [1.0, 2.0]
    assert the_unit(report).outputs == (path,)
    assert path.name == f"day-{str(the_unit(report).key)[:12]}.parquet"


def test_a_rerun_skips_finished_files(desk: Desk) -> None:
    """Only what came since the last run is processed."""
    desk.put("one.csv", "1\n")
    desk.run()
    assert desk.run(never).units["skipped"] == 1
    desk.put("two.csv", "2\n")
    report = desk.run()
    assert (report.units["done"], report.units["skipped"]) == (1, 1)


def test_nothing_to_do_is_success(desk: Desk) -> None:
    """An empty inbox is an ordinary night."""
    report = desk.run()
    assert (report.status, report.exit_code, sum(report.units.values())) == ("done", 0, 0)


def test_an_unchanged_file_is_not_read_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large inbox costs a look at each file, not a reading."""
    monkeypatch.setattr(identity, "_RACY_NS", -(10**12))  # as if the files were old
    desk.put("day.csv", "1\n")
    desk.run()
    monkeypatch.setattr(plan, "take_snapshot", never)
    assert desk.run().units["skipped"] == 1


def test_a_fresh_file_is_read_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file may change within one tick of the file system's clock and keep its times."""
    desk.put("day.csv", "1\n")
    desk.run()
    read = []
    monkeypatch.setattr(plan, "take_snapshot", lambda path: read.append(path) or identity.take_snapshot(path))
    assert desk.run().units["skipped"] == 1
    assert read == [desk.inbox / "day.csv"]


@pytest.mark.parametrize("change", [{"model": "newer"}, {"settings": "other"}])
def test_a_changed_model_or_config_processes_again(desk: Desk, change: dict[str, str]) -> None:
    """The old result stays beside the new one, under another key."""
    desk.put("day.csv", "1\n")
    (old,) = desk.run().outputs
    report = desk.run(**change)
    assert report.units["done"] == 1
    assert report.outputs != (old,)
    assert old.exists()


def test_another_out_folder_is_another_job(desk: Desk, tmp_path: Path) -> None:
    """What was published elsewhere does not count here."""
    desk.put("day.csv", "1\n")
    desk.run()
    assert desk.run(out=tmp_path / "elsewhere").units["done"] == 1


def test_same_content_is_processed_once(desk: Desk) -> None:
    """The second file of the same bytes is recorded as a duplicate of the first, once."""
    first, second = desk.put("a.csv", "1\n"), desk.put("b.csv", "1\n")
    report = desk.run()
    assert (report.units["done"], report.units["skipped"]) == (1, 1)
    done, duplicate = job_run(report.run_id).files
    assert (done.path, done.status) == (str(first), "done")
    assert (duplicate.path, duplicate.status, duplicate.duplicate_of) == (str(second), "duplicate", str(first))
    assert job_run(desk.run().run_id).files == ()


def test_a_renamed_suffix_is_taken_up_again(desk: Desk) -> None:
    """A file refused under a wrong ending gets its chance under the right one."""
    wrong = desk.put("day.parquet", "1\n")

    def by_suffix(path: Path, sink: Sink) -> None:
        if path.suffix != ".csv":
            raise BadDataError("not Parquet")
        copy_amounts(path, sink)

    assert desk.run(by_suffix).units["refused"] == 1
    wrong.rename(desk.inbox / "day.csv")
    assert desk.run(by_suffix).units["done"] == 1


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"short")])
def test_a_lost_output_is_made_again(desk: Desk, harm: Callable[[Path], object]) -> None:
    """The ledger's word is checked against the disk; the new bytes are those of before."""
    desk.put("day.csv", "1\n-2\n")
    scores = desk.run(max_bad_ratio=1).outputs[0]
    before = scores.read_bytes()
    harm(scores)
    assert desk.run(max_bad_ratio=1).units["done"] == 1
    assert scores.read_bytes() == before
    assert desk.run(never).units["skipped"] == 1


def test_bad_rows_are_quarantined_and_the_good_ones_published(desk: Desk) -> None:
    """The quarantine line names file, row, column, value and reason."""
    desk.put("day.csv", "1\n-5\n3\n")
    report = desk.run(max_bad_ratio=0.5)
    assert (report.exit_code, report.rows, report.bad_rows) == (0, 3, 1)
    scores, quarantine = report.outputs
    assert pq.read_table(scores).num_rows == 2
    assert quarantine.parent == desk.out / "quarantine"
    line = {"file": "day.csv", "row": 1, "reason": "negative", "column": "amount", "value": "-5"}
    assert [json.loads(text) for text in quarantine.read_text().splitlines()] == [line]


def test_too_many_bad_rows_exit_65_once(desk: Desk) -> None:
    """The good rows are published all the same, and the next run has nothing to say."""
    desk.put("day.csv", "1\n-5\n3\n")
    report = desk.run(max_bad_ratio=0.3)
    assert (report.status, report.exit_code) == ("bad_data", 65)
    assert report.error == "1 of 3 rows were bad, more than max_bad_ratio 0.3 allows"
    assert pq.read_table(report.outputs[0]).num_rows == 2
    assert desk.run(never, max_bad_ratio=0.3).exit_code == 0


def test_a_share_at_the_limit_is_allowed(desk: Desk) -> None:
    """`max_bad_ratio` is the most that is put up with."""
    desk.put("day.csv", "1\n-5\n")
    assert desk.run(max_bad_ratio=0.5).exit_code == 0


def test_a_refused_file_leaves_only_its_reason(desk: Desk) -> None:
    """Nothing of it is published; it is not tried again; its reason is kept in both places."""
    desk.put("day.csv", "1\nx\n")
    report = desk.run()
    assert (report.exit_code, report.units["refused"]) == (65, 1)
    assert report.error == "1 of 1 files were refused, more than max_bad_ratio 0.05 allows"
    (quarantine,) = report.outputs
    reason = "expected a number in line 2, got 'x'"
    line = {"file": "day.csv", "row": None, "reason": reason, "column": None, "value": None}
    assert json.loads(quarantine.read_text()) == line
    assert (the_unit(report).reason, the_unit(report).rows) == (reason, 0)
    assert desk.run(never).units["skipped"] == 1


def test_rows_rejected_before_a_refusal_stay_in_its_quarantine(desk: Desk) -> None:
    """They help to mend the file."""
    desk.put("day.csv", "-1\nx\n")
    (quarantine,) = desk.run().outputs
    assert [json.loads(line)["row"] for line in quarantine.read_text().splitlines()] == [0, None]


def test_a_refusal_after_writing_publishes_no_rows(desk: Desk) -> None:
    """What was handed over before the refusal is taken back."""
    desk.put("day.csv", "1\n")

    def write_then_refuse(path: Path, sink: Sink) -> None:
        copy_amounts(path, sink)
        raise BadDataError("the footer is wrong")

    desk.run(write_then_refuse)
    assert [name.partition("/")[0] for name in desk.files()] == ["quarantine"]


def test_a_file_that_was_mended_by_the_app_loses_its_quarantine(desk: Desk) -> None:
    """When a removed quarantine file makes a unit run again, and now it is good, no stale lines stay."""
    desk.put("day.csv", "-1\n2\n")
    quarantine = desk.run(max_bad_ratio=1).outputs[1]
    (desk.out / "scores").joinpath(quarantine.stem + ".parquet").unlink()
    desk.run(lambda _path, sink: sink.write("scores", pa.table({"amount": [1.0]})))
    assert not quarantine.exists()


def test_a_failing_file_does_not_stop_the_others(desk: Desk) -> None:
    """It is reported with its reason, tried again next time, and nothing of it is left."""
    desk.put("bad.csv", "13\n")
    desk.put("good.csv", "1\n")

    def superstitious(path: Path, sink: Sink) -> None:
        copy_amounts(path, sink)
        if path.read_text() == "13\n":
            raise KeyError("13")

    report = desk.run(superstitious)
    assert (report.status, report.exit_code) == ("failed", 1)
    assert (report.units["done"], report.units["failed"]) == (1, 1)
    failed = job_run(report.run_id).files[0]
    assert (failed.status, failed.reason, failed.outputs) == ("failed", "KeyError: '13'", ())
    assert len(desk.files()) == 1
    assert desk.run().units == {"new": 1, "done": 1, "refused": 0, "failed": 0, "skipped": 1}


def append_to(path: Path) -> None:
    """Go on writing a file."""
    with path.open("a") as file:
        file.write("3\n")


def replace_by_equal(path: Path) -> None:
    """Put another file of the same content and times in its place."""
    status, content = path.stat(), path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("change", [append_to, replace_by_equal, Path.unlink])
@pytest.mark.parametrize("ending", [None, BadDataError("torn"), OSError("torn")])
def test_a_file_that_changes_while_it_is_read_is_not_published(
    desk: Desk, change: Callable[[Path], object], ending: Exception | None
) -> None:
    """Neither half a file's rows, nor a refusal or error that half a file explains, are taken at their word."""
    path = desk.put("day.csv", "1\n2\n")

    def while_uploading(path: Path, sink: Sink) -> None:
        copy_amounts(path, sink)
        change(path)
        if ending is not None:
            raise ending

    report = desk.run(while_uploading)
    assert (report.exit_code, report.units["failed"], desk.files()) == (1, 1, [])
    assert "changed while it was being read" in str(the_unit(report).reason)
    if path.exists():
        assert desk.run().units["done"] == 1


def test_a_dry_run_tells_the_plan_and_leaves_no_trace(desk: Desk, quatrain_home: Path, tmp_path: Path) -> None:
    """Before the first run there is no ledger, and a rehearsal makes none."""
    desk.put("a.csv", "1\n")
    desk.put("b.csv", "1\n")
    desk.put("c.csv", "2\n")
    before = sorted(tmp_path.rglob("*"))
    report = desk.run(never, dry_run=True, prom=tmp_path / "job.prom")
    assert sorted(tmp_path.rglob("*")) == before
    assert not quatrain_home.exists()
    assert (report.status, report.exit_code) == ("planned", 0)
    assert [step["action"] for step in report.to_dict()["plan"]] == ["process", "duplicate", "process"]
    assert (report.units["new"], report.units["skipped"]) == (2, 1)


def test_a_dry_run_knows_what_is_done(desk: Desk, quatrain_home: Path) -> None:
    """The ledger is read, and not a byte of it changes."""
    desk.put("a.csv", "1\n")
    desk.run()
    desk.put("b.csv", "2\n")
    ledger = quatrain_home / "ledger.db"
    before = ledger.read_bytes(), sorted(quatrain_home.iterdir()), ledger.stat().st_mtime_ns
    report = desk.run(never, dry_run=True)
    assert [step["action"] for step in report.plan] == ["skip", "process"]
    assert (ledger.read_bytes(), sorted(quatrain_home.iterdir()), ledger.stat().st_mtime_ns) == before


def test_since_leaves_older_files_alone(desk: Desk) -> None:
    """The file's modification time decides; a moment without zone is local time."""
    old, new = desk.put("old.csv", "1\n"), desk.put("new.csv", "2\n")
    moment = datetime(2024, 3, 5, 12, tzinfo=UTC)
    os.utime(old, (moment.timestamp() - 1, moment.timestamp() - 1))
    os.utime(new, (moment.timestamp(), moment.timestamp()))
    report = desk.run(since=moment.astimezone().replace(tzinfo=None))
    assert [unit.path for unit in job_run(report.run_id).files] == [str(new)]


def test_only_visible_files_that_match_are_taken_up(desk: Desk) -> None:
    """Uploaders write under hidden names; the case of an ending does not matter."""
    for name in ("day.csv", "DAY.CSV", ".day.csv", "notes.txt", "day.csv.part"):
        desk.put(name, f"{len(name)}\n")
    (desk.inbox / "deeper").mkdir()
    report = desk.run()
    assert [Path(unit.path).name for unit in job_run(report.run_id).files] == ["DAY.CSV", "day.csv"]


def test_a_file_may_be_named_itself(desk: Desk) -> None:
    """Whatever its ending, and once even if its folder is named too."""
    path = desk.put("day.csv", "1\n")
    assert desk.run(inputs=(path, desk.inbox, desk.inbox / ".." / "in" / "day.csv")).units["new"] == 1
    assert desk.run(inputs=desk.put("notes.txt", "2\n")).units["done"] == 1


def test_a_missing_input_is_a_usage_error_and_a_failed_run(desk: Desk) -> None:
    """An input that is not mounted must not look like an empty night."""
    with pytest.raises(
        UsageError, match=r"there is no input .*gone; check the path, and that its file system is mounted"
    ):
        desk.run(inputs=(desk.inbox / "gone",))
    (run,) = list_job_runs()
    assert (run.status, run.exit_code) == ("failed", 2)
    assert "there is no input" in str(run.error)


def test_files_that_vanish_after_the_listing_fail_alone(desk: Desk) -> None:
    """Each is told apart from an empty file."""
    for name in ("a.csv", "b.csv", "c.csv"):
        desk.put(name, f"{name}1\n".replace(name, ""))
    (desk.inbox / "b.csv").write_text("2\n")

    def remove_next(path: Path, sink: Sink) -> None:
        copy_amounts(path, sink)
        (desk.inbox / "b.csv").unlink(missing_ok=True)

    units = job_run(desk.run(remove_next).run_id).files
    assert [(unit.status, unit.reason) for unit in units[:2]] == [
        ("done", None),
        ("failed", "cannot be read: No such file or directory"),
    ]


def test_a_link_out_of_the_inbox_is_not_followed(desk: Desk, tmp_path: Path) -> None:
    """Who may drop files cannot make the job quote other files in its quarantine."""
    secret = tmp_path / "secret.csv"
    secret.write_text("-1\n")
    (desk.inbox / "link.csv").symlink_to(secret)
    desk.put("real.csv", "1\n")
    (desk.inbox / "zlink.csv").symlink_to("real.csv")
    report = desk.run()
    assert (report.exit_code, report.units["failed"], report.units["done"], report.units["skipped"]) == (1, 1, 1, 1)
    assert "is a symbolic link out of" in str(job_run(report.run_id).files[0].reason)
    assert desk.run(inputs=desk.inbox / "link.csv", max_bad_ratio=1).units["done"] == 1


def make_loop(path: Path) -> None:
    """Make a link to itself."""
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Path.mkdir, "is a folder, expected a file"),
        (os.mkfifo, "is a pipe, socket or device"),
        (make_loop, "cannot be read: Too many levels of symbolic links"),
        (lambda path: path.symlink_to("nowhere.csv"), "cannot be read: No such file or directory"),
    ],
)
def test_what_is_no_readable_file_fails_with_a_reason(desk: Desk, make: Callable[[Path], object], reason: str) -> None:
    """It is never waited for and never silently passed over."""
    make(desk.inbox / "day.csv")
    report = desk.run()
    assert report.exit_code == 1
    assert reason in str(the_unit(report).reason)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_file_fails_with_a_reason(desk: Desk) -> None:
    """Permission is a person's to give."""
    desk.put("day.csv", "1\n").chmod(0)
    assert "cannot be read: Permission denied" in str(the_unit(desk.run()).reason)


def test_names_that_are_no_text_are_carried_through(desk: Desk) -> None:
    """Bytes that are not UTF-8, control characters and long names reach the ledger and the out folder."""
    (desk.inbox / os.fsdecode(b"d\xff.csv")).write_text("1\n")
    desk.put("line\nbreak [red].csv", "2\n")
    desk.put("x" * 250 + ".csv", "3\n")
    report = desk.run()
    assert report.units["done"] == 3
    paths = [unit.path for unit in job_run(report.run_id).files]
    assert any(path.endswith("d\\xff.csv") for path in paths)
    assert all(name.isprintable() for name in desk.files())


def test_an_out_folder_that_cannot_be_made_is_a_clear_error(desk: Desk, tmp_path: Path) -> None:
    """Before any file is touched."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to the out folder .*file/out: Not a directory; create it"):
        desk.run(never, out=tmp_path / "file" / "out")


def test_a_full_disk_ends_the_run_and_loses_nothing(desk: Desk, tmp_path: Path) -> None:
    """What was finished stays finished; the rest is done when there is room."""
    desk.put("a.csv", "1\n")
    desk.put("b.csv", "2\n")
    prom = tmp_path / "job.prom"

    def run_full(path: Path, sink: Sink) -> None:
        if path.name == "b.csv":
            job = Job(name="toy/copy", app="toy", out=desk.out, model_digest="model", config_digest="config")
            key = job.unit_key(input_digest=identity.take_snapshot(path).digest, suffix=".csv")
            target = desk.out / "scores" / f"b-{key[:12]}.parquet"
            part_path(target, job.tag).symlink_to("/dev/full")
        copy_amounts(path, sink)

    with pytest.raises(OutputError, match="No space left on device; make room or make it writable, and run again"):
        desk.run(run_full, prom=prom)
    (run,) = list_job_runs()
    assert (run.status, run.exit_code, run.units["done"]) == ("failed", 1, 1)
    assert "\nquatrain_job_exit_code{" in prom.read_text()
    assert not list(desk.out.rglob("*.part"))
    assert desk.run().units == {"new": 1, "done": 1, "refused": 0, "failed": 0, "skipped": 1}


def test_stale_parts_of_this_job_are_swept(desk: Desk) -> None:
    """Those of another job in the same out folder are left alone."""
    folder = desk.out / "scores"
    folder.mkdir(parents=True)
    tag = Job(name="toy/copy", app="", out=desk.out, model_digest="", config_digest="").tag
    mine, other = part_path(folder / "day.parquet", tag), part_path(folder / "day.parquet", "0" * 8)
    mine.touch()
    other.touch()
    desk.run()
    assert (mine.exists(), other.exists()) == (False, True)


def test_a_locked_job_writes_nothing(desk: Desk, tmp_path: Path) -> None:
    """Neither the ledger nor the metrics of the run that holds the lock are touched."""
    job = Job(name="toy/copy", app="toy", out=desk.out, model_digest="", config_digest="")
    with job_lock(job), pytest.raises(LockedError, match=r"is running already into .*out; see `quatrain runs list`"):
        desk.run(never, prom=tmp_path / "job.prom")
    assert list_job_runs() == []
    assert not (tmp_path / "job.prom").exists()


def test_a_run_that_died_is_marked_by_the_next(desk: Desk, quatrain_home: Path) -> None:
    """No run stays "running" for ever."""
    died = desk.run().run_id
    with closing(sqlite3.connect(quatrain_home / "ledger.db")) as link:
        link.execute("update job_run set status = 'running', ended = null, exit_code = null")
        link.commit()
    desk.run()
    run = job_run(died)
    assert (run.status, run.exit_code) == ("failed", None)
    assert "ended without finishing the run" in str(run.error)


def test_an_error_of_the_engine_itself_is_recorded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is failed in the ledger, and the error goes on to its reader."""
    desk.put("day.csv", "1\n")

    def break_down(*_arguments: object) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr("quatrain.core.jobs.engine.decide", break_down)
    with pytest.raises(RuntimeError, match="no such luck"):
        desk.run()
    (run,) = list_job_runs()
    assert (run.status, run.exit_code, run.error) == ("failed", 1, "RuntimeError: no such luck")


def test_a_metrics_file_that_cannot_work_is_a_usage_error(desk: Desk, tmp_path: Path) -> None:
    """Told before the work, not after it."""
    with pytest.raises(UsageError, match=r"there is no folder .*nowhere for the metrics file"):
        desk.run(never, prom=tmp_path / "nowhere" / "job.prom")
    with pytest.raises(UsageError, match=r"the metrics file must end in \.prom, or node-exporter does not read it"):
        desk.run(never, prom=tmp_path / "job.txt")


def test_the_report_is_json(desk: Desk) -> None:
    """`to_dict` holds JSON values only, and no plan after a real run."""
    desk.put("day.csv", "1\n")
    document = desk.run().to_dict()
    assert json.loads(json.dumps(document)) == document
    assert "plan" not in document


def test_a_share_is_at_most_1() -> None:
    """A percentage is refused rather than read as "put up with everything"."""
    with pytest.raises(ValueError, match="less than or equal to 1"):
        JobConfig(inputs=(Path("in"),), out=Path("out"), max_bad_ratio=2)
