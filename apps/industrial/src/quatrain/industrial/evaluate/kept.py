"""The scores of a model's last evaluation, kept on this machine, so that a threshold can be tried on them."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from quatrain.core.config import Config, settings
from quatrain.core.errors import UserError
from quatrain.core.jobs.files import write_atomically


class Evaluated(Config):
    """Scores of labelled parts, in one order with their kinds."""

    data: str
    kinds: tuple[str, ...]
    scores: tuple[float, ...]


def keep(evaluated: Evaluated, *, digest: str) -> Path:
    """Return the file that now holds the evaluation of the model with this digest, in place of an earlier one."""
    file = _file(digest)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, evaluated.model_dump_json(), mode=0o600)
    return file


def last_of(digest: str) -> Evaluated | None:
    """Return the last evaluation of the model with this digest on this machine, or None."""
    file = _file(digest)
    if not file.is_file():
        return None
    try:
        return Evaluated.model_validate_json(file.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise UserError(f"{file} is damaged; run `quatrain industrial evaluate` again") from error


def _file(digest: str) -> Path:
    return settings().home / "evaluated" / "industrial" / f"{digest}.json"
