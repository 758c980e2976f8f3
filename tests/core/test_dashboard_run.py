"""The server listens on this machine only, and what stands in its way is said in words."""

from __future__ import annotations

import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from streamlit import config
from typer.testing import CliRunner

from quatrain.core.cli import dashboard as cli
from quatrain.core.dashboard import run
from quatrain.core.errors import UsageError, UserError

FOLDER = Path(run.__file__).parent


def flags() -> dict[str, str]:
    """Return the flags of the server's command line."""
    given = [word.removeprefix("--") for word in run.command(port=8765) if word.startswith("--")]
    return dict(word.split("=", 1) for word in given)


@pytest.fixture
def port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_server_is_for_this_machine_and_tells_nobody() -> None:
    """Loopback address, protections on, no usage statistics, no file watcher."""
    given = flags()
    assert given["server.address"] == given["browser.serverAddress"] == "127.0.0.1"
    assert given["server.port"] == "8765"
    assert given["server.enableCORS"] == given["server.enableXsrfProtection"] == "true"
    assert given["browser.gatherUsageStats"] == "false"
    assert given["server.fileWatcherType"] == "none"
    assert given["client.toolbarMode"] == "viewer"


def test_every_flag_is_one_that_streamlit_knows() -> None:
    """A misspelt option would be refused at start, on the user's machine."""
    known = set(config.get_config_options())
    assert set(flags()) <= known


def test_the_theme_gives_both_modes_and_fetches_nothing() -> None:
    """Light and dark are complete, and every font is a file beside the portal."""
    theme = tomllib.loads((FOLDER / "theme.toml").read_text(encoding="utf-8"))["theme"]
    assert set(theme["light"]) == set(theme["dark"])
    assert "http" not in (FOLDER / "theme.toml").read_text(encoding="utf-8")
    for face in theme["fontFaces"]:
        assert (FOLDER / "static" / Path(face["url"]).name).is_file()


def test_the_stylesheet_fetches_nothing() -> None:
    """No address and no import in the CSS or the pictures, beside the SVG namespace."""
    for file in (FOLDER / "assets").iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http" not in text
        assert "@import" not in text


def test_a_taken_port_is_told_with_another_one(port: int) -> None:
    """The fix is in the message."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(UserError, match=f"port {port} is already in use; give another one with --port {port + 1}"):
            run.serve(port=port)


def test_an_unknown_app_is_told_with_the_nearest() -> None:
    """A typing error does not open an empty portal."""
    with pytest.raises(UsageError, match="'fintec'; did you mean 'fintech'"):
        run.serve("fintec")


def test_serve_returns_the_exit_code_of_the_server(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app's name reaches the server through its environment only."""
    script = f"import os, sys; sys.exit(7 if os.environ.get({run.APP_VARIABLE!r}) == 'fintech' else 1)"
    monkeypatch.setattr(run, "command", lambda *, port: [sys.executable, "-c", script])  # noqa: ARG005 - its name
    assert run.serve("fintech", port=port) == 7


def test_stopping_the_command_stops_the_server(port: int) -> None:
    """A service manager that ends `quatrain dashboard` leaves no server behind."""
    server = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(9)); print('up', flush=True); signal.pause()"
    script = f"""
import sys
from quatrain.core.dashboard import run
run.command = lambda *, port: [sys.executable, "-c", {server!r}]
sys.exit(run.serve(port={port}))
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.terminate()
        assert process.wait(timeout=60) == 9


def test_the_command_passes_port_and_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """`quatrain dashboard --app fintech --port 9000` serves one app there."""
    called: dict[str, Any] = {}
    monkeypatch.setattr(cli, "serve", lambda app, *, port: called.update(app=app, port=port) or 0)
    app = typer.Typer()
    app.command()(cli.dashboard)
    result = CliRunner().invoke(app, ["--app", "fintech", "--port", "9000"])
    assert result.exit_code == 0
    assert called == {"app": "fintech", "port": 9000}
    assert "http://127.0.0.1:9000" in result.stderr


def test_the_first_page_starts_without_charts_torch_or_a_runtime() -> None:
    """What only other pages need is not paid for before the first paint."""
    script = (
        "import sys, quatrain.core.dashboard.shell, quatrain.core.dashboard.installed as found; found.pages(); "
        "print({'altair', 'torch', 'onnxruntime', 'lightgbm', 'sklearn', 'matplotlib'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "set()"


def test_the_command_starts_without_streamlit() -> None:
    """`quatrain --help` must not pay for the dashboard's packages."""
    script = "import sys, quatrain.core.cli.dashboard; print({'streamlit', 'pandas', 'altair'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "set()"
