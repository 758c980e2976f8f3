"""Int8 graphs through NNCF: ranges with bias correction, and a mode for Transformers.

The graph stays ONNX with quantize and dequantize nodes, which ONNX Runtime and OpenVINO both run in
integers. NNCF reports its use over the network unless told otherwise: here it never does.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from quatrain.core.compression import graph_edits, integer_forms, preparing
from quatrain.core.compression.artifact import Artifact, Step, digest_of
from quatrain.core.compression.gate import Promise, RefusedError
from quatrain.core.compression.measures import Arrays
from quatrain.core.errors import require

if TYPE_CHECKING:
    import onnx

_EXTRA = "quatrain-core[openvino]"
_TELEMETRY = "openvino_telemetry"


@dataclass(frozen=True, kw_only=True, eq=False)
class NncfInt8:
    """Static quantization by NNCF: activations uint8, weights int8 per channel.

    "transformer" keeps sums and norms in float and smooths outlying activations into the weights.
    `fast_bias_correction` False measures each layer's bias on all rows: slower, at times closer.
    """

    calibration: Arrays
    model_type: Literal["transformer"] | None = None
    fast_bias_correction: bool = True
    # Names of nodes that stay in float.
    keep_float: tuple[str, ...] = ()
    # Carries NaN and infinity past the integers, which have none.
    guard: bool = True

    promise = Promise(same_model=True, integers=True)

    def __post_init__(self) -> None:
        """Refuse kinds of model that NNCF has no mode for."""
        if self.model_type not in (None, "transformer"):
            raise ValueError(f"model_type must be transformer or None, got {self.model_type!r}")

    @property
    def name(self) -> str:
        """What the report calls it."""
        return "int8 nncf" if self.model_type is None else f"int8 nncf {self.model_type}"

    def settings(self) -> Mapping[str, Any]:
        """Return what decides the outcome."""
        return {
            "step": "nncf int8",
            "calibration": digest_of(self.calibration),
            "rows": len(next(iter(self.calibration.values()))),
            "model_type": self.model_type,
            "fast_bias_correction": self.fast_bias_correction,
            "keep_float": self.keep_float,
            "guard": self.guard,
        }

    def fallbacks(self, before: Artifact) -> Iterable[Step]:
        """Return nothing: name the nodes to keep in float instead."""
        del before
        return ()

    def apply(self, before: Artifact) -> Artifact:
        """Return the graph in int8; raises RefusedError for calibration rows that stand for nothing."""
        from quatrain.core.compression.calibration import require_representative

        require_representative(self.calibration, before.inputs)
        prepared = preparing.prepared(before.onnx)
        if not graph_edits.products_of(prepared.graph, None, self.keep_float):
            found = ", ".join(sorted({node.op_type for node in prepared.graph.node}))
            raise RefusedError(f"there is nothing to quantise: no product is left of the graph's operators, {found}")
        with _quiet_nncf() as nncf:
            model = self._quantised(nncf, prepared)
        graph_edits.keep_tail_in_float(model.graph, prepared.graph)
        integer_forms.unsign_activations(model.graph)
        integer_forms.quantise_biases(model.graph)
        graph_edits.keep_used_constants(model.graph)
        return preparing.closed(model, before, guard=self.guard, whole_batch=False, notes=())

    def _quantised(self, nncf: Any, prepared: onnx.ModelProto) -> onnx.ModelProto:
        n_rows = len(next(iter(self.calibration.values())))
        rows = [{name: array[place : place + 1] for name, array in self.calibration.items()} for place in range(n_rows)]
        model: onnx.ModelProto = nncf.quantize(
            prepared,
            nncf.Dataset(rows),
            # Symmetric activations would be int8 where they can be negative, which multiplies six times slower.
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER if self.model_type == "transformer" else None,
            fast_bias_correction=self.fast_bias_correction,
            subset_size=n_rows,
            ignored_scope=nncf.IgnoredScope(names=list(self.keep_float)) if self.keep_float else None,
        )
        return model


@contextmanager
def _quiet_nncf() -> Iterator[Any]:
    """Give NNCF without its telemetry, its prints, and its hold on the process's loggers."""
    logger_class = logging.getLoggerClass()
    with preparing.silent():
        nncf = _nncf_alone()
        logging.setLoggerClass(logger_class)
        logger = logging.getLogger("nncf")
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
        logger.addHandler(logging.NullHandler())
        yield nncf


def _nncf_alone() -> Any:
    """Return NNCF, imported where the package that reports its use cannot be found."""
    known = sys.modules.get(_TELEMETRY)
    # None makes an import fail: NNCF then has a stub in place of what creates an identity and sends.
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # the documented way to block an import
    try:
        nncf = require("nncf", package=_EXTRA)
        decorator: Any = require("nncf.telemetry.decorator", package=_EXTRA)
        wrapper: Any = require("nncf.telemetry.wrapper", package=_EXTRA)
    finally:
        del sys.modules[_TELEMETRY]
        if known is not None:
            sys.modules[_TELEMETRY] = known
    # Where something else had imported NNCF before, it had its telemetry by then.
    decorator.telemetry = wrapper.NNCFTelemetryStub()
    return nncf
