"""Which steps suit what a bundle holds: products of matrices in integers, inputs of any scale in float."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from quatrain.core.compression.artifact import Step
from quatrain.core.compression.graph_edits import MULTIPLYING
from quatrain.core.compression.planned import (
    Materials,
    Planned,
    PlannedDynamicInt8,
    PlannedInt8,
    PlannedPrune,
    PlannedTrim,
)
from quatrain.core.compression.plans import parse
from quatrain.core.compression.quantize import MATMUL_ONLY
from quatrain.core.errors import UsageError, UserError, require

if TYPE_CHECKING:
    import onnx

    from quatrain.core.bundle.open import Bundle

# Makes a step that works on the network inside the graph.
OnNetworkOf = Callable[[Planned], Step]
_EXTRA = "quatrain-fintech[train]"
# Ranges are taken from calibration rows: in a dynamic graph a row's scale depends on its batch, and the bounds of a
# probability, which are steps, would differ from batch to batch.
_DEFAULT = "int8:mixed=4"
# Weights of more dimensions are one matrix for each input, which ONNX Runtime's integer products do not take.
_MATRIX = 2


def planned_steps(plan: str) -> tuple[Planned, ...]:
    """Return the plan's steps, checked before any data is read; "auto" is static int8."""
    return parse(_DEFAULT if plan == "auto" else plan)


def suited_graph(bundle: Bundle, planned: Sequence[Planned]) -> onnx.GraphProto:
    """Return the bundle's graph; raises UserError for a model of trees and steps on products, of which it has none."""
    require("onnx", package=_EXTRA)
    import onnx

    graph = onnx.load_from_string(bundle.onnx).graph
    has_products = any(node.op_type in MULTIPLYING for node in graph.node)
    if not has_products and not all(isinstance(step, PlannedTrim) for step in planned):
        raise UserError(
            f"{bundle.manifest.name} is made of trees only: there are no products of matrices that integers would "
            "make faster. Keep its first trees only with --plan trim-trees:0.5, train it with fewer rounds "
            "(--set recipe.trees=...), or train a network instead: --set recipe.model=mlp"
        )
    return graph


def fitted_steps(
    planned: Sequence[Planned], graph: onnx.GraphProto, *, materials: Materials, on_network: OnNetworkOf
) -> list[Step]:
    """Return the steps; int8 covers matrix products whose weights are one matrix, unless the plan says otherwise.

    Anything ahead of the products reads inputs as they come, amounts beside flags: 256 steps would
    hold none of them. Steps that train are made by `on_network`. Raises UsageError where one of
    these is not the first.
    """
    apart = _stacked_products(graph)
    steps: list[Step] = []
    for step in planned:
        if isinstance(step, PlannedPrune):
            if steps:
                raise UsageError("prune comes first in a plan: it works on the network as it was trained")
            steps.append(on_network(step))
        else:
            steps.append(_fitted(step, apart).build(materials))
    return steps


def _fitted(step: Planned, apart: tuple[str, ...]) -> Planned:
    if not isinstance(step, PlannedInt8 | PlannedDynamicInt8):
        return step
    update = {"operators": step.operators or MATMUL_ONLY, "keep_float": (*step.keep_float, *apart)}
    return step.model_copy(update=update)


def _stacked_products(graph: onnx.GraphProto) -> tuple[str, ...]:
    """Return the names of products with a stack of matrices for weights."""
    stacked = {tensor.name for tensor in graph.initializer if len(tensor.dims) > _MATRIX}
    return tuple(node.name for node in graph.node if node.op_type in MATMUL_ONLY and stacked & set(node.input))
