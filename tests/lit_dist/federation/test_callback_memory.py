"""Callbacks of the user's that remember something of a visit: refused where each site would remember its own."""

from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import Callback

from lit_dist import InputError
from lit_dist.callbacks import CyclicalWeightTransfer
from small_federation import engine, federated, server, simulate


def make() -> CyclicalWeightTransfer:
    return CyclicalWeightTransfer(every_n_steps=1)


class Counts(Callback):
    """Counts steps in an attribute."""

    def __init__(self) -> None:
        self.steps = 0

    def on_train_batch_end(self, *_: Any) -> None:
        self.steps += 1


class Saves(Counts):
    """Counts them, and saves the count."""

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}


class Watches(Counts):
    """Says that it only watches."""

    takes_part = False


class Scales(Callback):
    """Acts in steps, and remembers nothing."""

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        for parameter in pl_module.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(0.5)


class Epochs(Counts):
    """Lives at the server, with state of its own."""

    def on_train_batch_end(self, *_: Any) -> None:
        pass

    def on_validation_end(self, *_: Any) -> None:
        self.steps += 1


def run(kind: type[Callback]) -> Callback:
    callback = kind()
    server(engine(make, kind, max_epochs=1), make, callback, max_epochs=1).run()
    return callback


def test_state_in_checkpoints_is_refused_before_the_first_visit() -> None:
    with pytest.raises(InputError, match=r"Saves has state \(state_dict\).*\(on_train_batch_end\).*VisitCallback"):
        server(engine(make, Saves, max_epochs=1), make, Saves(), max_epochs=1)


def test_an_attribute_that_a_visit_changes_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="site 'site-1' refuses: Counts changes its attribute 'steps' in a visit"):
        run(Counts)


@pytest.mark.slow
def test_what_only_watches_remembers_nothing_or_lives_at_the_server_is_taken() -> None:
    run(Watches)
    epochs, simulated = run(Epochs), Epochs()
    simulate(make, simulated, max_epochs=1)
    assert isinstance(epochs, Epochs)
    assert epochs.steps == simulated.steps == 1


@pytest.mark.slow
def test_one_that_remembers_nothing_gives_the_weights_of_the_simulation() -> None:
    run(Scales)
    simulated = simulate(make, Scales(), max_epochs=1)
    assert [entry.sha256_out for entry in federated()] == [entry.sha256_out for entry in simulated]
