"""The ledger on SQLite and on PostgreSQL, and its errors."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from quatrain.core.errors import LockedError, MissingExtraError, UsageError
from quatrain.core.jobs import ledger as ledgers
from quatrain.core.jobs.config import JobConfig
from quatrain.core.jobs.earlier import Earlier
from quatrain.core.jobs.engine import run_job
from quatrain.core.jobs.history import job_run, list_job_runs, unit_outputs
from quatrain.core.jobs.identity import Job
from quatrain.core.jobs.ledger import Ledger, LedgerError, UnitRecord, connect, open_ledger, read_ledger
from quatrain.core.jobs.report import JobReport
from quatrain.core.jobs.sink import Sink

TOTALS: dict[str, Any] = {"units": {}, "rows": 0, "bad_rows": 0, "seconds": 0.0}


def find_server() -> Path | None:
    """Return the folder of PostgreSQL's programs; Debian keeps them off the PATH."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(folders) if (folder / "initdb").exists()), None)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Give the URL of a throwaway PostgreSQL server, reached by a socket only."""
    programs = find_server()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed: initdb is not found")
    if not os.environ.get("CI"):
        pytest.importorskip("psycopg", reason="PostgreSQL's driver is not installed")
    # The server refuses to run as root.
    is_root = os.geteuid() == 0
    become = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"] if is_root else []
    with tempfile.TemporaryDirectory() as folder:
        if is_root:
            shutil.chown(folder, "postgres")
        data, options = f"{folder}/data", f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        control = [*become, str(programs / "pg_ctl"), "-D", data, "-w", "-s"]
        run_quietly(*become, str(programs / "initdb"), "-D", data, "-A", "trust", "-U", "test", "-N")
        run_quietly(*control, "-l", f"{folder}/log", "-o", options, "start")
        try:
            yield f"postgresql://test@/postgres?host={folder}"
        finally:
            run_quietly(*control, "-m", "immediate", "stop")


def run_quietly(*command: str) -> None:
    """Run a program of the server; from /, because its user may not enter our folders."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")


@pytest.fixture
def postgres(server: str) -> Iterator[str]:
    """Give the URL of an empty PostgreSQL database."""
    yield server
    engine = sa.create_engine(server.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as link:
        link.execute(sa.text("drop table if exists job_run, job_unit, job_source, toy_note"))
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty ledger of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new folder' / 'ledger.db'}"
    empty: str = request.getfixturevalue("postgres")
    return empty


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Return a job."""
    return Job(name="toy/copy", app="toy", out=tmp_path / "out", model_digest="m", config_digest="c")


def copy_lines(path: Path, sink: Sink) -> None:
    """Publish the lines of a file; reject empty ones."""
    lines = path.read_text().splitlines()
    sink.count(len(lines))
    for row, line in enumerate(lines):
        if not line:
            sink.reject(row=row, reason="empty")
    sink.write("lines", pa.table({"line": [line for line in lines if line]}))


def run_copy(tmp_path: Path, url: str, *, model: str = "m") -> JobReport:
    """Run a job from `in` to `out`."""
    config = JobConfig(inputs=(tmp_path / "in",), out=tmp_path / "out", max_bad_ratio=1)
    return run_job(
        config, name="toy/copy", app="toy", model_digest=model, config_digest="c", process=copy_lines, ledger_url=url
    )


def test_earlier_units_come_in_the_order_of_their_records(url: str, job: Job) -> None:
    """Those done or refused, since a time, with what they published; the first record of a key is known by it."""

    def published(name: str) -> list[dict[str, Any]]:
        return [{"output": "lines", "path": f"/out/{name}", "size": 1, "sha256": name}]

    with open_ledger(url) as ledger:
        ledger.begin_run(job, run_id="r", config={})
        record = partial(ledger.record, job, run_id="r", totals=TOTALS)
        for name in ("a", "b"):
            record(UnitRecord(path=name, status="done", key=name, input_digest=f"i{name}", outputs=published(name)))
        record(UnitRecord(path="c", status="failed", key="c", input_digest="ic"))
        between = datetime.now(UTC)
        again = record(UnitRecord(path="a", status="refused", key="a", input_digest="ia"))
        rows = ledger.settled_units(job, since=datetime(1970, 1, 1, tzinfo=UTC))
        assert [row[1:] for row in rows] == [
            ("a", "ia", published("a")),
            ("b", "ib", published("b")),
            ("a", "ia", []),
        ]
        assert ledger.first_settled(job, "a") == rows[0][0] < again == rows[2][0]
        assert ledger.first_settled(job, "c") is None
        assert [row[1] for row in ledger.settled_units(job, since=between)] == ["a"]
        earlier = Earlier(ledger, job)
        assert [file.path.name for file in earlier.outputs("lines", key="new")] == ["b"]
        earlier.add(
            UnitRecord(path="d", status="done", key="d", input_digest="id", outputs=published("d")), id=again + 1
        )
        assert [file.path.name for file in earlier.outputs("lines", key="new")] == ["b", "d"]
        assert not earlier.outputs("lines", key="a")
        assert [file.path.name for file in earlier.outputs("lines", key="b")] == ["a"]


