"""Named versions of sealed models and aliases such as @prod, in a folder or behind any fsspec URL.

Layout under the store's root, for each model:

    fintech/fraud/bundles/<digest>.qtn    the bundle, written first
    fintech/fraud/versions/3.json         its number and digest, created once, never changed
    fintech/fraud/aliases/prod.json       every promotion and rollback, replaced whole
"""

from __future__ import annotations

import getpass
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import Field, ValidationError

from quatrain.core.bundle.manifest import BundleError, check_name
from quatrain.core.bundle.open import Bundle, open_bundle, pack
from quatrain.core.config import Config, settings
from quatrain.core.errors import UsageError, UserError, did_you_mean
from quatrain.core.objects import open_objects

_ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_REFERENCE = re.compile(r"(?P<name>[^:@]+)(:(?P<number>[1-9][0-9]{0,8})|@(?P<alias>.+))?")
_RECORD = re.compile(r"([1-9][0-9]{0,8})\.json")
_DIGEST = Field(pattern=r"^[0-9a-f]{64}$")

_RecordT = TypeVar("_RecordT", bound=Config)


class StoreError(UserError):
    """A model, version or alias that the store does not hold, or a record that cannot be read."""


class Version(Config):
    """One published bundle of a model."""

    schema_version: Literal[1] = 1
    name: str
    number: int = Field(ge=1)
    digest: str = _DIGEST
    # ISO 8601, UTC.
    published: str

    @property
    def reference(self) -> str:
        """The text that names exactly this version, such as "fintech/fraud:3"."""
        return f"{self.name}:{self.number}"


class AliasEvent(Config):
    """One promotion or rollback: what the alias has meant since `at`, and who did it."""

    action: Literal["promote", "rollback"]
    version: int = Field(ge=1)
    digest: str = _DIGEST
    # ISO 8601, UTC.
    at: str
    by: str


class _Alias(Config):
    schema_version: Literal[1] = 1
    events: tuple[AliasEvent, ...] = Field(min_length=1)

    def standing(self) -> list[AliasEvent]:
        """Return the promotions that no rollback has undone, the current one last."""
        stack: list[AliasEvent] = []
        for event in self.events:
            if event.action == "promote":
                stack.append(event)
            elif len(stack) > 1:
                stack.pop()
        return stack


