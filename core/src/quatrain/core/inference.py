"""A sealed model that answers: load_model(name).predict(x), without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from quatrain.core import hardware
from quatrain.core.backends import choices as kept
from quatrain.core.backends.auto import AutoSession
from quatrain.core.backends.choices import Choices
from quatrain.core.backends.golden import (
    InvalidOutputError,
    answer,
    answer_checked,
    largest_difference,
    verified_session,
)
from quatrain.core.backends.onnx_runtime import open_session
from quatrain.core.backends.protocol import BackendError, Opener, Session
from quatrain.core.backends.registry import DEFAULT, opener_of
from quatrain.core.bundle.manifest import MANIFEST, Manifest
from quatrain.core.bundle.open import Bundle, open_bundle
from quatrain.core.errors import did_you_mean
from quatrain.core.inputs import InvalidInputError

if TYPE_CHECKING:
    from quatrain.core.store import Store
    from quatrain.core.streaming import Answer

__all__ = [
    "BackendError",
    "InvalidInputError",
    "InvalidOutputError",
    "Model",
    "Opener",
    "Prediction",
    "Session",
    "find_bundle",
    "largest_difference",
    "load_model",
    "open_session",
]


@dataclass(frozen=True)
class Prediction:
    """A model's answer: `prediction["probability"]` is that output, its first dimension the input's rows."""

    outputs: Mapping[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self.outputs:
            raise KeyError(f"no output {name!r}{did_you_mean(name, self.outputs)}")
        return self.outputs[name]


class Model:
    """A loaded model; `predict` may be called from several threads at once."""

    def __init__(self, bundle: Bundle, session: Session, *, reference: str, backend: str) -> None:
        self.manifest: Manifest = bundle.manifest
        # SHA-256 of the bundle's manifest, which holds the digests of all its files.
        self.digest = bundle.digest
        # What to call it on a screen, such as "fintech/fraud:3" or the bundle's path.
        self.reference = reference
        # What runs the graph; where it depends on the batch, as "1 onnxruntime, 8 openvino, ...".
        self.backend = backend
        self._session = session

    def predict(self, x: NDArray[Any] | Mapping[str, NDArray[Any]]) -> Prediction:
        """Return the outputs for a batch: an array for a one-input model, or arrays by input name.

        Raises InvalidInputError unless dtype, shape, range and finiteness are what the manifest
        says, InvalidOutputError when the answer is not finite.
        """
        return Prediction(answer(self._session, self.manifest, x, reference=self.reference))

    def stream(
        self,
        items: Iterable[Any],
        *,
        decode: Callable[[Any], NDArray[Any] | Mapping[str, NDArray[Any]]] | None = None,
        batch_size: int = 64,
        workers: int = 2,
        ahead: int | None = None,
    ) -> Iterator[Answer]:
        """Yield one answer for each item, in order: reading, decoding and computing go on at the same time.

        An item is a row or a batch as `predict` takes it, or whatever `decode` makes one of. At most
        `ahead` items are decoded and waiting (by default twice `batch_size`), so memory does not grow
        with the stream. An item that cannot be decoded, is not what the manifest says or gives no
        number has its error in its own answer (UserError, ValueError and OSError); any other error,
        and one of `items` itself, is raised after the answers before it. Where memory runs out,
        batches are halved. Closing the iterator early ends its threads.
        """
        from quatrain.core import streaming

        compute = partial(answer_checked, self._session, self.manifest, reference=self.reference)
        return streaming.stream(
            items,
            compute,
            inputs=self.manifest.inputs,
            decode=decode,
            batch_size=batch_size,
            workers=workers,
            ahead=ahead,
        )


def load_model(
    model: str | Path,
    *,
    backend: str = "auto",
    store: Store | None = None,
    threads: int | None = None,
    opener: Opener | None = None,
    tune: bool = False,
) -> Model:
    """Return the model behind a bundle's path or a store reference, after it reproduced its golden outputs.

    "fintech/fraud", "fintech/fraud:3" and "fintech/fraud@prod" are looked up in `store`, by default
    the configured one; a Path, and a text that is a bundle on disk or starts with . / or ~, is
    opened as it is. `threads` None follows CPU affinity and the cgroup's quota.

    "auto" is what `quatrain benchmark` found fastest on this machine for each size of batch, and
    ONNX Runtime where nothing was measured; `tune` measures now where that is so, which takes
    seconds. `opener` takes the place of `open_session` for what runs a graph faster; it is held to
    the golden outputs as well. Raises BundleError for a bundle that is damaged or does not give its
    golden outputs here, and BackendError for a backend that does not take this graph.
    """
    name = DEFAULT if backend == "auto" else backend
    opened_by = opener or opener_of(name)
    bundle, reference = find_bundle(model, store)
    session = verified_session(bundle, opened_by, backend=name, reference=reference, threads=threads)
    if backend == "auto" and opener is None and (choices := _choices(bundle, reference, threads, tune=tune)):
        others = partial(_open_backend, bundle, reference, threads)
        return Model(
            bundle, AutoSession(session, choices.backends, others), reference=reference, backend=choices.text()
        )
    return Model(bundle, session, reference=reference, backend=name)


def find_bundle(model: str | Path, store: Store | None = None) -> tuple[Bundle, str]:
    """Return the verified bundle behind a path or a store reference, and what to call it."""
    if isinstance(model, Path) or _is_path(model):
        return open_bundle(Path(model).expanduser()), str(model)
    from quatrain.core.store import Store

    store = store or Store()
    reference = store.find(model).reference
    return store.open(reference), reference


def _choices(bundle: Bundle, reference: str, threads: int | None, *, tune: bool) -> Choices | None:
    """Return what is to serve where that is not ONNX Runtime for every batch."""
    if tune:
        from quatrain.core.backends.autotune import tuned

        found: Choices | None = tuned(bundle, reference=reference, threads=threads)
    elif kept.has_any(bundle.digest):
        found = kept.read(kept.key_of(bundle.digest, threads=threads or hardware.cpu_limit()))
    else:
        return None
    return found if found is not None and set(found.backends.values()) != {DEFAULT} else None


def _open_backend(bundle: Bundle, reference: str, threads: int | None, name: str) -> Session:
    return verified_session(bundle, opener_of(name), backend=name, reference=reference, threads=threads)


def _is_path(model: str) -> bool:
    return model.startswith((".", "/", "~")) or model.endswith(".qtn") or (Path(model) / MANIFEST).is_file()
