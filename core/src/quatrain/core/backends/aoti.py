"""The graph compiled ahead of time by AOTInductor, kept in the cache and built again whenever it is not current.

A .pt2 holds machine code for this processor and this torch. It is a cache and never the model:
each is made from the sealed graph, named by all it depends on, and compared with its digest
before it is loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from quatrain.core import hardware
from quatrain.core.backends.protocol import BackendError
from quatrain.core.backends.torch_graph import torch_graph
from quatrain.core.backends.torch_sessions import TorchSession, compiler_options, device
from quatrain.core.config import settings

# Raise it when the same graph gives other torch code.
_CONVERSION = 1


def open_ahead(onnx: bytes, *, threads: int | None = None) -> TorchSession:
    """Return the graph as machine code; what is not in the cache is compiled when a bucket is first used."""
    graph = torch_graph(onnx).to(device())
    loaded: dict[int, Any] = {}
    lock = threading.Lock()

    def run(tensors: list[torch.Tensor], n_rows: int) -> Sequence[torch.Tensor]:
        with lock:
            if n_rows not in loaded:
                key = _key(onnx, n_rows)
                loaded[n_rows] = _current(key, lambda path: _build(graph.body, tensors, path))
            outputs: Sequence[torch.Tensor] = loaded[n_rows](*tensors)
            return outputs

    return TorchSession("aoti", graph, run, threads=threads, is_padded=True)


def cache_folder() -> Path:
    """Return the folder of the compiled graphs; only this user may write there, since what lies there is run."""
    folder = settings().cache / "aoti"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise BackendError(
            f"aoti cannot write its cache {folder}: {error.strerror}; set QUATRAIN_CORE__CACHE to a folder of your own"
        ) from error
    if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o022:
        raise BackendError(f"aoti runs code from {folder}, which others may write to; run `chmod go-w {folder}`")
    return folder


def _key(onnx: bytes, n_rows: int) -> dict[str, Any]:
    """Return all that the machine code depends on."""
    target = device()
    return {
        "graph": hashlib.sha256(onnx).hexdigest(),
        "rows": n_rows,
        "conversion": _CONVERSION,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(target) if target.type == "cuda" else hardware.cpu_model(),
        "features": list(hardware.cpu_features()),
    }


def _current(key: dict[str, Any], build: Callable[[Path], None]) -> Any:
    """Return the loaded package of this key, built unless the cache holds it whole and unchanged."""
    name = f"{key['graph'][:16]}-{key['rows']}"
    folder = cache_folder()
    package, record = folder / f"{name}.pt2", folder / f"{name}.json"
    with FileLock(folder / f"{name}.lock"):
        if not _holds(package, record, key):
            part = folder / f"{name}-{secrets.token_hex(4)}.pt2"
            try:
                build(part)
                digest = hashlib.sha256(part.read_bytes()).hexdigest()
                # Without its record a package counts as absent, so a cut between the two is no harm.
                record.unlink(missing_ok=True)
                part.replace(package)
                _write(record, {"key": key, "sha256": digest})
            finally:
                part.unlink(missing_ok=True)
        return torch._inductor.aoti_load_package(str(package))


def _holds(package: Path, record: Path, key: dict[str, Any]) -> bool:
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
    except (OSError, ValueError):
        return False
    return bool(found == {"key": key, "sha256": digest})


def _write(path: Path, document: dict[str, Any]) -> None:
    part = path.with_suffix(f".{secrets.token_hex(4)}")
    part.write_text(json.dumps(document), encoding="utf-8")
    part.replace(path)


def _build(body: torch.nn.Module, tensors: list[torch.Tensor], path: Path) -> None:
    # A tensor made in inference mode cannot be traced.
    with torch.inference_mode(mode=False), torch.no_grad():
        program = torch.export.export(body, tuple(tensor.clone() for tensor in tensors))
        options = {name: value for name, value in compiler_options(device()).items() if name != "triton.cudagraphs"}
        torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=options)
