"""A session that evaluates a graph's small trees itself and leaves everything else to ONNX Runtime."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.inference import Session, open_session
from quatrain.fintech.score.graph import ensembles, showing, without

if TYPE_CHECKING:
    from quatrain.fintech.score.forest import Forest

_LOG = logging.getLogger(__name__)
# Rows of a call for which it pays to load the kernel.
_WORTH_ROWS = 16_384


class ForestSession:
    """Stands in for ONNX Runtime's session on the bundle's graph, which stays the source of truth.

    Calls of few rows, and graphs without trees that the kernel takes, go to ONNX Runtime. Before
    the kernel answers anything, its sums must be ONNX Runtime's to the last bit on rows that lie
    on and beside the trees' thresholds.
    """

    def __init__(self, onnx: bytes, *, threads: int | None = None) -> None:
        self._onnx = onnx
        self._threads = threads
        self._whole = open_session(onnx, threads=threads)
        self._forests: dict[str, Forest] | None = None
        self._rest: Session = self._whole

    def get_inputs(self) -> Sequence[Any]:
        """Return the graph's inputs."""
        return list(self._whole.get_inputs())

    def get_outputs(self) -> Sequence[Any]:
        """Return the graph's outputs."""
        return list(self._whole.get_outputs())

    def run(self, output_names: Sequence[str] | None, arrays: Mapping[str, NDArray[Any]], /) -> list[NDArray[Any]]:
        """Return the named outputs; the same bits whichever way they came."""
        x = next(iter(arrays.values()))
        if len(x) < _WORTH_ROWS or len(arrays) > 1 or not self._prepared():
            return list(self._whole.run(output_names, dict(arrays)))
        sums = {name: forest.sums(x) for name, forest in self._prepared().items()}
        return list(self._rest.run(output_names, {**arrays, **sums}))

    def _prepared(self) -> dict[str, Forest]:
        """Return the forests by the name of their output, none where ONNX Runtime does all."""
        if self._forests is None:
            self._forests = self._checked(self._found())
            if self._forests:
                self._rest = open_session(without(self._onnx, list(self._forests)), threads=self._threads)
                _LOG.debug("%d tree ensembles are evaluated by the kernel", len(self._forests))
        return self._forests

    def _found(self) -> dict[str, Forest]:
        # Numba takes a third of a second, which a small file should not pay.
        from quatrain.fintech.score.forest import forest_of

        (source,) = self._whole.get_inputs()
        found = {each.output: forest_of(each) for each in ensembles(self._onnx, input_name=source.name)}
        return {name: forest for name, forest in found.items() if forest is not None}

    def _checked(self, forests: dict[str, Forest]) -> dict[str, Forest]:
        """Return the forests that give ONNX Runtime's sums to the last bit."""
        (source,) = self._whole.get_inputs()
        kept: dict[str, Forest] = {}
        if not forests:
            return kept
        shown = open_session(showing(self._onnx, list(forests)), threads=self._threads)
        for name, forest in forests.items():
            x = forest.probes(int(source.shape[1]))
            (expected,) = shown.run([name], {source.name: x})
            if np.array_equal(forest.sums(x), expected):
                kept[name] = forest
            else:
                _LOG.warning("the tree kernel differs from ONNX Runtime on this machine and is not used")
        return kept
