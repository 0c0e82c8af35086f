"""EWC, beside the Fisher information of torch.func and a module that adds the term to its loss itself."""

from contextlib import nullcontext
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy, log_softmax
from torch.utils.data import DataLoader, TensorDataset

from lit_dist import InputError
from lit_dist.callbacks import EWC, CyclicalWeightTransfer
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.models.tabular_predictor import TabularPredictor
from lit_dist.visits.seeding import derive
from lit_dist.visits.site_loader import SiteLoader
from small import trainer

SITES = ["a", "b", "c"]


class Points(pl.LightningModule):
    """Classifies points; a loss of its own may have a term more."""

    def __init__(self, classes: int = 3) -> None:
        pl.seed_everything(0, verbose=False)
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, classes)
        )
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, points: Tensor) -> Tensor:
        logits: Tensor = self.network(points)
        return logits

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def points(site: str) -> TensorDataset:
    generator = torch.Generator().manual_seed(ord(site))
    drawn = torch.randn(12, 4, generator=generator)
    return TensorDataset(drawn, (drawn[:, :3] + ord(site) - 98).argmax(1))


def fitted(module: Points, *callbacks: Any, epochs: int = 2) -> Points:
    loaders = {site: DataLoader(points(site), batch_size=4, shuffle=True) for site in SITES}
    trainer(CyclicalWeightTransfer(every_n_epochs=1), *callbacks, max_epochs=epochs).fit(module, SiteLoader(loaders))
    return module


def fisher_of(module: Points, seed: int, rows: Tensor) -> dict[str, Tensor]:
    """Of each record by itself, with vmap, at labels that are drawn in the same order."""
    module.eval()
    torch.manual_seed(seed)
    inputs = rows
    drawn = torch.cat([torch.multinomial(module(each[None]).detach().softmax(1), 1)[:, 0] for each in inputs])
    parameters = {name: each.detach() for name, each in module.named_parameters() if each.requires_grad}

    def log_likelihood(own: dict[str, Tensor], row: Tensor, label: Tensor) -> Tensor:
        return log_softmax(functional_call(module, own, row[None]), dim=1)[0].gather(0, label[None])[0]

    each = vmap(grad(log_likelihood), in_dims=(None, 0, 0))(parameters, inputs, drawn)
    return {name: (gradients**2).mean(0) for name, gradients in each.items()}


def test_the_information_is_the_mean_over_records_of_their_own_squared_gradients() -> None:
    ewc = EWC(images=100)
    module = fitted(Points(), ewc, epochs=1)
    wanted = fisher_of(module, derive(0, "fisher", "a", 0), points("a").tensors[0])
    found = dict(ewc.travelling["fisher"])
    assert found.pop("frozen").abs().sum() == 0
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-7)
    assert found["unused"].abs().sum() == 0


class OwnTerm(Points):
    """Adds the term of the second visit to its loss."""

    def __init__(self, fisher: dict[str, Tensor]) -> None:
        super().__init__()
        self.fisher = fisher
        self.came_in: dict[str, Tensor] = {}

    def on_train_epoch_start(self) -> None:
        if self.current_epoch:
            self.came_in = {name: each.detach().clone() for name, each in self.named_parameters()}

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        named = dict(self.named_parameters())
        terms = [
            (self.fisher[name] * (named[name] - before) ** 2).sum()
            for name, before in self.came_in.items()
            if name in self.fisher
        ]
        return super().training_step(batch, batch_idx) + 50 * sum(terms)


def test_it_is_the_term_in_the_loss() -> None:
    first = EWC()
    fitted(Points(), first, epochs=1)
    expected = fitted(OwnTerm(first.travelling["fisher"]))
    found = fitted(Points(), EWC(weight=100))
    plain = fitted(Points())
    torch.testing.assert_close(found.state_dict(), expected.state_dict(), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found.network[0].weight, plain.network[0].weight, atol=1e-3)  # type: ignore[arg-type]


def test_what_earlier_sites_needed_decays() -> None:
    each, both = EWC(decay=0), EWC(decay=0.5)
    fitted(Points(), first := EWC(), epochs=1)
    fitted(Points(), each)
    fitted(Points(), both)
    for name, fisher in both.travelling["fisher"].items():
        torch.testing.assert_close(fisher, 0.5 * first.travelling["fisher"][name] + each.travelling["fisher"][name])


def test_without_weight_it_is_the_run_without() -> None:
    with_it = fitted(Points(), EWC(weight=0), epochs=3)
    assert fingerprint(with_it.state_dict()) == fingerprint(fitted(Points(), epochs=3).state_dict())


def test_mistakes_are_told() -> None:
    for settings in ({"weight": -1}, {"decay": 1.1}, {"images": 0}, {"weight": float("nan")}, {"decay": True}):
        with pytest.raises(InputError, match=f"{next(iter(settings))}="):
            EWC(**settings)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="EWC needs logits"):
        fitted(Flat(), EWC())
    with pytest.raises(InputError, match=r"EWC needs logits.* which fails \(TypeError"):
        fitted(TwoInputs(), EWC())


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
@pytest.mark.parametrize(("task", "number", "told"), [("multilabel", 2, True), ("ordinal", 3, False)])
def test_a_task_whose_outputs_are_no_classes_is_refused(task: Any, number: int, told: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(20, 2, generator=generator)
    findings = torch.randint(2, (20, 2), generator=generator).float()
    targets = findings if task == "multilabel" else torch.arange(20) % 3
    loaders = {site: DataLoader(TensorDataset(inputs, targets), batch_size=5) for site in "ab"}
    with pytest.raises(InputError, match="the task here is multilabel: leave it out") if told else nullcontext():
        trainer(CyclicalWeightTransfer(every_n_epochs=1), EWC(images=2), max_epochs=2).fit(
            TabularPredictor(task, num_classes=number, numeric=2), SiteLoader(loaders)
        )


class Flat(Points):
    """Gives one value a point."""

    def forward(self, points: Tensor) -> Tensor:
        values: Tensor = self.network(points)[:, 0]
        return values

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return (self(batch[0]) - batch[1]).pow(2).mean()


class TwoInputs(Points):
    """Takes two inputs, of which a batch gives one."""

    def forward(self, points: Tensor, more: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(points + more)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return cross_entropy(self(batch[0], batch[0]), batch[1])


class Thawing(Callback):
    """Lets the last layer be trained from the second visit on."""

    takes_part = False

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.network[4].requires_grad_(trainer.current_epoch > 0)  # type: ignore[index, operator, union-attr]


def test_layers_may_be_frozen_for_a_while() -> None:
    ewc = EWC(weight=1000)
    fitted(Points(), Thawing(), ewc, epochs=3)
    assert ewc.travelling["fisher"]["network.4.weight"].abs().sum() > 0
