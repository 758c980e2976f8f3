"""Weights of large products in eight or four bits, activations in float: for models that wait for memory.

Each block of a column has a scale of its own. ONNX Runtime's MatMulNBits unpacks the weights where
it multiplies, on the CPU and on CUDA; the file shrinks nearly as much as the bits say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from quatrain.core.compression import graph_edits, preparing
from quatrain.core.compression.artifact import Artifact, Step
from quatrain.core.compression.gate import Promise, RefusedError

if TYPE_CHECKING:
    import onnx

# What MatMulNBits computes in: 0 is the inputs' type, 4 is int8 activations scaled block by block.
_ACCURACY = {"float32": 0, "int8": 4}
_LEAST_BLOCK = 16
_PACKED = "MatMulNBits"


@dataclass(frozen=True, kw_only=True)
class WeightOnly:
    """Store the weights of products with `least_values` numbers or more in `bits`, blocks of `block_size` together.

    `activations` "int8" lets the CPU multiply in integers: coarser, and blind to NaN, which the guard
    then carries past it. Eight bits beside float activations have no fast kernel on a CPU, where the
    gate refuses them for their speed.
    """

    bits: Literal[4, 8] = 8
    # A power of two from 16 on; smaller blocks are more exact and take more scales.
    block_size: int = 32
    least_values: int = 4096
    # Names of nodes that keep their weights.
    keep_float: tuple[str, ...] = ()
    activations: Literal["float32", "int8"] = "float32"
    guard: bool = True

    promise = Promise(same_model=True, smaller=True)

    def __post_init__(self) -> None:
        """Refuse what MatMulNBits cannot hold."""
        if self.bits not in (4, 8) or self.block_size < _LEAST_BLOCK or self.block_size & (self.block_size - 1):
            raise ValueError(
                f"expected 4 or 8 bits and a block size that is a power of two from {_LEAST_BLOCK} on, "
                f"got {self.bits} and {self.block_size}"
            )
        if self.activations not in _ACCURACY:
            raise ValueError(f"activations must be float32 or int8, got {self.activations!r}")

    @property
    def name(self) -> str:
        """What the report calls it."""
        return f"int{self.bits} weights" + (", int8 activations" if self.activations == "int8" else "")

    def settings(self) -> Mapping[str, Any]:
        """Return what decides the outcome."""
        return {
            "step": "weight only",
            "bits": self.bits,
            "block_size": self.block_size,
            "least_values": self.least_values,
            "keep_float": self.keep_float,
            "activations": self.activations,
            "guard": self.guard,
        }

    def fallbacks(self, before: Artifact) -> Iterable[Step]:
        """Return nothing: eight bits are another step."""
        del before
        return ()

    def apply(self, before: Artifact) -> Artifact:
        """Return the graph with packed weights; raises RefusedError where no product was packed."""
        prepared = preparing.prepared(before.onnx)
        graph_edits.gemm_as_matmul(prepared.graph)
        asked = self._large(prepared.graph)
        if not asked:
            raise RefusedError(
                f"there is nothing to store in {self.bits} bits: no matrix product has constant weights of "
                f"{self.least_values} values or more, and {self.block_size} or more in a column"
            )
        model = self._packed(prepared, asked)
        packed = [node.name for node in model.graph.node if node.op_type == _PACKED]
        if len(packed) != len(asked):
            raise RefusedError(
                f"only {len(packed)} of {len(asked)} products were packed: {', '.join(packed) or 'none'}"
            )
        guard = self.guard and self.activations == "int8"
        note = f"weights of {len(packed)} products stored in {self.bits} bits"
        return preparing.closed(model, before, guard=guard, whole_batch=False, notes=(note,))

    def _large(self, graph: onnx.GraphProto) -> list[str]:
        """Return the names of products whose constant weights (K, N) are worth packing."""
        shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        found = []
        for node in graph.node:
            shape = shapes.get(node.input[1], ()) if node.op_type == "MatMul" else ()
            is_large = len(shape) == 2 and shape[0] >= self.block_size and shape[0] * shape[1] >= self.least_values  # noqa: PLR2004 - rows, columns
            if is_large and node.name not in self.keep_float:
                found.append(node.name)
        return found

    def _packed(self, prepared: onnx.ModelProto, asked: list[str]) -> onnx.ModelProto:
        with preparing.silent():
            # Its import sets up logging for the whole process.
            from onnxruntime.quantization.matmul_nbits_quantizer import (  # type: ignore[import-untyped]  # no types
                MatMulNBitsQuantizer,
            )

            quantizer = MatMulNBitsQuantizer(
                prepared,
                bits=self.bits,
                block_size=self.block_size,
                is_symmetric=True,
                accuracy_level=_ACCURACY[self.activations],
                nodes_to_exclude=[node.name for node in prepared.graph.node if node.name not in asked],
            )
            quantizer.process()
        model: onnx.ModelProto = quantizer.model.model
        return model