@dataclass(frozen=True)
class Reference:
    """What "name", "name:3" or "name@prod" asks for; neither number nor alias means the newest."""

    name: str
    number: int | None = None
    alias: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the parts of `text`, or raise UsageError."""
        match = _REFERENCE.fullmatch(text)
        if match is None:
            raise UsageError(
                f"expected a model such as fintech/fraud, fintech/fraud:3 or fintech/fraud@prod, got {text!r}"
            )
        number, alias = match["number"], match["alias"]
        return cls(
            _checked_name(match["name"]),
            int(number) if number else None,
            _checked_alias(alias) if alias is not None else None,
        )


class Store:
    """The models under a folder or URL; every bundle that leaves it has been verified."""

    def __init__(self, url: str | None = None) -> None:
        current = settings()
        self.url = url or current.store_url
        self._objects = open_objects(self.url, cache=current.cache)

    def names(self) -> list[str]:
        """Return the models that have a version."""
        return [name for name in self._folders() if self._numbers(name)]

    def versions(self, name: str) -> list[Version]:
        """Return all versions of the model, oldest first."""
        numbers = self._numbers(_checked_name(name))
        if not numbers:
            raise self._unknown(name)
        return [self._version(name, number) for number in numbers]

    def aliases(self, name: str) -> dict[str, int]:
        """Return what each alias of the model means now."""
        keys = self._objects.names(f"{_checked_name(name)}/aliases")
        found = {key.removesuffix(".json") for key in keys if key.endswith(".json")}
        events = {alias: self._events(name, alias) for alias in sorted(found) if _ALIAS.fullmatch(alias)}
        return {alias: events.standing()[-1].version for alias, events in events.items() if events}

    def history(self, name: str, alias: str = "prod") -> list[AliasEvent]:
        """Return every promotion and rollback of the alias, oldest first."""
        return list(self._require_alias(_checked_name(name), _checked_alias(alias)).events)

    def find(self, ref: str) -> Version:
        """Return the version that `ref` means, without opening its bundle."""
        reference = Reference.parse(ref)
        if reference.alias is not None:
            event = self._require_alias(reference.name, reference.alias).standing()[-1]
            version = self._require_version(reference.name, event.version)
            if version.digest != event.digest:
                raise StoreError(
                    f"{ref} was promoted with digest {event.digest[:12]}…, but {version.reference} now has "
                    f"{version.digest[:12]}…; check who writes to {self.url}, then promote again"
                )
            return version
        if reference.number is not None:
            return self._require_version(reference.name, reference.number)
        return self.versions(reference.name)[-1]

    def open(self, ref: str) -> Bundle:
        """Return the verified bundle that `ref` means."""
        return self._open(self.find(ref))

    def resolve(self, ref: str) -> Path:
        """Return a verified bundle on this machine: the store's own file, or a copy in the cache."""
        return self.open(ref).path

    def verify(self, ref: str) -> Version:
        """Return the version that `ref` means after checking the store's own bytes, not a cached copy."""
        version = self.find(ref)
        self._open(version, fresh=True)
        return version

    def publish(self, bundle: Bundle, *, alias: str | None = None) -> Version:
        """Return the bundle's version, a new one unless it was published before; `alias` promotes it too.

        Publishing again repairs a version whose file is damaged.
        """
        name = bundle.manifest.name
        if alias is not None:
            _checked_alias(alias)
        with self._objects.lock(name):
            version = self._published(bundle)
            if version is None:
                self._upload(bundle)
                version = self._allocate(bundle)
            elif not self._is_whole(version):
                self._upload(bundle)
            if alias is not None:
                self._promote(version, alias)
        return version

    def promote(self, name: str, version: int, *, alias: str = "prod") -> Version:
        """Return the version that the alias means from now on, after verifying its bundle."""
        _checked_alias(alias)
        found = self._require_version(_checked_name(name), version)
        self._open(found, fresh=True)
        with self._objects.lock(name):
            self._promote(found, alias)
        return found

    def rollback(self, name: str, *, alias: str = "prod") -> Version:
        """Return the version that the alias meant before its last promotion, and means again now."""
        _checked_alias(alias)
        with self._objects.lock(_checked_name(name)):
            standing = self._require_alias(name, alias).standing()
            if len(standing) < 2:  # noqa: PLR2004 - the current one and the one before
                raise StoreError(
                    f"{name}@{alias} has had no version before {standing[-1].version}; "
                    "promote another one with `quatrain models promote`"
                )
            version = self._require_version(name, standing[-2].version)
            self._open(version, fresh=True)
            self._append(version, alias, "rollback")
        return version

    def _open(self, version: Version, *, fresh: bool = False) -> Bundle:
        key = _bundle_key(version.name, version.digest)
        path = self._objects.local_path(key)
        if not fresh:
            # A cached copy may be damaged or half deleted; the store decides.
            with suppress(BundleError):
                return _require_same(open_bundle(path), version)
        return _require_same(open_bundle(self._objects.download(key, fresh=True)), version)

    def _upload(self, bundle: Bundle) -> None:
        key = _bundle_key(bundle.manifest.name, bundle.digest)
        target = self._objects.local_path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        pack(bundle, target)
        self._objects.upload(key)

    def _allocate(self, bundle: Bundle) -> Version:
        name = bundle.manifest.name
        while True:
            number = max(self._numbers(name), default=0) + 1
            version = Version(name=name, number=number, digest=bundle.digest, published=_now())
            if self._objects.create(_version_key(name, number), _to_json(version)):
                return version

    def _is_whole(self, version: Version) -> bool:
        try:
            self._open(version, fresh=True)
        except UserError:
            return False
        return True

    def _published(self, bundle: Bundle) -> Version | None:
        name = bundle.manifest.name
        versions = (self._version(name, number) for number in self._numbers(name))
        return next((version for version in versions if version.digest == bundle.digest), None)

    def _promote(self, version: Version, alias: str) -> None:
        current = self._events(version.name, alias)
        if current is None or current.standing()[-1].version != version.number:
            self._append(version, alias, "promote")

    def _append(self, version: Version, alias: str, action: Literal["promote", "rollback"]) -> None:
        current = self._events(version.name, alias)
        event = AliasEvent(action=action, version=version.number, digest=version.digest, at=_now(), by=_user())
        document = _Alias(events=(*(current.events if current else ()), event))
        self._objects.replace(_alias_key(version.name, alias), _to_json(document))

    def _folders(self) -> Iterator[str]:
        for app in self._objects.names(""):
            for model in self._objects.names(app):
                with suppress(ValueError):
                    yield check_name(f"{app}/{model}")

    def _numbers(self, name: str) -> list[int]:
        matches = map(_RECORD.fullmatch, self._objects.names(f"{name}/versions"))
        return sorted(int(match[1]) for match in matches if match)

    def _unknown(self, name: str) -> StoreError:
        names = self.names()
        hint = did_you_mean(name, names) if names else "; run the app's `train` command to make the first one"
        return StoreError(f"no model {name} in {self.url}{hint}")

    def _require_version(self, name: str, number: int) -> Version:
        numbers = self._numbers(name)
        if not numbers:
            raise self._unknown(name)
        if number not in numbers:
            raise StoreError(f"{name} has no version {number} in {self.url}; it has {_ranges(numbers)}")
        return self._version(name, number)

    def _version(self, name: str, number: int) -> Version:
        version = self._read(Version, _version_key(name, number))
        if version is None or (version.name, version.number) != (name, number):
            raise StoreError(
                f"{_version_key(name, number)} in {self.url} is not the record of {name}:{number}; restore it"
            )
        return version

    def _require_alias(self, name: str, alias: str) -> _Alias:
        current = self._events(name, alias)
        if current is None:
            if not self._numbers(name):
                raise self._unknown(name)
            raise StoreError(
                f"{name} has no alias {alias!r} in {self.url}{did_you_mean(alias, self.aliases(name))}; "
                f"set it with `quatrain models promote {name} VERSION --alias {alias}`"
            )
        return current

    def _events(self, name: str, alias: str) -> _Alias | None:
        return self._read(_Alias, _alias_key(name, alias))

    def _read(self, kind: type[_RecordT], key: str) -> _RecordT | None:
        content = self._objects.read(key)
        if content is None:
            return None
        try:
            return kind.model_validate_json(content)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]["msg"]
            raise StoreError(f"{key} in {self.url} cannot be read: {problem}; restore it from a backup") from error


def _require_same(bundle: Bundle, version: Version) -> Bundle:
    if (bundle.manifest.name, bundle.digest) != (version.name, version.digest):
        raise BundleError(
            f"{bundle.path} is not {version.reference}: expected {version.name} with digest {version.digest[:12]}…, "
            f"got {bundle.manifest.name} with {bundle.digest[:12]}…; publish the right bundle again"
        )
    return bundle


def _checked_name(name: str) -> str:
    try:
        return check_name(name)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _checked_alias(alias: str) -> str:
    if not _ALIAS.fullmatch(alias):
        raise UsageError(
            f"an alias starts with a letter and has lower-case letters, digits, - and _, such as prod, got {alias!r}"
        )
    return alias


def _bundle_key(name: str, digest: str) -> str:
    return f"{name}/bundles/{digest}.qtn"


def _version_key(name: str, number: int) -> str:
    return f"{name}/versions/{number}.json"


def _alias_key(name: str, alias: str) -> str:
    return f"{name}/aliases/{alias}.json"


def _to_json(record: Config) -> bytes:
    return json.dumps(record.model_dump(mode="json"), indent=2).encode() + b"\n"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container's user often has no name.
        return "unknown"


def _ranges(numbers: list[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
