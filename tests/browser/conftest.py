"""A portal on a free port with real models and alerts, and a Chromium that may talk to nobody else."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from quatrain.core.dashboard.run import command

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
# Where Debian and Ubuntu put it; another browser is named by the variable.
CHROMIUM = os.environ.get("QUATRAIN_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
_ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"]
# A server or page that takes longer than this has hung.
_PATIENCE_S = 45.0
_WIDE = {"width": 1440, "height": 900}


@dataclass(frozen=True)
class Portal:
    """A running server, and the folder that its models, ledger and runs are in."""

    url: str
    home: Path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Return Chromium; without one the test is skipped, except in CI, where that is a failure."""
    if not Path(CHROMIUM).is_file():
        reason = "these tests drive Chromium; install it with `apt-get install chromium`, or set QUATRAIN_CHROMIUM"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    expect.set_options(timeout=_PATIENCE_S * 1000)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def serve() -> Callable[[Path], Any]:
    """Return a context manager that serves the portal of a home."""

    @contextmanager
    def serving(home: Path) -> Iterator[Portal]:
        port = _free_port()
        log = home.with_name(f"{home.name}.log")
        environment = {**os.environ, "QUATRAIN_CORE__HOME": str(home), "QUATRAIN_CORE__CACHE": str(home / "cache")}
        with log.open("wb") as stream:
            server = subprocess.Popen(command(port=port), env=environment, stdout=stream, stderr=subprocess.STDOUT)
            try:
                _wait_until_healthy(server, port, log)
                yield Portal(url=f"http://127.0.0.1:{port}", home=home)
            finally:
                server.terminate()
                server.wait(timeout=_PATIENCE_S)

    return serving


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Return a function that opens an address; every request of the test must have stayed on 127.0.0.1."""
    foreign: list[str] = []
    contexts = []

    def note(url: str) -> None:
        if not url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            foreign.append(url)

    def open_(url: str, *, scheme: Any = "light", width: int = _WIDE["width"]) -> Page:
        viewport: Any = {"width": width, "height": _WIDE["height"]}
        context = browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(_PATIENCE_S * 1000)
        page.on("request", lambda request: note(request.url))
        page.on("websocket", lambda websocket: note(websocket.url.replace("ws://", "http://", 1)))
        page.goto(url)
        settle(page)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert foreign == []


def settle(page: Page) -> None:
    """Wait until the page has been drawn and streamlit is idle."""
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.wait_for_selector("[data-testid=stSkeleton]", state="detached")


@pytest.fixture
def keep_picture() -> Callable[[Page, str], None]:
    """Return a function that saves what the page shows, where the README looks for it, if that is asked for."""

    def keep(page: Page, name: str) -> None:
        if not os.environ.get("QUATRAIN_SCREENSHOTS"):
            return
        IMAGES.mkdir(parents=True, exist_ok=True)
        page.evaluate("document.fonts.ready")
        # Charts and toasts fade in and out.
        page.wait_for_timeout(1200)
        page.screenshot(path=IMAGES / f"{name}.png")

    return keep


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_healthy(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5) as answer:
                if answer.read() == b"ok":
                    return
        except (urllib.error.URLError, ConnectionError):
            # The only way to learn that a server is up is to ask it again.
            time.sleep(0.1)
    pytest.fail(f"the portal did not start: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}")
