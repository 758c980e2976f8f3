"""What a run's folder promises to who reads it later."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from quatrain.core import tracking
from quatrain.core.errors import LockedError, UserError

_ABANDON = """
import os, signal, sys
from pathlib import Path
from quatrain.core import tracking
run = tracking.start_run(app="fintech", command="train", config={}, root=Path(sys.argv[1]))
run.log(step=1, train_loss=0.5)
print(run.id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def _start(root: Path | None = None) -> tracking.Run:
    return tracking.start_run(app="fintech", command="train", config={"epochs": 3}, root=root)


def _abandoned(root: Path) -> str:
    """Return the id of a run whose process was killed."""
    command = [sys.executable, "-c", _ABANDON, str(root)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def test_a_runs_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Before any work is done, and without a trace."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot record a run in .*file/runs: Not a directory; make it writable"):
        tracking.start_run(app="toy", command="train", config={}, root=tmp_path / "file" / "runs")


def test_finished_run_reads_back_as_it_was_written() -> None:
    """Config, metrics, bundle digest and times come back from the folder."""
    with _start() as run:
        run.finish(metrics={"test": {"ap": np.float32(0.5)}}, bundle="abc")
    record = tracking.read_run(run.id)
    assert (record.status, record.config, record.bundle) == ("done", {"epochs": 3}, "abc")
    assert record.metrics == {"test": {"ap": 0.5}}
    assert record.ended is not None
    assert record.ended >= record.started


def test_runs_live_in_the_home_folder(quatrain_home: Path) -> None:
    """Without a root, a run lies in the runs folder of the user's home."""
    assert _start().folder.parent == quatrain_home / "runs"


def test_history_keeps_rows_in_order_and_nan_as_nan() -> None:
    """What was logged comes back; JSON has no NaN, so it travels as null."""
    run = _start()
    run.log(step=1, train_loss=0.25)
    run.log(step=2, train_loss=math.nan, valid_ap=np.float64(0.5))
    rows = tracking.read_history(run.id)
    assert rows[0] == {"step": 1, "train_loss": 0.25}
    assert math.isnan(rows[1]["train_loss"])
    assert rows[1]["valid_ap"] == 0.5
    for line in (run.folder / "history.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_torn_last_line_is_left_out() -> None:
    """A kill in the middle of a write loses that row and no other."""
    run = _start()
    run.log(step=1, train_loss=0.5)
    with (run.folder / "history.jsonl").open("ab") as file:
        file.write(b'{"step": 2, "train_')
    assert tracking.read_history(run.id) == [{"step": 1, "train_loss": 0.5}]


def test_restored_history_replaces_the_rows() -> None:
    """A resume takes the rows after its checkpoint away."""
    run = _start()
    for step in range(1, 5):
        run.log(step=step, train_loss=1 / step)
    run.restore_history(tracking.read_history(run.id)[:2])
    assert [row["step"] for row in tracking.read_history(run.id)] == [1, 2]


def test_exception_marks_the_run_failed_with_its_text() -> None:
    """What went wrong stands in the record."""
    with pytest.raises(RuntimeError, match="out of memory"), _start() as run:
        raise RuntimeError("out of memory")
    record = tracking.read_run(run.id)
    assert (record.status, record.error) == ("failed", "RuntimeError: out of memory")


def test_ctrl_c_marks_the_run_stopped() -> None:
    """A person's interrupt is not a failure."""
    with pytest.raises(KeyboardInterrupt), _start() as run:
        raise KeyboardInterrupt
    assert tracking.read_run(run.id).status == "stopped"


def test_stopped_run_stays_stopped_when_the_caller_gives_up() -> None:
    """A trainer that ends a stopped fit with an error did not fail: it was told to stop."""
    with pytest.raises(UserError, match="told to stop"), _start() as run:  # noqa: PT012 the run must be marked inside
        run.finish(status="stopped")
        raise UserError("told to stop")
    assert tracking.read_run(run.id).status == "stopped"


def test_stopped_run_stays_stopped_when_the_block_ends() -> None:
    """`fit` notes the stop; the end of the `with` block does not turn it into success."""
    with _start() as run:
        run.finish(status="stopped")
    assert tracking.read_run(run.id).status == "stopped"


def test_killed_process_shows_as_failed(tmp_path: Path) -> None:
    """A run whose process was killed does not claim to be running for ever."""
    record = tracking.read_run(_abandoned(tmp_path), tmp_path)
    assert record.status == "failed"
    assert record.error == "its process ended without finishing the run"


def test_killed_run_can_be_resumed_with_its_history(tmp_path: Path) -> None:
    """The same folder goes on, and the rows written before the kill are still there."""
    run_id = _abandoned(tmp_path)
    with tracking.resume_run(run_id, tmp_path) as run:
        assert tracking.read_run(run_id, tmp_path).status == "running"
        run.log(step=2, train_loss=0.25)
    assert tracking.read_run(run_id, tmp_path).status == "done"
    assert [row["step"] for row in tracking.read_history(run_id, tmp_path)] == [1, 2]


def test_run_of_a_living_process_cannot_be_resumed(tmp_path: Path) -> None:
    """Two writers would mix their histories."""
    run = _start(tmp_path)
    file = run.folder / "run.json"
    record = json.loads(file.read_text())
    record["process"]["pid"] = os.getppid()
    record["process"]["created"] = _created(os.getppid())
    file.write_text(json.dumps(record))
    with pytest.raises(LockedError, match=f"still running as process {os.getppid()}"):
        tracking.resume_run(run.id, tmp_path)
    assert tracking.resume_run(run.id, tmp_path, force=True).record.status == "running"


def _created(pid: int) -> float:
    import psutil

    return psutil.Process(pid).create_time()


def test_runs_are_listed_newest_first_without_damaged_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One unreadable record does not hide the others."""
    first, second, damaged = _start(tmp_path), _start(tmp_path), _start(tmp_path)
    (damaged.folder / "run.json").write_text("{")
    assert [record.id for record in tracking.list_runs(tmp_path)] == [second.id, first.id]
    assert "is not a readable run record" in caplog.text


def test_no_runs_folder_lists_as_empty() -> None:
    """A fresh machine has no runs, which is no error."""
    assert tracking.list_runs() == []


def test_unknown_run_names_the_nearest_one() -> None:
    """A slip of one letter is answered with the run that was meant."""
    run = _start()
    with pytest.raises(UserError, match=f"did you mean '{run.id}'"):
        tracking.read_run(run.id + "x")


@pytest.mark.parametrize("name", ["../runs", "..", "", "a/b", "/etc"])
def test_run_name_cannot_leave_the_runs_folder(name: str) -> None:
    """Names come from the command line and from a dashboard's address bar."""
    _start()
    with pytest.raises(UserError, match="no run is named"):
        tracking.read_history(name)


def test_only_rank_zero_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under torchrun the other processes leave no folder behind."""
    monkeypatch.setenv("RANK", "1")
    with _start(tmp_path / "runs") as run:
        run.log(step=1, train_loss=0.5)
    assert not run.is_recording
    assert not (tmp_path / "runs").exists()


def test_plot_is_a_png_beside_the_history() -> None:
    """The picture of a run with losses, a measure and a learning rate."""
    run = _start()
    assert run.plot() is None
    for step in range(1, 6):
        run.log(step=step, epoch=step, train_loss=1 / step, valid_loss=2 / step, valid_ap=0.1 * step, learning_rate=0.1)
    path = run.plot(best_step=4)
    assert path == run.folder / "history.png"
    assert path.read_bytes().startswith(b"\x89PNG")


def test_what_is_drawn_together() -> None:
    """Losses first, the learning rate last, and the lines of one measure in its panel; positions are not drawn."""
    rows = [
        {"step": 1, "epoch": 1, "learning_rate": 0.1, "valid_ap/trees": 0.5, "train_loss": 2.0},
        {"step": 2, "seconds": 3.0, "valid_ap/forest": 0.4, "valid_loss": 2.1, "valid_auc": 0.9},
    ]
    assert list(tracking.panels_of(rows).items()) == [
        ("loss", ["train_loss", "valid_loss"]),
        ("valid_ap", ["valid_ap/trees", "valid_ap/forest"]),
        ("valid_auc", ["valid_auc"]),
        ("learning_rate", ["learning_rate"]),
    ]


def test_reading_history_needs_no_plotting_library() -> None:
    """Listing runs must start at once: neither matplotlib nor torch is imported."""
    code = "import sys; from quatrain.core import tracking; tracking.list_runs(); "
    code += "sys.exit(bool({'matplotlib', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
