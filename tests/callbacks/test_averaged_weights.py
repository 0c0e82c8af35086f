"""An average of the weights: a fit that is interrupted or made longer has those of an unbroken one."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, StochasticWeightAveraging, WeightAveraging
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lit_dist import InputError, newest_checkpoint, read_checkpoint
from lit_dist.callbacks import CyclicalWeightTransfer, RunCheckpoint, SingleWeightTransfer
from lit_dist.checkpoints.baton import TRAINED, fingerprint
from lit_dist.provenance.ledger import read_entries
from lit_dist.provenance.verify import verify
from small import SmallData, SmallModule, Tell, trainer

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")


def fit(folder: Path, *callbacks: Any, every: int = 2, epochs: int = 5, path: Path | None = None) -> SmallModule:
    pl.seed_everything(0, verbose=False)
    module = SmallModule()
    transfer = CyclicalWeightTransfer(every_n_epochs=every, baton_dir="batons")
    best = ModelCheckpoint(folder / "best", monitor="val_loss", filename="best", enable_version_counter=False)
    given = (transfer, EMAWeightAveraging(decay=0.8), best, *callbacks, RunCheckpoint())
    fitting = trainer(*given, default_root_dir=folder, max_epochs=epochs)
    fitting.fit(module, SmallData(), ckpt_path=path, weights_only=True)
    return module


def held(folder: Path) -> list[str]:
    """The average and the trained weights of the newest checkpoint, and the best average."""
    newest = newest_checkpoint(folder)
    assert newest is not None
    content = read_checkpoint(newest)
    verify(folder)
    best = read_checkpoint(folder / "best" / "best.ckpt")["state_dict"]
    return [fingerprint(state)[0] for state in (content["state_dict"], content[TRAINED], best)]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[SmallModule, list[str]]:
    folder = tmp_path_factory.mktemp("unbroken")
    return fit(folder), held(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hook", "step"), [("on_validation_batch_end", 4), ("on_validation_batch_end", 8), ("on_train_batch_start", 8)]
)
def test_an_interrupted_fit_equals_an_unbroken_one(hook: str, step: int, unbroken: Any, tmp_path: Path) -> None:
    with pytest.raises(SIGTERMException):
        fit(tmp_path, Tell(hook, step))
    verify(tmp_path)
    resumed = fit(tmp_path, path=newest_checkpoint(tmp_path))
    assert fingerprint(resumed.state_dict()) == fingerprint(unbroken[0].state_dict())
    assert held(tmp_path) == unbroken[1]


def test_a_fit_that_is_made_longer_resumes_the_trained_weights(unbroken: Any, tmp_path: Path) -> None:
    short = fit(tmp_path, epochs=3)  # in the middle of a visit
    assert fingerprint(short.state_dict())[0] == held(tmp_path)[0], "a fit ends with the average, as without us"
    again = fit(tmp_path, epochs=3, path=newest_checkpoint(tmp_path))
    assert fingerprint(again.state_dict()) == fingerprint(short.state_dict())
    longer = fit(tmp_path, path=newest_checkpoint(tmp_path))
    assert fingerprint(longer.state_dict()) == fingerprint(unbroken[0].state_dict())
    assert held(tmp_path) == unbroken[1]


def test_batons_have_the_trained_weights(tmp_path: Path) -> None:
    fit(tmp_path, epochs=3)
    [first, _] = read_entries(tmp_path / "ledger.jsonl")
    baton = read_checkpoint(tmp_path / "batons" / "visit_000000.baton")
    assert fingerprint(baton["state_dict"])[0] == first.sha256_out


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([EMAWeightAveraging(), CyclicalWeightTransfer(1)], "put CyclicalWeightTransfer before EMAWeightAveraging"),
        ([CyclicalWeightTransfer(1, on_divergence="skip"), EMAWeightAveraging()], "keep what diverged in its average"),
        ([SingleWeightTransfer(), EMAWeightAveraging()], "EMAWeightAveraging validates their average"),
        ([EMAWeightAveraging(), WeightAveraging()], "two averages"),
        ([StochasticWeightAveraging(0.01)], "StochasticWeightAveraging cannot be resumed"),
    ],
)
def test_an_average_that_cannot_be_exact_is_refused_before_the_first_step(
    callbacks: list[Any], message: str, tmp_path: Path
) -> None:
    module = SmallModule()
    data = SmallData() if len(callbacks) > 1 else SmallData([4])
    with pytest.raises(InputError, match=message):
        trainer(*callbacks, RunCheckpoint(), default_root_dir=tmp_path).fit(module, data)
    assert module.visited == ""
