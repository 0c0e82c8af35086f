"""Modules that follow, queue or count in their own hooks: the same in a simulation, resumed, and in a federation."""

import copy
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

import small_federation
from lit_dist import ImageClassifier
from lit_dist.callbacks import CyclicalWeightTransfer, SingleWeightTransfer, SiteEvaluation, SiteStatistics
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.checkpoints.run_folder import newest_checkpoint
from lit_dist.federation.client import Parts
from lit_dist.federation.transfer_client import TransferClient
from small_federation import data, engine, federated, kill_at, module, server, simulate, trainer


class Own(ImageClassifier):
    """Has a teacher that follows the network, a queue of losses, and a counter."""

    def __init__(self) -> None:
        super().__init__("slim_resnet18", backbone_kwargs={"width": 8})
        self.teacher = copy.deepcopy(self.backbone).requires_grad_(False)
        self.register_buffer("queue", torch.zeros(4))
        self.register_buffer("steps", torch.tensor(0))

    @torch.no_grad()
    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        for slow, fast in zip(self.teacher.parameters(), self.backbone.parameters(), strict=True):
            slow.lerp_(fast, 0.1)
        loss: Tensor = outputs["loss"]
        self.queue = torch.cat([self.queue[1:], loss.detach()[None]])
        self.steps += 1


def own() -> Own:
    pl.seed_everything(0, verbose=False)
    return Own()


@pytest.mark.slow
@pytest.mark.parametrize("length", [{"every_n_epochs": 1, "validation": "cycle"}, {"every_n_steps": 2}], ids=str)
def test_what_a_module_does_in_its_hooks_is_the_same_wherever_it_is_trained(
    length: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_federation, "module", own)
    settings = {"max_epochs": 3 if "every_n_epochs" in length else 1}

    def make() -> CyclicalWeightTransfer:
        return CyclicalWeightTransfer(**length)

    simulated = simulate(make, **settings)
    parties = engine(make, **settings)
    kill_at(parties, 2)
    with pytest.raises(KeyboardInterrupt):
        server(parties, make, **settings).run()
    run = server(parties, make, **settings)
    run.run(newest_checkpoint("server"))
    assert [entry.sha256_out for entry in federated()] == [entry.sha256_out for entry in simulated]
    assert fingerprint(run.module.state_dict())[0] == simulated[-1].sha256_out
    assert int(run.module.get_buffer("steps")) == sum(entry.steps for entry in simulated)


@pytest.mark.slow
def test_sites_judge_with_their_own_statistics_as_a_simulation_does() -> None:
    def make() -> SingleWeightTransfer:
        return SingleWeightTransfer("val_loss/{site}", patience=1, max_epochs_per_site=3)

    settings = {"max_epochs": 9}
    saved = {**settings, "enable_checkpointing": True}
    best = [ModelCheckpoint(monitor="val_loss", filename="best") for _ in range(2)]
    simulated = simulate(make, SiteStatistics(images=8), SiteEvaluation(every="visit"), best[0], **saved)
    parties = engine(make, lambda: SiteStatistics(images=8), **settings)
    kill_at(parties, 3)
    with pytest.raises(KeyboardInterrupt):
        server(parties, make, SiteStatistics(images=8), SiteEvaluation(every="visit"), best[1], **saved).run()
    run = server(parties, make, SiteStatistics(images=8), SiteEvaluation(every="visit"), best[1], **saved)
    run.run(newest_checkpoint("server"))
    assert [entry.sha256_out for entry in federated()] == [entry.sha256_out for entry in simulated]
    losses = [[entry.metrics.get("val_loss") for entry in entries] for entries in (federated(), simulated)]
    assert losses[0] == losses[1]
    assert Path("server/site_matrix.csv").read_text() == Path("simulated/site_matrix.csv").read_text()
    assert best[1].best_model_score == best[0].best_model_score


def test_a_site_that_its_data_calls_otherwise_judges_with_its_training_images() -> None:
    here = trainer(Path("hospital"), CyclicalWeightTransfer(every_n_epochs=1), SiteStatistics(images=8))
    client = TransferClient("hospital", Parts(here, module(), data(only_site="site-1")))
    assert client.evaluate(client.module, here)["images"] == 4  # and nobody warns of a transductive judgement
