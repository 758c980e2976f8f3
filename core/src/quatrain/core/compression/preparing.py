"""What every quantization begins and ends with: a graph made plain, and one that is closed again behind a guard."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from quatrain.core.compression import graph_edits
from quatrain.core.compression.artifact import Artifact
from quatrain.core.compression.gate import RefusedError
from quatrain.core.compression.nan_guard import add_guard
from quatrain.core.compression.sessions import looking_session
from quatrain.core.errors import require
from quatrain.core.export import finished

if TYPE_CHECKING:
    import onnx

_QUANTISED = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "DequantizeLinear", "MatMulNBits"})
_EXTRA = "quatrain-core[train]"


def prepared(content: bytes) -> onnx.ModelProto:
    """Return the graph with batch normalisation folded, constants computed, and shapes inferred.

    Raises RefusedError for a graph that is quantised already.
    """
    require("onnx", package=_EXTRA)
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "prepared.onnx"
        looking_session(content, level="basic", saved_to=target)
        model = onnx.load(target)
    if any(node.op_type in _QUANTISED for node in model.graph.node):
        raise RefusedError("the graph is quantised already; quantise once, as the last step of a plan")
    return onnx.shape_inference.infer_shapes(model)


def closed(
    model: onnx.ModelProto, before: Artifact, *, guard: bool, whole_batch: bool, notes: tuple[str, ...]
) -> Artifact:
    """Return the artifact of a quantised graph, guarded against NaN where asked; its module is gone."""
    if guard:
        add_guard(model, whole_batch=whole_batch)
    graph_edits.keep_used_domains(model)
    return replace(before, onnx=finished(model), module=None, notes=notes)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Keep ONNX Runtime's quantizer off stdout, where a command's JSON goes, and off the root logger.

    Without a handler there, its first remark would set one up for the whole process.
    """
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)
    root.addFilter(_refuse)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.removeFilter(_refuse)
        root.removeHandler(handler)


def _refuse(_: logging.LogRecord) -> bool:
    return False
