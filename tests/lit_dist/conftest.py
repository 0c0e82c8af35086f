"""The simulation that runs across processes must equal, made once."""

import pytest

from flare_federation import RUN, Hashes, configuration, hashes, simulate


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Hashes:
    """What each visit of the simulation ended with."""
    pytest.importorskip("nvflare")
    folder = tmp_path_factory.mktemp("simulated")
    configuration(folder / RUN)
    simulate(folder)
    return hashes(folder / "runs/simulated/version_0")
