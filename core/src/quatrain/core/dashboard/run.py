"""Start the dashboard server on this machine, and only for this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from quatrain.core.errors import ExitCode, UsageError, UserError, did_you_mean, require

# The portal shows one app only when this names it; `serve(app)` sets it for the server.
APP_VARIABLE = "QUATRAIN_DASHBOARD_APP"
# The entry points that give an app's pages and its card on the overview.
PAGES_GROUP = "quatrain.dashboards"
CARDS_GROUP = "quatrain.cards"
DEFAULT_PORT = 8501
_ADDRESS = "127.0.0.1"
_FOLDER = Path(__file__).resolve().parent


def serve(app: str | None = None, *, port: int = DEFAULT_PORT, options: Sequence[str] = ()) -> int:
    """Serve the portal, or one app's pages, on 127.0.0.1 until stopped; return the exit code.

    `options` are further streamlit flags. Raises UsageError for an unknown app and UserError
    when the port is taken or streamlit is missing.
    """
    require("streamlit", package="quatrain-core[dashboard]")
    if app is not None:
        _check_app(app)
    _check_port(port)
    environment = os.environ | ({APP_VARIABLE: app} if app else {})
    server = subprocess.Popen([*command(port=port), *options], env=environment)  # noqa: S603 - our own command line
    # Who stops this process, such as a service manager, means the server.
    before = signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    try:
        return server.wait()
    except KeyboardInterrupt:
        server.wait()
        return ExitCode.DONE
    finally:
        server.terminate()
        signal.signal(signal.SIGTERM, before)


def command(*, port: int) -> list[str]:
    """Return the command line of the server, configured by flags so that no file of the user's counts."""
    flags = {
        "server.address": _ADDRESS,
        "server.port": str(port),
        "server.headless": "true",
        "server.enableCORS": "true",
        "server.enableXsrfProtection": "true",
        "server.enableStaticServing": "true",
        "server.fileWatcherType": "none",
        "server.maxUploadSize": "1",
        "browser.serverAddress": _ADDRESS,
        "browser.gatherUsageStats": "false",
        "client.showErrorDetails": "type",
        "client.toolbarMode": "viewer",
        "theme.base": str(_FOLDER / "theme.toml"),
    }
    given = [f"--{name}={value}" for name, value in flags.items()]
    # A request for any other host name is another site's script (DNS rebinding).
    given += [f"--server.allowedHosts={host}" for host in (_ADDRESS, "localhost")]
    return [sys.executable, "-m", "streamlit", "run", str(_FOLDER / "portal.py"), *given]


def _check_app(app: str) -> None:
    known = {point.name for point in entry_points(group=PAGES_GROUP)}
    if app not in known:
        raise UsageError(f"no installed app is called {app!r}{did_you_mean(app, known)}")


def _check_port(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_ADDRESS, port))
        except OSError as error:
            raise UserError(f"port {port} is already in use; give another one with --port {port + 1}") from error
