"""Every command that a document shows exists, and every tutorial runs as written."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import typer.main

from quatrain.core.cli import main as front

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("core/*.md"),
        *ROOT.glob("apps/*/*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("deploy/**/*.md"),
    ]
)
TUTORIALS = sorted(ROOT.glob("docs/tutorials/*.md"))
_BLOCK = re.compile(r"```(?:bash|console|sh)\n(.*?)```", re.DOTALL)
_RUN = re.compile(r"```(bash|console|sh|python)\n(.*?)```", re.DOTALL)


def shell_lines(document: Path) -> list[str]:
    """Return the commands of a document's shell blocks, continued lines joined."""
    blocks = _BLOCK.findall(document.read_text(encoding="utf-8"))
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line.removeprefix("$ ") for line in lines if line and not line.startswith("#")]


def script_of(text: str) -> str:
    """Return a tutorial's blocks as one shell script; Python blocks with no shell block between share one program."""
    blocks = [("python" if kind == "python" else "shell", code) for kind, code in _RUN.findall(text)]
    parts = []
    for kind, group in groupby(blocks, key=lambda block: block[0]):
        code = "\n".join(code for _, code in group)
        parts.append(f"python -W error - <<'END_OF_PYTHON'\n{code}\nEND_OF_PYTHON" if kind == "python" else code)
    return "\n".join(parts)


SHOWN = [(document, line) for document in DOCUMENTS for line in shell_lines(document)]


@pytest.fixture(scope="module")
def commands() -> Any:
    """Return the whole command tree, apps included."""
    if not any(group.name == "fintech" for group in front.app.registered_groups):
        front._add_apps()
    return typer.main.get_command(front.app)


def words_after_quatrain(line: str) -> list[str] | None:
    """Return the arguments of a `quatrain` command, or None for another command."""
    words = shlex.split(line, comments=True)
    while words and "=" in words[0] and not words[0].startswith("-"):
        words.pop(0)
    if not words or Path(words[0]).name != "quatrain":
        return None
    stops = [index for index, word in enumerate(words) if word in {"|", ">", ">>", "2>", "2>>", "&&", ";", "&"}]
    return words[1 : stops[0] if stops else None]


@pytest.mark.parametrize(("document", "line"), SHOWN, ids=[f"{path.name}: {line[:60]}" for path, line in SHOWN])
def test_shown_commands_exist(document: Path, line: str, commands: Any) -> None:
    """A command in a document is one that the program or the Makefile has, with these flags."""
    if line.startswith("make ") or " make " in line:
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
        words = shlex.split(line.split("make ", 1)[1], comments=True)
        assert {word for word in words if "=" not in word and not word.startswith("-")} <= targets
    words = words_after_quatrain(line)
    if words is None:
        return
    node = commands
    while words and hasattr(node, "commands") and words[0] in node.commands:
        node = node.commands[words.pop(0)]
    flags = {flag for parameter in node.params for flag in [*parameter.opts, *parameter.secondary_opts]} | {"--help"}
    assert not (hasattr(node, "commands") and words and not words[0].startswith("-")), f"{document.name}: {line}"
    shown = {word.partition("=")[0] for word in words if re.match(r"-{1,2}[a-z]", word)}
    assert shown <= flags, f"{document.name}: {line}"


def test_no_help_loses_a_word_in_brackets(commands: Any) -> None:
    """To the help's renderer [core] is a style, and shown as nothing, unless its bracket is escaped."""
    nodes, texts = [commands], []
    while nodes:
        node = nodes.pop()
        nodes += getattr(node, "commands", {}).values()
        texts += [node.help or "", *(getattr(parameter, "help", "") or "" for parameter in node.params)]
    assert len(texts) > 50
    assert not [text for text in texts if re.search(r"(?<!\\)\[[a-z][a-z._]*\]", text)]


@pytest.mark.slow
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=[path.stem for path in TUTORIALS])
def test_tutorials_run_as_written(tutorial: Path, tmp_path: Path) -> None:
    """The blocks of a tutorial, in order, in an empty folder, end without an error."""
    script = script_of(tutorial.read_text(encoding="utf-8"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout + result.stderr
