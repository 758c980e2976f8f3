"""What a re-timing is asked to do."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from quatrain.core.config import Config, Flag, UserPath


class RetimeConfig(Config):
    """Which scenario's plans, and how long to search: the `[smart_city.retime]` section."""

    scenario: UserPath
    routes: tuple[UserPath, ...] = ()
    # Vehicles per hour by signal and link, as CSV; None: counted in a simulation of the city's plan.
    counts: UserPath | None = None
    out: UserPath | None = None
    # Plans that the search tries at most.
    budget: int = Field(default=60, ge=0)
    # Common random numbers of the search: every plan is tried on the same seeds.
    n_search_seeds: Annotated[int, Field(ge=1)] = 1
    # Seeds that the search never saw, on which the result is measured.
    n_proof_seeds: Annotated[int, Field(ge=2), Flag("--proof-seeds")] = 4
    # Generations without a better plan until the search stops.
    patience: int = Field(default=4, ge=1)
    workers: int | None = Field(default=None, ge=1)
    seed: int = Field(default=1, ge=0)
