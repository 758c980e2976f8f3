"""The batch engine as a real process: killed, stopped, and started twice."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from quatrain.core.jobs.history import list_job_runs
from quatrain.core.jobs.stop import StoppedError, stop_on_signals

WORKER = Path(__file__).with_name("jobs_worker.py")
N_KILLS = 20
N_GOOD = 6


def make_inputs(root: Path) -> Path:
    """Return `root` with eight input files: good ones, bad rows, a refused file, a duplicate."""
    folder = root / "in"
    folder.mkdir(parents=True)
    amounts = np.random.default_rng(7)
    for day in range(N_GOOD):
        rows = [round(amounts.uniform(-10, 100), 2) for _ in range(day + 1)]
        (folder / f"day{day:02}.csv").write_text("amount\n" + "".join(f"{row}\n" for row in rows))
    (folder / "day06.csv").write_text("not the column\n")
    (folder / "day07.csv").write_bytes((folder / "day03.csv").read_bytes())
    return root


def published(root: Path) -> dict[str, bytes]:
    """Return every file below the out folder but the engine's own hidden ones."""
    out = root / "out"
    files = [path for path in out.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def ledger_rows(root: Path) -> list[tuple[str, str, list[dict[str, str]]]]:
    """Return path, status and outputs of the units of one ledger; none before the first run created it."""
    if not (root / "ledger.db").exists():
        return []
    with closing(sqlite3.connect(root / "ledger.db")) as link:
        if not link.execute("select 1 from sqlite_master where name = 'job_unit'").fetchone():
            return []
        rows = link.execute("select path, status, outputs from job_unit order by id").fetchall()
    return [(path, status, json.loads(outputs)) for path, status, outputs in rows]


class Server:
    """The worker that forks one job per order, so that a kill costs no start-up."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, root: Path, *, kill_at: int | None = None, poison: str | None = None) -> dict[str, int]:
        """Return {"code", "lines"} of one run; `kill_at` 0 only counts lines, `poison` is a file to die on."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"root": str(root), "kill_at": kill_at, "poison": poison}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, int] = json.loads(self._process.stdout.readline())
        return answer


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Give a running worker with pipes; it is gone afterwards."""
    command = [sys.executable, str(WORKER), *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Give one forking worker for the module."""
    command = [sys.executable, str(WORKER), "serve"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        yield Server(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def memory_folder(tmp_path: Path) -> Iterator[Path]:
    """Give a folder in memory where there is one: a kill loses nothing there that it would not lose on a disk."""
    shared_memory = Path("/dev/shm")  # noqa: S108 a private folder is made inside
    if not os.access(shared_memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shared_memory) as folder:
        yield Path(folder)


def test_killed_at_random_moments_a_rerun_gives_the_same_bytes(server: Server, memory_folder: Path) -> None:
    """SIGKILL at 20 seeded lines of the engine leaves nothing that a rerun does not make whole."""
    expected, n_lines = clean_run(server, memory_folder)
    n_published_early = []
    n_killed = 0
    for moment in np.random.default_rng(20).choice(range(1, n_lines), N_KILLS, replace=False).tolist():
        root = make_inputs(memory_folder / f"killed-{moment}")
        # A run may take a few lines less than the counted one, by how files lie on the disk.
        code = server.run(root, kill_at=moment)["code"]
        assert code in {-signal.SIGKILL, 0}
        n_killed += code != 0
        check_what_a_kill_left(root, expected)
        n_published_early.append(len(published(root)))
        assert server.run(root)["code"] == 0
        assert published(root) == expected
        statuses = [status for _, status, _ in ledger_rows(root)]
        assert sorted(statuses) == ["done"] * N_GOOD + ["duplicate", "refused"]
        runs = list_job_runs(f"sqlite:///{root / 'ledger.db'}")
        assert [run.status for run in runs] in (["done", "failed"], ["done", "done"], ["done"])
    assert n_killed >= N_KILLS - 2
    # The moments were spread over the run, not all before or after the work.
    assert len(set(n_published_early)) > 5


def clean_run(server: Server, folder: Path) -> tuple[dict[str, bytes], int]:
    """Return what a run that nobody disturbs publishes, and how many lines it executes."""
    reference = make_inputs(folder / "reference")
    counted = server.run(reference, kill_at=0)
    assert counted["code"] == 0
    return published(reference), counted["lines"]


def check_what_a_kill_left(root: Path, expected: dict[str, bytes]) -> None:
    """Everything under a final name is whole, and the ledger claims nothing that is not there."""
    for name, content in published(root).items():
        assert name.endswith(".part") or content == expected[name]
    for _, _, outputs in ledger_rows(root):
        for output in outputs:
            assert hashlib.sha256(Path(output["path"]).read_bytes()).hexdigest() == output["sha256"]


def test_killed_again_and_again_the_job_still_ends(server: Server, memory_folder: Path) -> None:
    """A machine that dies every few files gets through the night all the same."""
    expected, n_lines = clean_run(server, memory_folder)
    root = make_inputs(memory_folder / "unlucky")
    codes = [server.run(root, kill_at=n_lines // 2)["code"] for _ in range(6)]
    assert codes[:2] == [-signal.SIGKILL] * 2
    assert codes[-1] == 0
    assert published(root) == expected


def test_a_file_that_kills_every_run_does_not_starve_the_others(server: Server, memory_folder: Path) -> None:
    """After two deaths in a row on one file it is taken up last, and forgiven once it is done."""
    expected, _ = clean_run(server, memory_folder)
    root = make_inputs(memory_folder / "poisoned")
    n_finished = []
    for _ in range(3):
        assert server.run(root, poison="day03.csv")["code"] == -signal.SIGKILL
        n_finished.append(len(ledger_rows(root)))
    # Its duplicate waits behind it, so that the outputs keep the name of the first.
    assert n_finished == [3, 3, 6]
    assert server.run(root)["code"] == 0
    assert published(root) == expected
    assert [path.suffix for path in (root / "out").glob(".*")] == [".lock"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_run_between_batches(number: signal.Signals, tmp_path: Path) -> None:
    """The file under way is abandoned, the run is marked stopped, and the next one ends the work."""
    root = make_inputs(tmp_path / "stopped")
    with started("once", str(root), "hold") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in ("", "\n", "\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline() == "processing\n"
        process.send_signal(number)
        _, errors = process.communicate("\n", timeout=60)
    assert process.returncode == 1
    assert [status for _, status, _ in ledger_rows(root)] == ["done", "done"]
    assert not [name for name in published(root) if name.endswith(".part")]
    (run,) = list_job_runs(f"sqlite:///{root / 'ledger.db'}")
    assert (run.status, run.exit_code) == ("stopped", 1)
    assert f"stopped by {number.name}" in str(run.error)
    assert "quatrain_job_exit_code{" in (root / "job.prom").read_text()
    logged = [json.loads(line) for line in errors.splitlines()]
    assert {line["run_id"] for line in logged} == {run.id}
    with started("once", str(root)) as process:
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert len([1 for _, status, _ in ledger_rows(root) if status == "done"]) == N_GOOD


def test_a_second_start_exits_75(tmp_path: Path) -> None:
    """Two processes cannot run one job into one folder; the first is not disturbed."""
    root = make_inputs(tmp_path / "twice")
    with started("once", str(root), "hold") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "processing\n"
        with started("once", str(root)) as second:
            _, errors = second.communicate(timeout=60)
        assert second.returncode == 75
        assert "the job toy/double is running already" in errors
        first.communicate("\n" * 8, timeout=60)
    assert first.returncode == 0
    assert len(list_job_runs(f"sqlite:///{root / 'ledger.db'}")) == 1


def test_a_second_signal_acts_as_without_the_engine() -> None:
    """Who asks twice does not want to wait for the batch."""
    # A shell that starts the tests in the background has SIGINT ignored.
    before, interrupt = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with stop_on_signals() as stop:
        stop.check()
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(StoppedError, match="stopped by SIGTERM"):
            stop.check()
        assert signal.getsignal(signal.SIGTERM) == before
    assert signal.getsignal(signal.SIGINT) == interrupt
