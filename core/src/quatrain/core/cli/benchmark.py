"""`quatrain benchmark`: how fast a model is here, and which backend serves it from now on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quatrain.core.cli.options import BundlePath, Json, Out, Quiet, Verbose, print_json, verbosity

if TYPE_CHECKING:
    from quatrain.core.benchmarking.run import Benchmark

# Columns of a table that goes into a file or a pipe.
_PIPE_WIDTH = 120

Backends = Annotated[
    list[str] | None, typer.Option("--backend", help="Only this backend; repeatable. Default: those that pay here.")
]
Batches = Annotated[list[int] | None, typer.Option("--batch", min=1, help="Rows per call; repeatable.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Default: what affinity and cgroup allow.")]
Seconds = Annotated[float, typer.Option("--seconds", min=0.01, help="Seconds for each backend and batch size.")]


def benchmark(
    model: Annotated[str, typer.Argument(help="Model name such as fintech/fraud@prod, or a bundle's path.")],
    *,
    backend: Backends = None,
    batch: Batches = None,
    threads: Threads = None,
    seconds: Seconds = 1.0,
    out: Out = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Time a model on every backend that gives its golden outputs; backend="auto" then takes the fastest."""
    from quatrain.core import logs

    logs.configure(verbosity=verbosity(quiet=quiet, verbose=verbose))
    run(model, backend=backend, batch=batch, threads=threads, seconds=seconds, out=out, json=json)


def of_model(model: str) -> Callable[..., None]:
    """Return an app's `benchmark` command, which times its own model unless --bundle names another."""

    def benchmark(
        *,
        bundle: BundlePath = None,
        backend: Backends = None,
        batch: Batches = None,
        threads: Threads = None,
        seconds: Seconds = 1.0,
        out: Out = None,
        json: Json = False,
        quiet: Quiet = False,
        verbose: Verbose = False,
    ) -> None:
        """Time the app's sealed model on every backend that gives its golden outputs."""
        from quatrain.core import logs

        logs.configure(verbosity=verbosity(quiet=quiet, verbose=verbose))
        run(bundle or model, backend=backend, batch=batch, threads=threads, seconds=seconds, out=out, json=json)

    return benchmark


def run(
    model: str,
    *,
    backend: list[str] | None,
    batch: list[int] | None,
    threads: int | None,
    seconds: float,
    out: Path | None,
    json: bool,
) -> None:
    """Measure, write benchmark.json and roofline.png, and print what came."""
    from quatrain.core.backends.buckets import BUCKETS
    from quatrain.core.benchmarking.run import benchmark as measure
    from quatrain.core.benchmarking.run import save
    from quatrain.core.config import settings
    from quatrain.core.inference import find_bundle

    bundle, reference = find_bundle(model)
    found = measure(
        bundle, reference=reference, backends=backend, batches=batch or BUCKETS, threads=threads, seconds=seconds
    )
    document, picture = save(found, out or settings().home / "benchmarks" / bundle.digest[:12])
    if json:
        print_json(found.model_dump(mode="json") | {"files": [str(document), str(picture)]})
        return
    _print(found)
    typer.echo(f"written: {document}, {picture}")


def _print(found: Benchmark) -> None:
    from rich.console import Console
    from rich.table import Table

    header, *rows = found.rows()
    table = Table(box=None, header_style="bold")
    for place, title in enumerate(header):
        table.add_column(title, justify="right" if place else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    typer.echo(
        f"{found.model} ({found.digest[:12]}), {found.threads} threads; this machine: "
        f"{found.peak_flops / 1e9:.0f} GFLOP/s in float32, {found.peak_bandwidth / 1e9:.0f} GB/s"
    )
    Console(width=None if os.isatty(1) else _PIPE_WIDTH).print(table)
    for name, reason in found.refused.items():
        typer.echo(f"refused {name}: {reason}")
    typer.echo("auto: " + ", ".join(f"{name} for {batch}" for batch, name in sorted(found.auto.items())))
