"""The file that runs die on: noted before each file, so that one killer does not starve the others."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from quatrain.core.jobs.identity import Job, plain
from quatrain.core.jobs.inputs import Candidate

logger = logging.getLogger(__name__)

# Deaths in a row on one file before it goes last; a single one may be a power cut.
_DEATHS = 2


class Suspect:
    """Remembers across runs which file was under way when the process was gone.

    A file too large for the memory gets the process killed at the same place each time. The
    note is a plain file without sync: it outlives the process, which is all that it must.
    """

    def __init__(self, job: Job) -> None:
        self._note = job.out / f".quatrain-{job.tag}.current"
        self._file, self._n_deaths = self._read()

    def put_last(self, candidates: list[Candidate]) -> list[Candidate]:
        """Return the candidates, a file on which run after run has died behind all others."""
        suspect = next((each for each in candidates if plain(each.path) == self._file), None)
        if suspect is None or self._n_deaths < _DEATHS:
            return candidates
        extra = {"file": self._file, "n_deaths": self._n_deaths}
        logger.warning("runs died on this file, so it is taken up last", extra=extra)
        # Files of its size may hold the same; they stay behind it, so that outputs keep the name of the first.
        size = _size(suspect)
        last = [each for each in candidates if _size(each) == size]
        return [each for each in candidates if each not in last] + last

    @contextmanager
    def watch(self, label: str) -> Iterator[None]:
        """Note that the file is under way; the note stays only if the process dies here."""
        n_deaths = self._n_deaths + 1 if label == self._file else 1
        with suppress(OSError):
            self._note.write_text(json.dumps({"file": label, "n_deaths": n_deaths}), encoding="utf-8")
        try:
            yield
        finally:
            with suppress(OSError):
                self._note.unlink()

    def _read(self) -> tuple[str, int]:
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            return str(note["file"]), int(note["n_deaths"])
        except (OSError, ValueError, KeyError, TypeError):
            return "", 0


def _size(candidate: Candidate) -> int | None:
    try:
        return candidate.path.stat().st_size
    except OSError:
        return None
