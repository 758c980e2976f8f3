"""The front door: exit codes, help, JSON output and logs."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from quatrain.core import logs
from quatrain.core.cli import main as front
from quatrain.core.cli.options import print_json, verbosity
from quatrain.core.errors import BadDataError


def quatrain(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Return the finished `quatrain` process for these arguments."""
    code = "from quatrain.core.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_help_lists_every_installed_app() -> None:
    """An app that registers its entry point appears without core knowing it."""
    result = quatrain("--help")
    assert result.returncode == 0
    assert "fintech" in result.stdout


def test_help_imports_nothing_heavy() -> None:
    """`--help` stays fast because no scientific package is imported for it."""
    code = (
        "import sys\n"
        "from quatrain.core.cli import main\n"
        "main._add_apps()\n"
        "heavy = {'numpy', 'torch', 'pandas', 'pyarrow', 'sqlalchemy', 'onnxruntime', 'streamlit', 'lightgbm'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"


def test_version_is_the_installed_one() -> None:
    """--version prints the distribution's version."""
    assert quatrain("--version").stdout.strip() == f"quatrain {version('quatrain-core')}"


def test_unknown_command_exits_2() -> None:
    """A wrong command is a usage error."""
    assert quatrain("no-such-command").returncode == 2


def test_user_errors_print_without_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A UserError becomes one line on stderr and its own exit code."""

    def fail() -> None:
        raise BadDataError("the file is empty")

    monkeypatch.setattr(front, "app", fail)
    monkeypatch.setattr(front, "_add_apps", lambda: None)
    with pytest.raises(SystemExit, match="65"):
        front.main()
    captured = capsys.readouterr()
    assert captured.err == "error: the file is empty\n"
    assert captured.out == ""


def test_json_output_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    """NaN and infinity become null, so that any JSON reader takes the output."""
    print_json({"ap": float("nan"), "rows": [{"x": float("inf")}, {"x": 0.5}]})
    assert json.loads(capsys.readouterr().out) == {"ap": None, "rows": [{"x": None}, {"x": 0.5}]}


def test_quiet_wins_over_verbose() -> None:
    """-q -v is quiet."""
    assert verbosity(quiet=True, verbose=True) == -1
    assert verbosity(quiet=False, verbose=True) == 1


def test_json_logs_carry_bound_values(capsys: pytest.CaptureFixture[str]) -> None:
    """A log line is one JSON object with the run id and the values given to it; the next run has its own."""
    root = logging.getLogger()
    before = list(root.handlers), root.level
    try:
        logs.configure(json=True)
        with logs.bound(run_id="r1"):
            logging.getLogger("quatrain.test").info("scored", extra={"rows": 3})
        logging.getLogger("quatrain.test").info("left")
    finally:
        root.handlers, level = before[0], before[1]
        root.setLevel(level)
    line, after = map(json.loads, capsys.readouterr().err.splitlines())
    assert "run_id" not in after
    assert (line["event"], line["run_id"], line["rows"], line["level"]) == ("scored", "r1", 3, "info")


def test_config_flag_reaches_the_settings_of_every_room(tmp_path: Path) -> None:
    """--config also gives [core]: the ledger that a command opens later is the file's."""
    file = tmp_path / "c.toml"
    file.write_text(f'[core]\nstore = "{tmp_path / "elsewhere"}"\n', encoding="utf-8")
    result = quatrain("fintech", "score", "--data", str(tmp_path), "--config", str(file))
    assert result.returncode != 0
    assert str(tmp_path / "elsewhere") in result.stderr
