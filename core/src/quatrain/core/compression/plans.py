"""Plans as people write them: a line such as "prune:0.5,int8", or a TOML file, turned into the steps of `compress`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from quatrain.core.compression.artifact import Step
from quatrain.core.compression.planned import KINDS, Materials, Planned
from quatrain.core.errors import UsageError, did_you_mean

_SUFFIX = ".toml"
_TABLE = "steps"


def steps_of(plan: str, materials: Materials) -> list[Step]:
    """Return the steps that the plan names, working with `materials`.

    A plan is a line, or the path of a file that ends in .toml:

        prune:0.5:rounds=2,distill:dist,int8:minmax:mixed=4

        [[steps]]
        step = "prune"
        ratio = 0.5
        rounds = 2

    Raises UsageError that names the step and the nearest known word for whatever is not understood,
    and for a step whose materials are missing.

    >>> [step.name for step in steps_of("trim-trees:100,half:bfloat16", Materials())]
    ['first 100 trees', 'bfloat16 weights']
    """
    return [planned.build(materials) for planned in parse(plan)]


def parse(plan: str) -> tuple[Planned, ...]:
    """Return the plan's steps with their options checked, before anything is loaded or trained."""
    plan = plan.strip()
    tables = _from_file(Path(plan)) if plan.endswith(_SUFFIX) else [_from_text(part) for part in plan.split(",")]
    return tuple(_checked(table, f"step {place} of the plan") for place, table in enumerate(tables, start=1))


def described() -> str:
    """Return every step with its options, one a line, for a command's help."""
    return "\n".join(f"{name}: {kind.usage()}" for name, kind in sorted(KINDS.items()))


def _from_text(part: str) -> dict[str, Any]:
    """Return the table of "name:main:key=value"."""
    name, *options = (piece.strip() for piece in part.split(":"))
    table: dict[str, Any] = {"step": name}
    for place, option in enumerate(options):
        key, equals, value = option.partition("=")
        if equals:
            table[key.strip()] = value.strip()
            continue
        main = KINDS[name].main if name in KINDS else None
        if name in KINDS and (main is None or place > 0):
            raise UsageError(f"expected {name}:key=value, got {part.strip()!r}; {name} takes {KINDS[name].usage()}")
        if main is not None:
            table[main] = option
    return table


def _from_file(path: Path) -> Sequence[Mapping[str, Any]]:
    try:
        document = tomllib.loads(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the plan {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    tables = document.pop(_TABLE, None)
    if document:
        raise UsageError(f"unknown key {min(document)} in {path}; a plan holds [[{_TABLE}]] tables only")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f'{path} names no steps; write one table for each, such as [[{_TABLE}]] with step = "int8"')
    return tables


def _checked(table: Mapping[str, Any], where: str) -> Planned:
    options = dict(table)
    name = options.pop("step", "")
    if not isinstance(name, str) or name not in KINDS:
        if not name:
            raise UsageError(f"{where} has no name; known: {', '.join(sorted(KINDS))}")
        raise UsageError(f"{where} is unknown: {name!r}{did_you_mean(str(name), KINDS)}")
    kind = KINDS[name]
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        lines = [_explained(kind, name, detail) for detail in error.errors(include_url=False)]
        raise UsageError(f"{where}: " + "; ".join(lines)) from error


def _explained(kind: type[Planned], name: str, detail: ErrorDetails) -> str:
    key = str(detail["loc"][0]) if detail["loc"] else name
    if detail["type"] == "extra_forbidden":
        return f"{name} has no option {key!r}{did_you_mean(key, kind.model_fields)}"
    if detail["type"] == "missing":
        return f"{name} needs {key}, such as {kind.example}"
    message = detail["msg"].removeprefix("Value error, ")
    return f"{key} of {name}: {message[:1].lower() + message[1:]}, got {detail['input']!r}"
