"""The session behind backend="auto": each batch goes to what was measured to be fastest for its size."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from quatrain.core.backends.buckets import BUCKETS, bucket_of
from quatrain.core.backends.golden import first_line
from quatrain.core.backends.protocol import Arrays, BackendError, Session
from quatrain.core.backends.registry import DEFAULT
from quatrain.core.bundle.manifest import BundleError

_LOG = logging.getLogger(__name__)


class AutoSession:
    """Opens a backend when its first batch comes; one that fails is left out with one warning.

    `default` has reproduced the golden outputs, and `open_backend` gives only sessions that did.
    """

    def __init__(self, default: Session, backends: Mapping[int, str], open_backend: Callable[[str], Session]) -> None:
        self._default = default
        self._open_backend = open_backend
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {DEFAULT: default}
        self._names = {bucket: backends.get(bucket, DEFAULT) for bucket in BUCKETS}

    def get_inputs(self) -> Sequence[Any]:
        """Return the graph's inputs."""
        return self._default.get_inputs()

    def get_outputs(self) -> Sequence[Any]:
        """Return the graph's outputs."""
        return self._default.get_outputs()

    def run(self, output_names: Sequence[str] | None, arrays: Arrays, /) -> list[NDArray[Any]]:
        """Return the named outputs."""
        name = self._names[bucket_of(len(next(iter(arrays.values()))))]
        session = self._sessions.get(name) or self._opened(name)
        if session is self._default:
            return list(session.run(output_names, arrays))
        try:
            return session.run(output_names, arrays)
        except BackendError as error:
            self._leave_out(name, error)
            return list(self._default.run(output_names, arrays))

    def _opened(self, name: str) -> Session:
        with self._lock:
            if name not in self._sessions:
                try:
                    self._sessions[name] = self._open_backend(name)
                except (BackendError, BundleError) as error:
                    self._leave_out(name, error)
            return self._sessions[name]

    def _leave_out(self, name: str, error: Exception) -> None:
        if self._sessions.get(name) is not self._default:
            _LOG.warning("%s was fastest here and fails now; %s takes its place: %s", name, DEFAULT, first_line(error))
        self._sessions[name] = self._default