def test_a_job_runs_and_resumes_on_either_database(url: str, tmp_path: Path) -> None:
    """Runs, files, duplicates and outputs come back as they were recorded."""
    (tmp_path / "in").mkdir()
    for name, text in [("a.csv", "x\n\ny\n"), ("b.csv", "x\n\ny\n"), ("c.csv", "z\n")]:
        (tmp_path / "in" / name).write_text(text)
    assert list_job_runs(url) == []
    report = run_copy(tmp_path, url)
    assert report.units == {"new": 2, "done": 2, "refused": 0, "failed": 0, "skipped": 1}
    again = run_copy(tmp_path, url)
    assert again.units == {"new": 0, "done": 0, "refused": 0, "failed": 0, "skipped": 3}
    assert [run.id for run in list_job_runs(url)] == [again.run_id, report.run_id]
    run = job_run(report.run_id, url)
    assert [(Path(unit.path).name, unit.status) for unit in run.files] == [
        ("a.csv", "done"),
        ("b.csv", "duplicate"),
        ("c.csv", "done"),
    ]
    assert (run.rows, run.bad_rows, run.exit_code, run.units) == (4, 1, 0, report.units)
    assert unit_outputs(name="toy/copy", output="lines", ledger_url=url) == [
        path for path in report.outputs if path.suffix == ".parquet"
    ]


def test_texts_that_databases_refuse_are_recorded_escaped(url: str, job: Job) -> None:
    """A reason may quote the very bytes that made the file bad."""
    with open_ledger(url) as ledger:
        ledger.begin_run(job, run_id="r", config={})
        ledger.record(job, UnitRecord(path="p" * 4000, status="failed", reason="a\0b\udc80"), run_id="r", totals=TOTALS)
        ledger.end_run("r", status="failed", exit_code=1, error="\0", totals=TOTALS)
    run = job_run("r", url)
    assert (run.error, run.files[0].reason, run.files[0].path) == ("\\x00", "a\\x00b\\udc80", "p" * 4000)


def test_many_processes_may_create_the_tables_at_once(url: str) -> None:
    """The first night of two jobs in one database is like any other."""
    errors: list[Exception] = []
    barrier = threading.Barrier(4)

    def create() -> None:
        barrier.wait()
        try:
            with open_ledger(url):
                pass
        except Exception as error:  # whatever it is, the test shows it
            errors.append(error)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_an_app_keeps_its_own_tables_beside_the_runs(url: str) -> None:
    """It reaches the same database by the same URL, and its tables are there, with their indexes."""
    notes = sa.MetaData()
    note = sa.Table("toy_note", notes, sa.Column("text", sa.Text, index=True))
    for text in ("one", "two"):
        with connect(url, tables=notes) as link, link.begin():
            link.execute(sa.insert(note), {"text": text})
    with connect(url, tables=notes) as link:
        assert list(link.scalars(sa.select(note.c.text).order_by(note.c.text))) == ["one", "two"]
        assert [index["name"] for index in sa.inspect(link).get_indexes("toy_note")] == ["ix_toy_note_text"]
        assert not sa.inspect(link).has_table("job_run")


def test_on_postgresql_another_host_is_locked_out(postgres: str, tmp_path: Path, job: Job) -> None:
    """Hosts that share no file system share the ledger; the lock ends with the connection."""
    (tmp_path / "in").mkdir()
    job = Job(name="toy/copy", app="toy", out=(tmp_path / "out").resolve(), model_digest="m", config_digest="c")
    with open_ledger(postgres) as other_host:
        other_host.lock(job)
        with pytest.raises(LockedError, match="the job toy/copy is running already"):
            run_copy(tmp_path, postgres)
    assert run_copy(tmp_path, postgres).exit_code == 0


def test_on_postgresql_a_lost_connection_fails_the_run(postgres: str, job: Job) -> None:
    """Who lost the lock cannot record a unit either."""
    with pytest.raises(LedgerError, match=r"the ledger postgresql.* failed: .*; check that it is reachable"):
        record_after_loss(postgres, job)


def record_after_loss(postgres: str, job: Job) -> None:
    """Take the lock, lose the connection, and record a unit as if nothing had happened."""
    with open_ledger(postgres) as ledger:
        ledger.lock(job)
        ledger.begin_run(job, run_id="lost", config={})
        end_other_connections(postgres)
        ledger.record(job, UnitRecord(path="p", status="done"), run_id="lost", totals=TOTALS)


def end_other_connections(postgres: str) -> None:
    """Do what a restart of the server does to its clients."""
    engine = sa.create_engine(postgres.replace("postgresql:", "postgresql+psycopg:"))
    others = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'test' and pid <> pg_backend_pid()"
    with engine.connect() as link:
        link.execute(sa.text(others))
    engine.dispose()


