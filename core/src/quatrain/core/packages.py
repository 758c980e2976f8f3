"""What is installed of what each Quatrain distribution asks for, and the command that gets the rest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_PREFIX = "quatrain-"


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What one distribution, or one of its extras, needs; "" is the distribution without extras.

    `problems` are texts such as "torch is missing" and "numpy is 1.26, needs >=2.2".
    """

    distribution: str
    extra: str
    versions: dict[str, str]
    problems: tuple[str, ...]

    @property
    def target(self) -> str:
        """What pip is asked for, such as "quatrain-core[train]"."""
        return f"{self.distribution}[{self.extra}]" if self.extra else self.distribution

    @property
    def install_command(self) -> str:
        """The command that installs what is missing."""
        return f"pip install --upgrade '{self.target}'" if self.extra else f"pip install --upgrade {self.target}"


def quatrain_distributions() -> list[Distribution]:
    """Return the installed Quatrain distributions, core first."""
    found = {canonicalize_name(dist.name): dist for dist in distributions() if dist.name}
    ours = [name for name in found if name.startswith(_PREFIX)]
    return [found[name] for name in sorted(ours, key=lambda name: (name != "quatrain-core", name))]


def needs_of(dist: Distribution) -> list[Needs]:
    """Return what the distribution needs, then what each of its extras adds.

    An extra that only joins other extras, such as "all", adds nothing and is left out.
    """
    requirements = [Requirement(text) for text in dist.requires or []]
    base = [needed for needed in requirements if _applies(needed, "")]
    found = [_needs(dist, "", base)]
    for extra in sorted(dist.metadata.get_all("Provides-Extra") or []):
        added = [needed for needed in requirements if needed not in base and _applies(needed, extra)]
        third_party = [needed for needed in added if not canonicalize_name(needed.name).startswith(_PREFIX)]
        if third_party:
            found.append(_needs(dist, extra, third_party))
    return found


def _applies(needed: Requirement, extra: str) -> bool:
    return needed.marker is None or needed.marker.evaluate({"extra": extra})


def _needs(dist: Distribution, extra: str, requirements: Iterable[Requirement]) -> Needs:
    versions: dict[str, str] = {}
    problems = []
    for needed in requirements:
        try:
            installed = distribution(needed.name).version
        except PackageNotFoundError:
            problems.append(f"{needed.name} is missing")
            continue
        versions[needed.name] = installed
        if not needed.specifier.contains(installed, prereleases=True):
            problems.append(f"{needed.name} is {installed}, needs {needed.specifier}")
    return Needs(distribution=canonicalize_name(dist.name), extra=extra, versions=versions, problems=tuple(problems))
