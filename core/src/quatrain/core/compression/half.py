"""Weights stored in sixteen bits: half the file, the speed of before.

ONNX Runtime's CPU has few kernels for sixteen bits. The weights are cast to float32 where they are
used, which it does once, when a session opens; OpenVINO reads the same pattern as weights stored
short, and may compute in bfloat16 where the machine can.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from quatrain.core.compression.artifact import Artifact, Step
from quatrain.core.compression.gate import Promise, RefusedError
from quatrain.core.errors import require
from quatrain.core.export import finished

if TYPE_CHECKING:
    import onnx

Half = Literal["float16", "bfloat16"]
# Shorter tensors are scales, shifts and shapes: nothing to gain, much to lose.
_LEAST_VALUES = 64
# Bfloat16 keeps 8 bits: rounding alone leaves more than this, so that less is a sign of damage.
_LEAST_SQNR_DB = 35.0
_LARGEST_FLOAT16 = 65504.0
_EXTRA = "quatrain-core[train]"


@dataclass(frozen=True, kw_only=True)
class HalfPrecision:
    """Store weights as float16 (11 bits, up to 65504) or bfloat16 (8 bits, the range of float32)."""

    kind: Half = "float16"

    promise = Promise(same_model=True, smaller=True, least_sqnr_db=_LEAST_SQNR_DB)

    def __post_init__(self) -> None:
        """Refuse other kinds."""
        if self.kind not in ("float16", "bfloat16"):
            raise ValueError(f"kind must be float16 or bfloat16, got {self.kind!r}")

    @property
    def name(self) -> str:
        """What the report calls it."""
        return f"{self.kind} weights"

    def settings(self) -> Mapping[str, Any]:
        """Return what decides the outcome."""
        return {"step": "half precision", "kind": self.kind}

    def fallbacks(self, before: Artifact) -> Iterable[Step]:
        """Return nothing: the other kind is another step."""
        del before
        return ()

    def apply(self, before: Artifact) -> Artifact:
        """Return the graph with short weights; raises RefusedError where there are none, or one does not fit."""
        require("onnx", package=_EXTRA)
        import onnx

        model = onnx.load_from_string(before.onnx)
        shortened = [tensor for tensor in model.graph.initializer if self._is_long(tensor)]
        if not shortened:
            raise RefusedError(f"no float32 weights of {_LEAST_VALUES} values or more are stored in the graph")
        for tensor in shortened:
            self._shorten(model.graph, tensor)
        n_values = sum(int(np.prod(tensor.dims)) for tensor in shortened)
        note = f"{n_values} weights in {len(shortened)} tensors stored as {self.kind}"
        return replace(before, onnx=finished(model), module=None, notes=(note,))

    def _is_long(self, tensor: onnx.TensorProto) -> bool:
        from onnx import TensorProto

        return tensor.data_type == TensorProto.FLOAT and int(np.prod(tensor.dims)) >= _LEAST_VALUES

    def _shorten(self, graph: onnx.GraphProto, tensor: onnx.TensorProto) -> None:
        from onnx import TensorProto, helper, numpy_helper

        wide = numpy_helper.to_array(tensor)
        name, stored = tensor.name, f"{tensor.name}_{self.kind}"
        if self.kind == "float16":
            largest = float(np.abs(wide).max())
            if not largest <= _LARGEST_FLOAT16:
                raise RefusedError(
                    f"weights of {name} reach {largest:.3g}, float16 ends at {_LARGEST_FLOAT16:g}; take bfloat16"
                )
            short = numpy_helper.from_array(wide.astype(np.float16), stored)
        else:
            bits = bfloat16_bits(wide).tobytes()
            short = helper.make_tensor(stored, TensorProto.BFLOAT16, wide.shape, bits, raw=True)
        tensor.CopyFrom(short)
        graph.node.insert(0, helper.make_node("Cast", [stored], [name], name=f"{name}_wide", to=TensorProto.FLOAT))


def bfloat16_bits(wide: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return float32 numbers as bfloat16's sixteen bits, rounded to the nearest and to even where two are."""
    bits = np.ascontiguousarray(wide).view(np.uint32)
    odd = (bits >> 16) & 1
    rounded = (bits + np.uint32(0x7FFF) + odd) >> 16
    return np.where(np.isnan(wide), 0x7FC0, rounded).astype(np.uint16)
