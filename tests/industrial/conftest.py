"""Drawn parts and one inspector of them, shared by the tests of a process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quatrain.industrial.simulation.parts import write_parts
from quatrain.industrial.train.config import TrainConfig
from quatrain.industrial.train.run import TrainResult, train

SIDE = 96


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Point Quatrain's home to a folder that outlives a test, for what is trained once."""
    home = tmp_path_factory.mktemp("home")
    patch = pytest.MonkeyPatch()
    patch.setenv("QUATRAIN_CORE__HOME", str(home))
    yield home
    patch.undo()


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of drawn boards in MVTec AD's layout."""
    folder = tmp_path_factory.mktemp("parts") / "boards"
    write_parts(folder, seed=1, kind="pcb", n_train=24, n_good=12, n_bad=3, side_px=SIDE, contrast=0.6)
    return folder


@pytest.fixture(scope="session")
def trained(shared_home: Path, parts: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """Return an inspector of the boards, 10 % of which may fail."""
    del shared_home
    out = tmp_path_factory.mktemp("bundles") / "boards"
    return train(
        TrainConfig(
            data=str(parts), out=out, target_overkill=0.1, side_px=128, n_pasted=24, backbone="efficientnet_lite0"
        )
    )
