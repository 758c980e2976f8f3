"""`quatrain models`: what is in the store, what each alias means, and whether all of it still holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quatrain.core.cli.options import Json, print_json
from quatrain.core.errors import ExitCode, UserError

if TYPE_CHECKING:
    from rich.table import Table

    from quatrain.core.bundle.manifest import TensorSpec
    from quatrain.core.bundle.open import Bundle
    from quatrain.core.store import Store, Version
    from quatrain.core.trust.signing import PublicKey

app = typer.Typer(name="models", help="Sealed models: versions, aliases and signatures.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Model name, such as fintech/fraud.")]
Number = Annotated[int, typer.Argument(help="Version number.", min=1)]
Alias = Annotated[str, typer.Option("--alias", help="The alias to change.")]


@app.callback()
def _models() -> None:
    from quatrain.core import logs

    logs.configure()


@app.command("list")
def list_models(
    name: Annotated[str | None, typer.Argument(help="Show only this model.")] = None, *, json: Json = False
) -> None:
    """List the models of the store, their versions and aliases."""
    store = _store()
    rows = [_model_row(store, known) for known in ([name] if name else store.names())]
    if json:
        print_json({"store": store.url, "models": rows})
    elif not rows:
        typer.echo(f"No models in {store.url} yet. Run an app's `train` command to make the first one.")
    else:
        _print(_versions_table(rows))


@app.command()
def show(
    model: Annotated[
        str, typer.Argument(help="fintech/fraud, fintech/fraud:3, fintech/fraud@prod, or a bundle's path.")
    ],
    *,
    json: Json = False,
) -> None:
    """Show what a model takes and gives, how well it does, and who signed it."""
    bundle, reference = _find(model)
    document = {
        "reference": reference,
        "path": str(bundle.path),
        "digest": bundle.digest,
        "signer": bundle.signer,
        "manifest": bundle.manifest.model_dump(mode="json"),
        "card": bundle.card,
    }
    if json:
        print_json(document)
    else:
        _print_bundle(bundle, reference)


@app.command()
def promote(name: Name, version: Number, *, alias: Alias = "prod", json: Json = False) -> None:
    """Make an alias mean this version, after verifying its bundle."""
    _print_change(_store().promote(name, version, alias=alias), alias, json=json)


@app.command()
def rollback(name: Name, *, alias: Alias = "prod", json: Json = False) -> None:
    """Make an alias mean what it meant before its last promotion."""
    _print_change(_store().rollback(name, alias=alias), alias, json=json)


@app.command()
def history(name: Name, *, alias: Alias = "prod", json: Json = False) -> None:
    """Show every promotion and rollback of an alias."""
    events = _store().history(name, alias)
    if json:
        print_json({"name": name, "alias": alias, "events": [event.model_dump(mode="json") for event in events]})
        return
    table = _table("when", "action", "version", "digest", "by")
    for event in events:
        table.add_row(event.at, event.action, str(event.version), event.digest[:12], _plain(event.by))
    _print(table)


@app.command()
def verify(
    model: Annotated[str | None, typer.Argument(help="Reference or path; without it, every version.")] = None,
    *,
    json: Json = False,
) -> None:
    """Check digests and signature, of one model or of the whole store; exit 1 if anything fails."""
    rows = [_check(model)] if model else _check_all()
    if json:
        print_json({"models": rows})
    elif not rows:
        typer.echo(f"No models in {_store().url} yet, so there is nothing to verify.")
    for row in [] if json else rows:
        typer.echo(f"{'ok    ' if row['error'] is None else 'FAILED'} {row['model']}")
        if row["error"]:
            typer.echo(f"       {row['error']}", err=True)
    if any(row["error"] for row in rows):
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def trust(
    key: Annotated[
        str | None, typer.Argument(help="A public key of 44 characters, or a .pub file; without it, list the keys.")
    ] = None,
    *,
    json: Json = False,
) -> None:
    """Trust the models that another machine signs, or list the keys trusted here."""
    from quatrain.core.config import settings
    from quatrain.core.trust import signing

    keys_dir = settings().keys_dir
    if key is not None:
        _trust(key, keys_dir)
    own = signing.own_key(keys_dir)
    rows = [_key_row(own, "this machine")] if own else []
    rows += [_key_row(other, "trusted") for other in signing.trusted_keys(keys_dir)]
    if json:
        print_json({"signers": settings().signers, "keys": rows})
    elif not rows:
        typer.echo(f"No keys in {keys_dir} yet. The first sealed model makes this machine's key.")
    else:
        for row in rows:
            typer.echo(f"{row['kind']:<13} {row['fingerprint']}  {row['public_key']}")


def _store() -> Store:
    from quatrain.core.store import Store

    return Store()


def _table(*headers: str) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for header in headers:
        table.add_column(header, overflow="fold")
    return table


def _print(*tables: Table) -> None:
    from rich.console import Console

    Console().print(*tables)


def _model_row(store: Store, name: str) -> dict[str, Any]:
    versions = [
        {"version": version.number, "digest": version.digest, "published": version.published}
        for version in store.versions(name)
    ]
    return {"name": name, "aliases": store.aliases(name), "versions": versions}


def _versions_table(rows: list[dict[str, Any]]) -> Table:
    table = _table("model", "version", "alias", "published", "digest")
    for row in rows:
        for version in reversed(row["versions"]):
            aliases = [alias for alias, number in row["aliases"].items() if number == version["version"]]
            table.add_row(
                row["name"],
                str(version["version"]),
                ", ".join(aliases),
                version["published"],
                version["digest"][:12],
            )
    return table


def _find(model: str) -> tuple[Bundle, str]:
    from quatrain.core.bundle.open import open_bundle

    if not _is_reference(model):
        return open_bundle(Path(model).expanduser()), model
    store = _store()
    version = store.find(model)
    return store.open(version.reference), version.reference


def _is_reference(model: str) -> bool:
    from quatrain.core.store import Reference

    try:
        Reference.parse(model)
    except UserError:
        return False
    return True


def _print_bundle(bundle: Bundle, reference: str) -> None:
    manifest = bundle.manifest
    facts = {
        "model": reference,
        "task": manifest.task,
        "created": manifest.created,
        "digest": bundle.digest,
        "signed by": bundle.signer,
        "file": str(bundle.path),
    }
    for key, value in facts.items():
        typer.echo(f"{key:<10} {value}")
    tensors = _table("", "name", "dtype", "shape", "range", "units")
    for kind, specs in (("input", manifest.inputs), ("output", manifest.outputs)):
        for spec in specs:
            shape = ", ".join(map(str, spec.shape))
            tensors.add_row(
                kind, _plain(spec.name), spec.dtype, f"({_plain(shape)})", _range(spec), _plain(spec.units or "")
            )
    _print(tensors)
    if manifest.metrics:
        _print(_metrics_table(bundle))


def _plain(text: str) -> str:
    """Return `text` so that rich shows square brackets instead of obeying them."""
    from rich.markup import escape

    return escape(text)


def _range(spec: TensorSpec) -> str:
    if spec.low is None and spec.high is None:
        return "any finite"
    return f"{'' if spec.low is None else f'{spec.low:g}'} … {'' if spec.high is None else f'{spec.high:g}'}"


def _metrics_table(bundle: Bundle) -> Table:
    table = _table("split", "metric", "value", "interval")
    for split, values in bundle.manifest.metrics.items():
        intervals = bundle.manifest.intervals.get(split, {})
        for metric, value in values.items():
            low_high = intervals.get(metric)
            interval = f"{low_high[0]:.4f} … {low_high[1]:.4f}" if low_high else ""
            table.add_row(_plain(split), _plain(metric), f"{value:.4f}", interval)
    return table


def _print_change(version: Version, alias: str, *, json: bool) -> None:
    if json:
        print_json({"name": version.name, "alias": alias, "version": version.number, "digest": version.digest})
    else:
        typer.echo(f"{version.name}@{alias} is now version {version.number} ({version.digest[:12]})")


def _check_all() -> list[dict[str, Any]]:
    store = _store()
    return [row for name in store.names() for row in _check_model(store, name)]


def _check_model(store: Store, name: str) -> list[dict[str, Any]]:
    """Return a row for each version, and one for whatever else of the model cannot be read."""
    try:
        rows = [_check(version.reference) for version in store.versions(name)]
    except UserError as error:
        rows = [_failed(name, error)]
    try:
        aliases = list(store.aliases(name))
    except UserError as error:
        return [*rows, _failed(f"{name} aliases", error)]
    # The version itself was checked above: here it only has to be what was promoted.
    for alias in aliases:
        try:
            store.find(f"{name}@{alias}")
        except UserError as error:
            rows.append(_failed(f"{name}@{alias}", error))
    return rows


def _failed(model: str, error: UserError) -> dict[str, Any]:
    return {"model": model, "digest": None, "error": str(error)}


def _check(model: str) -> dict[str, Any]:
    from quatrain.core.bundle.open import open_bundle

    try:
        if _is_reference(model):
            version = _store().verify(model)
            return {"model": version.reference, "digest": version.digest, "error": None}
        return {"model": model, "digest": open_bundle(Path(model).expanduser()).digest, "error": None}
    except UserError as error:
        return _failed(model, error)


def _trust(key: str, keys_dir: Path) -> None:
    from quatrain.core.trust import signing

    if not key.endswith(".pub"):
        signing.trust(signing.parse_key(key), keys_dir=keys_dir)
        return
    file = Path(key).expanduser()
    try:
        text = file.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise UserError(f"cannot read the key file {file}: {error.strerror}") from error
    signing.trust(signing.parse_key(text, where=str(file)), keys_dir=keys_dir)


def _key_row(key: PublicKey, kind: str) -> dict[str, str]:
    return {"kind": kind, "fingerprint": key.fingerprint, "public_key": key.text}
