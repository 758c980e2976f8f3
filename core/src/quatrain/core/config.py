"""Configuration from TOML, environment and flags, in rising order, with unknown keys refused."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, TypeVar

import platformdirs
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from quatrain.core.errors import UsageError, did_you_mean

# Names the config file that every command reads when no --config is given.
CONFIG_VARIABLE = "QUATRAIN_CONFIG"
_PREFIX = "QUATRAIN_"
_SEPARATOR = "__"
# QUATRAIN_DATA__<SET> names the user's own copy of a set; quatrain.core.data reads it.
_NOT_SECTIONS = frozenset({"data"})


class Config(BaseModel):
    """Base of every config model: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


ConfigT = TypeVar("ConfigT", bound=Config)


@dataclass(frozen=True)
class Flag:
    """Annotates a key whose flag is not called after it, such as Flag("--data") on `inputs`."""

    text: str


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError("expected a path whose ~ stands for a known user's home") from error


# A path in which ~ may stand for a home: a config file is read by no shell.
UserPath = Annotated[Path, AfterValidator(_expanded)]


class Settings(Config):
    """Where Quatrain keeps things on this machine: the `[core]` section."""

    home: UserPath = Field(default_factory=lambda: platformdirs.user_data_path("quatrain"))
    cache: UserPath = Field(default_factory=lambda: platformdirs.user_cache_path("quatrain"))
    # A folder, or any fsspec URL such as s3://bucket/models; empty means home/models.
    store: str = ""
    # A SQLAlchemy URL; empty means a SQLite file in home.
    ledger: str = ""
    # Whose signature a bundle must carry: "any" valid one, or one from home/keys/trusted ("known").
    signers: str = Field(default="any", pattern="^(any|known)$")

    @property
    def store_url(self) -> str:
        """Where named models live: a folder or an fsspec URL."""
        return self.store or str(self.home / "models")

    @property
    def ledger_url(self) -> str:
        """The SQLAlchemy URL of the job ledger."""
        return self.ledger or f"sqlite:///{self.home / 'ledger.db'}"

    @property
    def runs_dir(self) -> Path:
        """The folder that keeps one folder per training run."""
        return self.home / "runs"

    @property
    def keys_dir(self) -> Path:
        """The folder of the signing key and of the trusted public keys."""
        return self.home / "keys"


def settings(file: Path | None = None, *, environ: Mapping[str, str] | None = None) -> Settings:
    """Return the `[core]` section for this process."""
    return load(Settings, section="core", file=file, environ=environ)


