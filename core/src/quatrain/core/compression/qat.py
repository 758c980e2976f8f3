"""Training that knows of the integers to come: the last resort, where rounding alone costs too much.

Weights and inputs of convolutions and linear layers are rounded in the forward pass as the int8
graph will round them, and gradients pass through as if they were not (Jacob et al., "Quantization
and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from quatrain.core.compression import fake_quant, preparing
from quatrain.core.compression.artifact import Artifact, Step
from quatrain.core.compression.gate import Promise
from quatrain.core.compression.graph_edits import source_of
from quatrain.core.compression.modules import exported, require_module

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from quatrain.core.compression.quantize import Int8
    from quatrain.core.compression.retraining import TrainingRows

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizationAware:
    """Train a copy with its numbers rounded, then quantise it by `int8` with the very ranges of the training.

    Ranges are the least and the largest input of each layer on the calibration rows. Batch
    normalisation is folded into the convolution before it, which int8 graphs do as well.
    """

    int8: Int8
    training: TrainingRows

    promise = Promise(integers=True)

    @property
    def name(self) -> str:
        """What the report calls it."""
        return f"{self.int8.name}, trained for it"

    def settings(self) -> Mapping[str, Any]:
        """Return what decides the outcome."""
        return {"step": "quantization aware", "int8": self.int8.settings(), "training": self.training.settings()}

    def fallbacks(self, before: Artifact) -> Iterable[Step]:
        """Return nothing: this is the last resort."""
        del before
        return ()

    def apply(self, before: Artifact) -> Artifact:
        """Return the trained module's graph in int8; raises RefusedError where there is no module."""
        from quatrain.core.compression.calibration import require_representative

        require_representative(self.int8.calibration, before.inputs)
        module = require_module(before).cpu().eval()
        n_folded = fake_quant.fold_batch_norms(module, self.int8.calibration)
        ranges = fake_quant.ranges_of(module, self.int8.calibration)
        with fake_quant.rounding(module, ranges):
            self.training.train(module)
        module.cpu()
        note = f"{len(ranges)} layers trained with rounded numbers, {n_folded} batch norms folded"
        trained = exported(before, module, notes=(note,))
        prepared = preparing.prepared(trained.onnx)
        return self.int8.finish(prepared, trained, method="minmax", ranges=_by_tensor(prepared, module, ranges))


def _by_tensor(prepared: onnx.ModelProto, module: nn.Module, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Return the ranges by the name of the tensor that the layer reads; layers are known by their weights."""
    from onnx import numpy_helper

    weights = {name: module.get_parameter(f"{name}.weight").detach().numpy() for name in ranges}
    constants = {tensor.name: tensor for tensor in prepared.graph.initializer}
    found: dict[str, Range] = {}
    for node in prepared.graph.node:
        if len(node.input) < 2 or node.input[1] not in constants:  # noqa: PLR2004 - what it reads, and weights
            continue
        array = numpy_helper.to_array(constants[node.input[1]])
        for name, weight in weights.items():
            if np.array_equal(array, weight) or np.array_equal(array.T, weight):
                found[source_of(prepared.graph, node.input[0])] = ranges[name]
    return found
