"""Modules that follow, queue or count in their own hooks: the same in a simulation, resumed, and in a federation."""

import copy
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor

import small_federation
from lit_dist import ImageClassifier
from lit_dist.callbacks import CyclicalWeightTransfer
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.checkpoints.run_folder import newest_checkpoint
from small_federation import engine, federated, kill_at, server, simulate


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