def load(
    model: type[ConfigT],
    *,
    section: str,
    file: Path | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> ConfigT:
    """Return `model` filled from the file's `[section]`, then the environment, then flags.

    `section` is dotted, such as "fintech.score"; its environment form is
    QUATRAIN_FINTECH__SCORE__KEY. `overrides` are "key=value" texts from --set; `flags` are
    already parsed, None meaning "not given". Raises UsageError that names the key, where it
    came from and the nearest known key.
    """
    environ = os.environ if environ is None else environ
    if file is None and environ.get(CONFIG_VARIABLE):
        file = Path(environ[CONFIG_VARIABLE])
    sources: list[tuple[str, dict[str, Any]]] = []
    if file is not None:
        sources.append((str(file), _from_file(file, section)))
    sources.append(("the environment", _from_environment(environ, section)))
    sources.append(("--set", _from_overrides(overrides)))
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    sources.append(("a flag", given))
    merged: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for where, values in sources:
        _merge(merged, values)
        origin |= dict.fromkeys(values, where)
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        lines = [_explain(model, section, detail, origin) for detail in error.errors()]
        raise UsageError("\n".join(lines)) from error


def _from_file(file: Path, section: str) -> dict[str, Any]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read config file {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not valid TOML: {error}") from error
    _require_known_sections(document, f"in {file}")
    values: Any = document
    for part in section.split("."):
        values = values.get(part, {})
        if not isinstance(values, dict):
            raise UsageError(f"{section} in {file} must be a table such as [{section}], got {values!r}")
    return dict(values)


def _require_known_sections(document: Mapping[str, Any], where: str) -> None:
    known = _known_sections()
    for table, content in document.items():
        if table not in known:
            raise UsageError(f"unknown section [{table}] {where}{did_you_mean(table, known)}")
        for name in content if known[table] and isinstance(content, dict) else ():
            if name not in known[table]:
                raise UsageError(f"unknown section [{table}.{name}] {where}{did_you_mean(name, known[table])}")


@cache
def _known_sections() -> dict[str, list[str]]:
    """Return core's and every installed app's table, with the sections that the app declares; none means any."""
    known: dict[str, list[str]] = {"core": []}
    known |= {point.name.replace("-", "_"): [] for point in entry_points(group="quatrain.apps")}
    for point in entry_points(group="quatrain.config"):
        table, _, name = point.name.partition(".")
        known.setdefault(table, []).append(name)
    return known


def _from_environment(environ: Mapping[str, str], section: str) -> dict[str, Any]:
    wanted = section.split(".")
    values: dict[str, Any] = {}
    for variable, text in environ.items():
        # An empty variable is how a shell or a service file says "not given".
        if not variable.startswith(_PREFIX) or _SEPARATOR not in variable or not text:
            continue
        path = variable.removeprefix(_PREFIX).lower().split(_SEPARATOR)
        if path[0] not in _NOT_SECTIONS:
            _require_known_sections(_nested(path, text), f"from {variable}")
        if path[: len(wanted)] == wanted and len(path) > len(wanted):
            _merge(values, _nested(path[len(wanted) :], _parse(text)))
    return values


def _from_overrides(overrides: Iterable[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set expects key=value, got {override!r}")
        _merge(values, _nested(key.strip().split("."), _parse(text.strip())))
    return values


def _parse(text: str) -> Any:
    """Return lists, tables and booleans parsed as TOML; everything else stays text for pydantic to convert."""
    if not text.startswith(("[", "{")) and text not in {"true", "false"}:
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{text!r} is not a TOML value: {error}") from error


def _nested(path: Sequence[str], value: object) -> dict[str, Any]:
    result: Any = value
    for part in reversed(path):
        result = {part: result}
    return dict(result)


def _merge(target: dict[str, Any], source: Mapping[str, Any]) -> None:
    for key, value in source.items():
        existing = target.get(key)
        if isinstance(existing, dict) and isinstance(value, dict):
            merged = dict(existing)
            _merge(merged, value)
            target[key] = merged
        else:
            target[key] = value


def _explain(model: type[BaseModel], section: str, detail: ErrorDetails, origin: Mapping[str, str]) -> str:
    location = [str(part) for part in detail["loc"]]
    key = ".".join([section, *location])
    where = origin.get(location[0], "the defaults") if location else "the config"
    if detail["type"] == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        return f"unknown key {key} from {where}{did_you_mean(location[-1], known)}"
    if detail["type"] == "missing":
        flag = _flag(model, location)
        return (
            f"{key} is missing; give {flag}, --set {'.'.join(location)}=…, or put it in [{section}] of the config file"
        )
    message = detail["msg"].removeprefix("Value error, ")
    return f"{key} from {where}: {message[:1].lower() + message[1:]}, got {detail['input']!r}"


def _flag(model: type[BaseModel], location: Sequence[str]) -> str:
    field = model.model_fields.get(location[0])
    named = [each.text for each in field.metadata if isinstance(each, Flag)] if field and len(location) == 1 else []
    return named[0] if named else "--" + location[-1].replace("_", "-")


def _known_keys(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    for part in path:
        field = model.model_fields.get(part)
        annotation = field.annotation if field else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
        else:
            return []
    return list(model.model_fields)
