"""A session that evaluates a graph's small trees itself and leaves everything else to ONNX Runtime."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.inference import Session, open_session
from quatrain.fintech.score.graph import ensembles, part

if TYPE_CHECKING:
    from quatrain.fintech.score.forest import Forest

_LOG = logging.getLogger(__name__)
# Rows of a call for which it pays to load the kernel.
_WORTH_ROWS = 16_384
# Rows from which on the kernel, once it is loaded, is the faster way: a call is a block at least.
_LEAST_ROWS = 128
# Rows of the first such call on which both ways must give the same bits.
_CHECKED_ROWS = 512

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One ensemble of the graph; where it does not read the graph's input, a session makes what it reads."""

    output: str
    source: str
    columns: Session | None
    forest: Forest


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The graph with its ensembles taken out: in turn their sums, then what the graph makes of all sums."""

    steps: tuple[Step, ...]
    rest: Session

    def run(self, output_names: Sequence[str] | None, x: Arrays) -> list[NDArray[Any]]:
        """Return the named outputs of one input array."""
        known = dict(x)
        sources = dict(x)
        for step in self.steps:
            if step.source not in sources and step.columns is not None:
                (sources[step.source],) = step.columns.run([step.source], known)
            known[step.output] = step.forest.sums(sources[step.source])
        return list(self.rest.run(output_names, known))


class ForestSession:
    """Stands in for ONNX Runtime's session on the bundle's graph, which stays the source of truth.

    Graphs without trees that the kernel takes, and calls of few rows, go to ONNX Runtime; until a
    call of many rows comes, all calls do. Before the kernel answers anything, its sums must be ONNX
    Runtime's to the last bit on rows that lie on and beside the trees' thresholds, and all outputs
    those of the whole graph on rows of the call.
    """

    def __init__(self, onnx: bytes, *, threads: int | None = None) -> None:
        self._onnx = onnx
        self._threads = threads
        self._whole = open_session(onnx, threads=threads)
        self._plan: Plan | None = None
        self._is_prepared = False

    def get_inputs(self) -> Sequence[Any]:
        """Return the graph's inputs."""
        return list(self._whole.get_inputs())

    def get_outputs(self) -> Sequence[Any]:
        """Return the graph's outputs."""
        return list(self._whole.get_outputs())

    def run(self, output_names: Sequence[str] | None, arrays: Arrays, /) -> list[NDArray[Any]]:
        """Return the named outputs; the same bits whichever way they came."""
        n_rows = len(next(iter(arrays.values())))
        if len(arrays) > 1 or n_rows < (_LEAST_ROWS if self._is_prepared else _WORTH_ROWS):
            return list(self._whole.run(output_names, dict(arrays)))
        if not self._is_prepared:
            self._plan = self._prepared({name: x[:_CHECKED_ROWS] for name, x in arrays.items()})
            self._is_prepared = True
        if self._plan is None:
            return list(self._whole.run(output_names, dict(arrays)))
        return self._plan.run(output_names, arrays)

    def _prepared(self, rows: Arrays) -> Plan | None:
        """Return how the trees are evaluated by the kernel, None where ONNX Runtime does all."""
        steps = tuple(self._steps())
        if not steps:
            return None
        plan = Plan(steps=steps, rest=self._session(given=[step.output for step in steps]))
        same = map(np.array_equal, plan.run(None, rows), self._whole.run(None, dict(rows)))
        if not all(same):
            _LOG.warning("the graph without its trees differs from ONNX Runtime on this machine and is not used")
            return None
        _LOG.debug("%d tree ensembles are evaluated by the kernel", len(steps))
        return plan

    def _steps(self) -> Iterator[Step]:
        # Numba takes a third of a second, which a small file should not pay.
        from quatrain.fintech.score.forest import forest_of

        (source,) = self._whole.get_inputs()
        outputs: list[str] = []
        for ensemble in ensembles(self._onnx, input_name=source.name) if source.type == "tensor(float)" else ():
            forest = forest_of(ensemble)
            if forest is None or not self._gives_the_same(ensemble.source, ensemble.output, forest):
                continue
            is_input = ensemble.source == source.name
            columns = None if is_input else self._session(given=outputs, wanted=[ensemble.source])
            yield Step(output=ensemble.output, source=ensemble.source, columns=columns, forest=forest)
            outputs.append(ensemble.output)

    def _gives_the_same(self, source: str, output: str, forest: Forest) -> bool:
        """Return whether the forest gives ONNX Runtime's sums to the last bit."""
        alone = self._session(given=[source], wanted=[output])
        fed = {each.name: each for each in alone.get_inputs()}
        n_columns = int(forest.feature.max()) + 1
        is_input = list(fed) == [source]
        x = forest.probes(int(fed[source].shape[1]) if is_input else n_columns)
        own = {name: np.zeros((len(x), each.shape[1]), np.float32) for name, each in fed.items() if name != source}
        (expected,) = alone.run([output], {**own, source: x})
        if np.array_equal(forest.sums(x), expected):
            return True
        _LOG.warning("the tree kernel differs from ONNX Runtime on this machine and is not used")
        return False

    def _session(self, *, given: Sequence[str], wanted: Sequence[str] = ()) -> Session:
        session: Session = open_session(part(self._onnx, given=given, wanted=wanted), threads=self._threads)
        return session
