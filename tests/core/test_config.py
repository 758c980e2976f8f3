"""Configuration: precedence, conversion, and refusals that name the key and the fix."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from quatrain.core import config
from quatrain.core.errors import UsageError


class Inner(config.Config):
    """A nested table of the test config."""

    depth: int = 1


class Example(config.Config):
    """A config with one field of each kind the apps use."""

    threshold: float = Field(default=0.5, ge=0, le=1)
    name: str = "a"
    files: tuple[Path, ...] = ()
    inner: Inner = Inner()


class Required(config.Config):
    """A config with a key that has no default."""

    inbox: Path


def write(path: Path, text: str) -> Path:
    """Return `path` after writing `text` to it."""
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_hold_when_nothing_is_given() -> None:
    """An empty file, environment and command line leave the model's defaults."""
    assert config.load(Example, section="fintech.score", environ={}) == Example()


@pytest.mark.parametrize(
    ("environ", "overrides", "flags", "expected"),
    [
        ({}, [], {}, 0.1),
        ({"QUATRAIN_FINTECH__SCORE__THRESHOLD": "0.2"}, [], {}, 0.2),
        ({"QUATRAIN_FINTECH__SCORE__THRESHOLD": "0.2"}, ["threshold=0.3"], {}, 0.3),
        ({"QUATRAIN_FINTECH__SCORE__THRESHOLD": "0.2"}, ["threshold=0.3"], {"threshold": 0.4}, 0.4),
        ({}, [], {"threshold": None}, 0.1),
    ],
)
def test_flags_beat_environment_beats_file(
    tmp_path: Path, environ: dict[str, str], overrides: list[str], flags: dict[str, object], expected: float
) -> None:
    """Each source wins over the one below it, and a flag that was not given wins over nothing."""
    file = write(tmp_path / "c.toml", "[fintech.score]\nthreshold = 0.1\n")
    loaded = config.load(Example, section="fintech.score", file=file, overrides=overrides, flags=flags, environ=environ)
    assert loaded.threshold == expected


def test_nested_keys_reach_every_source(tmp_path: Path) -> None:
    """A nested key can be set by table, by double underscore and by dots."""
    file = write(tmp_path / "c.toml", "[fintech.score.inner]\ndepth = 2\n")
    assert config.load(Example, section="fintech.score", file=file, environ={}).inner.depth == 2
    environ = {"QUATRAIN_FINTECH__SCORE__INNER__DEPTH": "3"}
    assert config.load(Example, section="fintech.score", file=file, environ=environ).inner.depth == 3
    loaded = config.load(Example, section="fintech.score", overrides=["inner.depth=4"], environ=environ)
    assert loaded.inner.depth == 4


def test_environment_lists_are_toml() -> None:
    """A list in the environment is read as TOML; a number stays text where text is wanted."""
    environ = {"QUATRAIN_FINTECH__SCORE__FILES": '["a.csv", "b.csv"]', "QUATRAIN_FINTECH__SCORE__NAME": "12"}
    loaded = config.load(Example, section="fintech.score", environ=environ)
    assert loaded.files == (Path("a.csv"), Path("b.csv"))
    assert loaded.name == "12"


@pytest.mark.parametrize(
    ("overrides", "environ", "match"),
    [
        (["treshold=1"], {}, r"unknown key fintech\.score\.treshold from --set; did you mean 'threshold'\?"),
        ([], {"QUATRAIN_FINTECH__SCORE__NAMES": "x"}, r"names from the environment; did you mean 'name'\?"),
        (["inner.dept=1"], {}, r"fintech\.score\.inner\.dept from --set; did you mean 'depth'\?"),
        (["threshold=3"], {}, r"fintech\.score\.threshold from --set: .*less than or equal to 1, got '3'"),
        (["threshold"], {}, r"--set expects key=value, got 'threshold'"),
        (["files=[1,"], {}, r"is not a TOML value"),
    ],
)
def test_wrong_keys_and_values_are_refused_by_name(overrides: list[str], environ: dict[str, str], match: str) -> None:
    """The error names the key, its source and the nearest known key or the allowed range."""
    with pytest.raises(UsageError, match=match):
        config.load(Example, section="fintech.score", overrides=overrides, environ=environ)


class Optional(config.Config):
    """A config whose table can be switched off."""

    inner: Inner | Literal[False] = Inner()


def test_false_switches_a_table_off() -> None:
    """TOML has no null, so false is what leaves an optional part out, from any source."""
    assert config.load(Optional, section="fintech.score", overrides=["inner=false"], environ={}).inner is False
    environ = {"QUATRAIN_FINTECH__SCORE__INNER": "false"}
    assert config.load(Optional, section="fintech.score", environ=environ).inner is False


