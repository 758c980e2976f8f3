"""The backends by name, each imported only when it is chosen."""

from __future__ import annotations

import importlib
import importlib.util
from typing import cast

from quatrain.core.backends.protocol import BackendError, Opener
from quatrain.core.errors import UsageError, did_you_mean

DEFAULT = "onnxruntime"
# Per backend the module and the function that opens a graph. Named as text, because what scores at
# night must not depend on torch even by a chain of imports that never runs.
_OPENERS = {
    DEFAULT: ("quatrain.core.backends.onnx_runtime", "open_session"),
    "onnxruntime-cuda": ("quatrain.core.backends.onnx_runtime", "open_cuda"),
    "onnxruntime-tensorrt": ("quatrain.core.backends.onnx_runtime", "open_tensorrt"),
    "openvino": ("quatrain.core.backends.open_vino", "open_session"),
    "torch": ("quatrain.core.backends.torch_sessions", "open_eager"),
    "torch-compile": ("quatrain.core.backends.torch_sessions", "open_compiled"),
    "aoti": ("quatrain.core.backends.aoti", "open_ahead"),
}
# What must be installed for a backend, and the command's argument that installs it.
_PACKAGES = {
    "openvino": ("openvino", "quatrain-core[openvino]"),
    "torch": ("torch", "quatrain-core[train]"),
    "torch-compile": ("torch", "quatrain-core[train]"),
    "aoti": ("torch", "quatrain-core[train]"),
}
NAMES = tuple(_OPENERS)


def opener_of(name: str) -> Opener:
    """Return what opens graphs for this backend.

    Raises UsageError for an unknown name, BackendError where its package is not installed.
    """
    if name not in _OPENERS:
        raise UsageError(f"unknown backend {name!r}{did_you_mean(name, ('auto', *NAMES))}")
    if not is_installed(name):
        module, package = _PACKAGES[name]
        raise BackendError(f"the backend {name} needs {module}, which is not installed; run `pip install '{package}'`")
    module, function = _OPENERS[name]
    return cast("Opener", getattr(importlib.import_module(module), function))


def is_installed(name: str) -> bool:
    """Return whether the backend's package can be found; nothing is imported."""
    return name not in _PACKAGES or importlib.util.find_spec(_PACKAGES[name][0]) is not None
