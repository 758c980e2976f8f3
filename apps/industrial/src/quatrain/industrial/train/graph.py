"""The inspector as one ONNX graph: the extractor's and the head's joined, images of any size."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch

from quatrain.core.errors import require
from quatrain.core.export import finished, torch_model
from quatrain.core.vision.backbones import load_backbone
from quatrain.industrial.models.extractor import Extractor, Geometry

if TYPE_CHECKING:
    from quatrain.industrial.models.inspector import Head

# Rows of the example that the exporter traces: one would freeze the batch.
_ROWS = 2
_EXTRA = "quatrain-industrial[train]"
# Neither side of an example may be one that the resize leaves as it is.
_EXAMPLE_HW = (141, 173)


@cache
def extractor_and_graph(
    backbone: str, geometry: Geometry, *, n_channels: int, full_scale: float, dtype: str
) -> tuple[Extractor, bytes]:
    """Return the extractor and its graph from `image` (batch, height, width, C) to `features`, of any size.

    Exported once a process: it does not depend on the parts.
    """
    extractor = Extractor(load_backbone(backbone), geometry, n_channels=n_channels, full_scale=full_scale).eval()
    example = torch.zeros((_ROWS, *_EXAMPLE_HW, n_channels), dtype=getattr(torch, dtype))
    return extractor, _of_any_size(torch_model(extractor, {"image": example}, output_names=["features"]))


def joined(extractor_onnx: bytes, head: Head, *, n_features: int, grid_hw: tuple[int, int]) -> bytes:
    """Return the graph from `image` to `score` and `map`."""
    onnx = require("onnx", package=_EXTRA)
    compose = require("onnx.compose", package=_EXTRA)
    example = torch.zeros((_ROWS, n_features, *grid_hw))
    tail = onnx.load_from_string(torch_model(head, {"features": example}, output_names=["score", "map"]))
    front = onnx.load_from_string(extractor_onnx)
    whole = compose.merge_models(
        compose.add_prefix(front, "extractor.", rename_inputs=False, rename_outputs=False),
        compose.add_prefix(tail, "head.", rename_inputs=False, rename_outputs=False),
        io_map=[("features", "features")],
    )
    return finished(whole)


def _of_any_size(model: bytes) -> bytes:
    """Free height and width: the exported resize takes them from the image, only the signature names the example's."""
    onnx = require("onnx", package=_EXTRA)
    graph = onnx.load_from_string(model)
    for place, name in ((1, "height"), (2, "width")):
        side = graph.graph.input[0].type.tensor_type.shape.dim[place]
        side.ClearField("dim_value")
        side.dim_param = name
    return finished(graph)