def test_missing_key_says_how_to_give_it() -> None:
    """A required key that nobody gave is asked for in all three forms."""
    with pytest.raises(UsageError, match=r"give --inbox, --set inbox=…, or put it in \[fintech\.score\]"):
        config.load(Required, section="fintech.score", environ={})


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[fintec.score]\n", r"unknown section \[fintec\].*did you mean 'fintech'\?"),
        ("not toml", r"is not valid TOML"),
        ("[fintech]\nscore = 3\n", r"must be a table such as \[fintech\.score\], got 3"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, text: str, match: str) -> None:
    """A wrong section, broken TOML or a value in place of a table is a usage error."""
    with pytest.raises(UsageError, match=match):
        config.load(Example, section="fintech.score", file=write(tmp_path / "c.toml", text), environ={})


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the app fintech declare its sections."""
    monkeypatch.setattr(config, "_known_sections", lambda: {"core": [], "fintech": ["score", "train"]})


@pytest.mark.usefixtures("declared")
def test_a_misspelled_section_of_an_app_is_refused(tmp_path: Path) -> None:
    """It would otherwise be read as nothing at all, and the job would run on its defaults."""
    file = write(tmp_path / "c.toml", "[fintech.scroe]\nthreshold = 0.1\n")
    with pytest.raises(UsageError, match=r"unknown section \[fintech\.scroe\] in .*; did you mean 'score'\?"):
        config.load(Example, section="fintech.train", file=file, environ={})


@pytest.mark.usefixtures("declared")
@pytest.mark.parametrize(
    ("variable", "match"),
    [
        ("QUATRAIN_FINTEC__SCORE__NAME", r"\[fintec\] from QUATRAIN_FINTEC__SCORE__NAME; did you mean 'fintech'\?"),
        ("QUATRAIN_FINTECH__SCROE__NAME", r"\[fintech\.scroe\] from QUATRAIN_.*; did you mean 'score'\?"),
    ],
)
def test_a_misspelled_variable_is_refused(variable: str, match: str) -> None:
    """Wherever the slip is in its name."""
    with pytest.raises(UsageError, match=match):
        config.load(Example, section="fintech.score", environ={variable: "x"})


def test_installed_apps_are_sections() -> None:
    """A config file may have a table for each of them, and for core."""
    assert set(config._known_sections()) >= {"core", "fintech"}


def test_an_empty_variable_gives_nothing() -> None:
    """A home of "" would be whatever folder the command was started in."""
    assert config.settings(environ={"QUATRAIN_CORE__HOME": ""}) == config.settings(environ={})


def test_a_users_home_is_written_as_in_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No shell reads a config file, so the tilde is ours to expand; an unknown user is told."""
    monkeypatch.setenv("HOME", str(tmp_path))
    file = write(tmp_path / "c.toml", '[core]\nhome = "~/quatrain"\n')
    assert config.settings(file, environ={}).home == tmp_path / "quatrain"
    with pytest.raises(UsageError, match=r"core\.home from the environment: .*known user's home, got '~nobody-here/x'"):
        config.settings(environ={"QUATRAIN_CORE__HOME": "~nobody-here/x"})


class Named(config.Config):
    """A config whose key has a flag of another name."""

    inbox: Annotated[Path, config.Flag("--data")]


def test_a_missing_key_is_asked_for_by_its_own_flag() -> None:
    """The flag that the error names must exist."""
    with pytest.raises(UsageError, match=r"named\.inbox is missing; give --data, --set inbox=…"):
        config.load(Named, section="named", environ={})


def test_absent_file_is_refused(tmp_path: Path) -> None:
    """A config file that is not there is an error, not an empty config."""
    with pytest.raises(UsageError, match="cannot read config file"):
        config.load(Example, section="fintech.score", file=tmp_path / "none.toml", environ={})


def test_settings_derive_every_place_from_home(tmp_path: Path) -> None:
    """One variable moves models, ledger, runs and keys."""
    places = config.settings(environ={"QUATRAIN_CORE__HOME": str(tmp_path)})
    assert places.store_url == str(tmp_path / "models")
    assert places.ledger_url == f"sqlite:///{tmp_path / 'ledger.db'}"
    assert places.runs_dir == tmp_path / "runs"
    assert places.keys_dir == tmp_path / "keys"


def test_config_file_can_come_from_the_environment(tmp_path: Path) -> None:
    """QUATRAIN_CONFIG names the file when no --config is given."""
    file = write(tmp_path / "c.toml", '[core]\nstore = "memory://models"\n')
    places = config.settings(environ={config.CONFIG_VARIABLE: str(file)})
    assert places.store_url == "memory://models"