def test_only_the_newest_result_of_a_content_counts(tmp_path: Path, quatrain_home: Path) -> None:
    """A newer model replaces the old scores of the same bytes, and moves them to the end."""
    url = f"sqlite:///{quatrain_home / 'ledger.db'}"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("1\n")
    run_copy(tmp_path, url)
    (tmp_path / "in" / "b.csv").write_text("2\n")
    second = run_copy(tmp_path, url).outputs
    (tmp_path / "in" / "b.csv").unlink()
    newer = run_copy(tmp_path, url, model="newer").outputs
    assert unit_outputs(name="toy/copy", output="lines") == [*second, *newer]
    newer[0].unlink()
    assert unit_outputs(name="toy/copy", output="lines") == [*second]


def test_an_overwritten_file_keeps_both_results(tmp_path: Path, quatrain_home: Path) -> None:
    """An inbox whose file has the same name each night loses no night."""
    url = f"sqlite:///{quatrain_home / 'ledger.db'}"
    (tmp_path / "in").mkdir()
    published = []
    for night in ("1\n", "2\n"):
        (tmp_path / "in" / "today.csv").write_text(night)
        published += run_copy(tmp_path, url).outputs
    assert unit_outputs(name="toy/copy", output="lines") == published
    assert len(published) == 2


def test_reading_makes_no_ledger(quatrain_home: Path) -> None:
    """Who only looks leaves nothing behind."""
    assert list_job_runs() == []
    assert unit_outputs(name="toy/copy", output="lines") == []
    assert not quatrain_home.exists()


def test_a_database_without_tables_reads_as_empty(tmp_path: Path) -> None:
    """A file that SQLite created and a killed run never filled."""
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as link:
        link.execute("create table other (x)")
    with read_ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        assert ledger is None


def test_a_reader_takes_back_what_a_killed_run_left_open(tmp_path: Path, job: Job) -> None:
    """A kill inside a transaction does not blind `quatrain runs` and the dashboard until the next run."""
    path = tmp_path / "ledger.db"
    with open_ledger(f"sqlite:///{path}") as ledger:
        ledger.begin_run(job, run_id="whole", config={})
    # Far more than the cache holds, so that half of the transaction is in the file already.
    script = (
        "import os, signal, sqlite3, sys\n"
        "link = sqlite3.connect(sys.argv[1])\n"
        "link.execute('pragma cache_size = 1')\n"
        "link.execute('begin')\n"
        "for number in range(2000):\n"
        "    link.execute('insert into job_source values (?, ?, 0, 0, 0, 0, 0, 0)', (f'{number:064}', 'd' * 64))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False, timeout=60)
    assert (tmp_path / "ledger.db-journal").exists()
    (run,) = list_job_runs(f"sqlite:///{path}")
    assert run.id == "whole"
    assert not (tmp_path / "ledger.db-journal").exists()


def test_a_reader_cannot_write(tmp_path: Path, job: Job) -> None:
    """The connection itself refuses."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with open_ledger(url):
        pass
    with pytest.raises(LedgerError, match="attempt to write a readonly database"):
        write_through_reader(url, job)


def write_through_reader(url: str, job: Job) -> None:
    """Try to begin a run on a reader's connection."""
    with read_ledger(url) as ledger:
        assert isinstance(ledger, Ledger)
        ledger.begin_run(job, run_id="r", config={})


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("not a url", "the ledger must be a URL such as sqlite:////var/lib/quatrain/ledger.db"),
        ("mysql://host/db", "the ledger is kept in sqlite or postgresql, got mysql"),
    ],
)
def test_a_wrong_url_is_a_usage_error(url: str, message: str) -> None:
    """It says what is taken."""
    with pytest.raises(UsageError, match=message):
        list_job_runs(url)


def test_a_missing_driver_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL is an extra."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'quatrain-core\[postgres\]'"):
        list_job_runs("postgresql://host/db")


def test_an_unreachable_server_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    """A password in the URL stays out of every log."""
    pytest.importorskip("psycopg")
    monkeypatch.setattr(ledgers, "_PATIENCE_S", 2)
    shown = rf"postgresql\+psycopg://me:\*\*\*@127.0.0.1:{closed_port}/db failed: .*refused"
    with pytest.raises(LedgerError, match=shown) as caught:
        list_job_runs(f"postgresql://me:secret@127.0.0.1:{closed_port}/db")
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    """Rather than overwritten."""
    (tmp_path / "ledger.db").write_text("a shopping list, long enough to be no header of a database\n" * 20)
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with pytest.raises(LedgerError, match="file is not a database"), open_ledger(url):
        pass
    with suppress(LedgerError), open_ledger(url):
        pass
    assert (tmp_path / "ledger.db").read_text().startswith("a shopping list")


def test_a_ledger_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """It names the folder."""
    (tmp_path / "file").write_text("")
    url = f"sqlite:///{tmp_path / 'file' / 'ledger.db'}"
    with pytest.raises(LedgerError, match=r"cannot create the folder of the ledger .*file/ledger"), open_ledger(url):
        pass
