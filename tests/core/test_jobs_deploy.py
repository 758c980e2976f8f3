"""The examples in deploy/ load, parse and name commands that exist."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from quatrain.core.cli import main as front
from quatrain.core.config import Settings, load
from quatrain.fintech.score.run import ScoreConfig

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())


def test_the_config_is_read_without_complaint() -> None:
    """Every key is known, and the job that it describes is the one of the runbook."""
    file = DEPLOY / "fraud.toml"
    settings = load(Settings, section="core", file=file, environ={})
    assert (settings.signers, str(settings.home)) == ("known", "/var/lib/quatrain")
    config = load(ScoreConfig, section="fintech.score", file=file, environ={})
    assert config.bundle == "fintech/fraud@prod"
    assert config.prom is not None
    assert config.prom.suffix == ".prom"


@pytest.mark.parametrize("name", ["quatrain-fraud.cron", "systemd/quatrain-fraud.service"])
def test_the_command_exists_and_is_named_in_full(name: str) -> None:
    """Cron and systemd know neither the PATH nor the virtual environment of a shell."""
    (command,) = re.findall(r"^[^#\n]*?(/\S+/quatrain [^>\n]*)", (DEPLOY / name).read_text(), flags=re.MULTILINE)
    _, app, verb, *flags = shlex.split(command)
    if not any(group.name == app for group in front.app.registered_groups):
        front._add_apps()
    known = typer.main.get_command(front.app).commands[app].commands[verb]  # type: ignore[attr-defined]
    assert set(flags) <= {option for parameter in known.params for option in parameter.opts}


def test_the_crontab_is_one_that_cron_takes() -> None:
    """A time, a user, no bare percent sign, and a line break at the end; a dot in its name is told about."""
    text = (DEPLOY / "quatrain-fraud.cron").read_text()
    assert text.endswith("\n")
    jobs = [line for line in text.splitlines() if line and not line.startswith("#") and "=" not in line.split()[0]]
    assert [line.split()[5] for line in jobs] == ["quatrain"]
    assert all("%" not in line for line in jobs)
    assert "no file there whose name has a dot" in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """With the program where this test has one."""
    for unit in UNITS:
        text = unit.read_text().replace("/opt/quatrain/.venv/bin/quatrain", sys.executable)
        (tmp_path / unit.name).write_text(text)
    units = [str(tmp_path / unit.name) for unit in UNITS]
    result = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert str(tmp_path) not in result.stderr
    assert "quatrain-fraud" not in result.stderr
