"""A small real job that the tests start, signal and kill as a process of its own.

`once ROOT` runs it from ROOT/in to ROOT/out; `once ROOT hold` says "processing" in the middle of
each file and goes on when a line comes. `serve` runs one job per line of JSON in a forked child:
{"root": …, "kill_at": n, "poison": null} kills it by SIGKILL at the n-th line of engine or job code
that it executes, and the answer is {"code": exit code or minus signal, "lines": lines executed};
n = 0 only counts, null does not even count. "poison" names a file on which the process dies.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow as pa

from quatrain.core import jobs, logs
from quatrain.core.errors import BadDataError, UserError
from quatrain.core.jobs.config import JobConfig
from quatrain.core.jobs.engine import run_job
from quatrain.core.jobs.sink import Sink

_TRACED = (str(Path(jobs.__file__).parent), __file__)


def double(path: Path, sink: Sink) -> None:
    """Write each amount doubled, and the large ones once more; reject what is negative."""
    header, *lines = path.read_text().splitlines() or [""]
    if header != "amount":
        raise BadDataError(f"expected the column amount, got {header!r}")
    amounts = [float(line) for line in lines]
    sink.count(len(amounts))
    for start in range(0, len(amounts), 3):
        batch = amounts[start : start + 3]
        sink.write("scores", pa.table({"amount": [2 * amount for amount in batch if amount >= 0]}, _SCHEMA))
        for row, amount in enumerate(batch, start):
            if amount < 0:
                sink.reject(row=row, reason="negative", column="amount", value=str(amount))
    sink.write("large", pa.table({"amount": [amount for amount in amounts if amount > 50]}, _SCHEMA))


_SCHEMA = pa.schema({"amount": pa.float64()})


def hold(path: Path, sink: Sink) -> None:
    """Do the same, but wait for a line on stdin first."""
    print("processing", flush=True)  # noqa: T201 the test waits for it
    sys.stdin.readline()
    double(path, sink)


def run(root: Path, process: Callable[[Path, Sink], None]) -> int:
    """Return the exit code of one run."""
    config = JobConfig(inputs=(root / "in",), out=root / "out", max_bad_ratio=1, prom=root / "job.prom")
    report = run_job(
        config,
        name="toy/double",
        app="toy",
        model_digest="m" * 64,
        config_digest="c" * 64,
        process=process,
        ledger_url=f"sqlite:///{root / 'ledger.db'}",
    )
    return report.exit_code


def serve() -> None:
    """Answer each line of stdin."""
    with tempfile.TemporaryDirectory() as folder:
        # What a first run imports and compiles, every fork has already.
        (Path(folder) / "in").mkdir()
        (Path(folder) / "in" / "warm.csv").write_text("amount\n-1\n1\n")
        run(Path(folder), double)
    for line in sys.stdin:
        order = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _run_counted(Path(order["root"]), kill_at=order["kill_at"], poison=order["poison"], writer=writer)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            lines = pipe.read()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"code": code, "lines": int(lines or 0)}), flush=True)  # noqa: T201 the answer


def _run_counted(root: Path, *, kill_at: int | None, poison: str | None, writer: int) -> None:
    n_lines = 0

    def trace(frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal n_lines
        if not frame.f_code.co_filename.startswith(_TRACED):
            return None
        if event == "line":
            n_lines += 1
            if n_lines == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    def die_of(path: Path, sink: Sink) -> None:
        if path.name == poison:
            os.kill(os.getpid(), signal.SIGKILL)
        double(path, sink)

    if kill_at is not None:
        sys.settrace(trace)
    code = run(root, die_of)
    sys.settrace(None)
    os.write(writer, str(n_lines).encode())
    os._exit(code)


def main(arguments: list[str]) -> int:
    """Do what the arguments say."""
    if arguments == ["serve"]:
        serve()
        return 0
    logs.configure(json=True)
    try:
        return run(Path(arguments[1]), hold if "hold" in arguments else double)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 as the front door does
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
