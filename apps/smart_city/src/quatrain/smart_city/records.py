"""What was evaluated and re-timed on this machine, kept for the dashboard: one JSON file each."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from quatrain.core.config import settings

Kind = Literal["evaluation", "retiming"]
_LOG = logging.getLogger(__name__)


def keep(kind: Kind, document: dict[str, Any]) -> Path:
    """Write a result beside the earlier ones and return its path; nothing is left half written."""
    now = datetime.now(UTC)
    folder = _folder(kind)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{now:%Y%m%d-%H%M%S-%f}-{document['data']}.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"at": now.isoformat(), **document}, default=str), encoding="utf-8")
    return part.replace(path)


def kept(kind: Kind) -> list[dict[str, Any]]:
    """Return the results that were kept, newest first; a damaged file is passed over with a warning."""
    found = []
    for path in sorted(_folder(kind).glob("*.json"), reverse=True):
        try:
            found.append({"path": str(path), **json.loads(path.read_text(encoding="utf-8"))})
        except (OSError, ValueError, TypeError) as error:
            _LOG.warning("passed over %s: %s", path, error)
    return found


def _folder(kind: Kind) -> Path:
    return settings().home / "smart_city" / f"{kind}s"
