"""The rules of the house, checked over every file: rooms, sizes, and what may not appear."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*ROOT.glob("core/src/**/*.py"), *ROOT.glob("apps/*/src/**/*.py")])
APPS = sorted(path.parent for path in ROOT.glob("apps/*/pyproject.toml"))
ROOMS = ("cli", "data", "features", "models", "train", "score", "evaluate", "metrics", "dashboard")


def relative(path: Path) -> str:
    """Return the path as a test id."""
    return str(path.relative_to(ROOT))


def tracked_text_files() -> list[Path]:
    """Return every file that git tracks and that reads as text."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:4096]]


@pytest.mark.parametrize("app", APPS, ids=relative)
@pytest.mark.parametrize("room", ROOMS)
def test_every_app_has_the_same_rooms(app: Path, room: str) -> None:
    """Who knows one app knows all: each room is a module or a folder of that name."""
    package = app / "src" / "quatrain" / app.name
    assert (package / f"{room}.py").is_file() or (package / room).is_dir()


def test_the_namespace_has_no_init() -> None:
    """`quatrain/__init__.py` anywhere would hide every other distribution."""
    assert not list(ROOT.glob("core/src/quatrain/__init__.py"))
    assert not list(ROOT.glob("apps/*/src/quatrain/__init__.py"))


@pytest.mark.parametrize("source", [path for path in SOURCES if path.name == "__init__.py"], ids=relative)
def test_package_inits_hold_a_docstring_only(source: Path) -> None:
    """Importing a package costs nothing: names come from its submodules."""
    body = ast.parse(source.read_text(encoding="utf-8")).body
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr)


@pytest.mark.parametrize("source", SOURCES, ids=relative)
def test_modules_and_functions_stay_small(source: Path) -> None:
    """A module is split near 400 lines, a function never passes 80."""
    text = source.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 420
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    too_long = [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= 80]
    assert too_long == []


@pytest.mark.parametrize("source", SOURCES, ids=relative)
def test_nothing_unsafe_is_called(source: Path) -> None:
    """No pickle, no eval, no shell, and torch.load only with weights_only=True."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not {"pickle", "cloudpickle", "dill", "joblib"} & set(names)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert called not in {"eval", "exec", "os.system"}
            assert keywords.get("shell") != "True"
            assert called != "torch.load" or keywords.get("weights_only") == "True"


def test_no_file_names_a_registry_or_a_machine_path() -> None:
    """A clone works behind any mirror and on any machine."""
    hosts = ["py" + "pi.org", "pythonhosted" + ".org", "registry.np" + "mjs.org", "deb.deb" + "ian.org"]
    machine = re.compile("|".join(re.escape(host) for host in hosts) + r"|/ro" + r"ot/|/ho" + r"me/\w+/|/wo" + r"rk/")
    found = {
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in tracked_text_files()
        for match in machine.finditer(path.read_text(encoding="utf-8", errors="replace"))
    }
    assert found == set()


def test_no_unfinished_work_is_marked() -> None:
    """What is not done is in an issue, not in the code."""
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b|NotImplemented" + r"Error")
    found = [relative(path) for path in SOURCES if marks.search(path.read_text(encoding="utf-8"))]
    assert found == []
