import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor, nn
from torch.optim import lr_scheduler as schedulers
from torch.utils.data import DataLoader, TensorDataset

from lit_dist import InputError, SafetensorsCheckpointIO, read_checkpoint
from small import trainer

Configure = Callable[["Plain"], Any]
BATCHES = 3


def sgd(module: "Plain") -> Any:
    return torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)


def network() -> nn.Sequential:
    """The same initial weights each time."""
    layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))
    generator = torch.Generator().manual_seed(0)
    for parameter in layers.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return layers


class Plain(pl.LightningModule):
    """A module without anything random, on which plain Lightning resumes exactly."""

    def __init__(self, configure: Configure = sgd) -> None:
        super().__init__()
        self.configure = configure
        self.network = network()

    def loss(self, batch: list[Tensor]) -> Tensor:
        return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("loss", loss, on_epoch=True, on_step=False)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch))

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("test_loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        return self.configure(self)


class Several(Plain):
    """Networks side by side, each with an optimizer of its own, and perhaps a schedule that counts each step."""

    def __init__(self, optimizers: Mapping[str, Any], schedules: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.make, self.schedules = optimizers, schedules or {}
        self.networks = nn.ModuleDict({name: network() for name in optimizers})

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        for layers, optimizer in zip(self.networks.values(), self.optimizers(), strict=True):

            def closure(layers: nn.Module = layers, optimizer: Any = optimizer) -> Tensor:
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(layers(batch[0]), batch[1])
                self.manual_backward(loss)
                return loss

            loss = optimizer.step(closure).detach()
        for schedule in self.lr_schedulers() or []:
            schedule.step(*([loss] if isinstance(schedule, schedulers.ReduceLROnPlateau) else []))

    def configure_optimizers(self) -> Any:
        made = [self.make[name](layers.parameters()) for name, layers in self.networks.items()]
        return made, [make(optimizer) for make, optimizer in zip(self.schedules.values(), made, strict=False)]


def data() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(BATCHES * 4, 3, generator=generator)
    return DataLoader(TensorDataset(inputs, (inputs.sum(dim=1) > 0).long()), batch_size=4)


def fit(
    *callbacks: pl.Callback,
    module: pl.LightningModule | None = None,
    epochs: int = 4,
    ckpt_path: Any = None,
    io: Any = None,
    **kwargs: Any,
) -> pl.Trainer:
    fitted: pl.Trainer = trainer(*callbacks, max_epochs=epochs, plugins=[io or SafetensorsCheckpointIO()], **kwargs)
    fitted.fit(module or Plain(), data(), data(), ckpt_path=ckpt_path, weights_only=False)
    return fitted


def state(fitted: pl.Trainer) -> list[Any]:
    return [
        fitted.global_step,
        dict(fitted.lightning_module.state_dict()),
        [optimizer.state_dict() for optimizer in fitted.optimizers],
        [config.scheduler.state_dict() for config in fitted.lr_scheduler_configs],
    ]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return (
            isinstance(a, Tensor) and isinstance(b, Tensor) and a.dtype == b.dtype and a.tolist() == b.tolist()
        )  # as lists, since 0.0 and -0.0 take part in equal sums
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and bool(a == b)


def assert_resumes_exactly(make: Callable[[], pl.LightningModule]) -> None:
    unbroken, half = fit(module=make()), fit(module=make(), epochs=2)
    half.save_checkpoint("half.ckpt")
    resumed = fit(module=make(), ckpt_path="half.ckpt")
    assert same(state(resumed), state(unbroken))
    for before, after in zip(state(half)[2:], state(unbroken)[2:], strict=True):
        assert not any(map(same, before, after)), "each has changed, so that each has something to lose"


OPTIMIZERS = [
    "ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "LBFGS", "Muon", "NAdam", "RAdam", "RMSprop",
    "Rprop", "SGD", "SparseAdam",
]  # fmt: skip


def test_every_optimizer_of_torch_is_tested() -> None:
    classes = {name for name, value in vars(torch.optim).items() if isinstance(value, type)}
    assert classes - {"Optimizer"} == set(OPTIMIZERS)


def test_a_run_resumes_exactly_with_every_optimizer() -> None:
    settings: dict[str, Any] = {
        "SGD": {"momentum": 0.9},
        "Adam": {"amsgrad": True},
        "RMSprop": {"momentum": 0.9, "centered": True},
        "LBFGS": {"history_size": 4, "max_iter": 3},
    }
    made = {
        name: partial(getattr(torch.optim, name), lr=0.01, **settings.get(name, {}))
        for name in OPTIMIZERS
        if name not in ("SparseAdam", "Muon")
    }
    assert_resumes_exactly(lambda: Several(made))


@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_a_run_resumes_exactly_with_groups_of_parameters(interval: str) -> None:
    def configure(module: Plain) -> Any:
        first, last = module.network[0], module.network[3]
        groups: list[dict[str, Any]] = [
            {"params": first.weight, "lr": torch.tensor(0.01)},
            {"params": [first.bias], "betas": (0.5, 0.6)},
            {"params": last.parameters(), "weight_decay": 0.1, "name": "last"},
        ]
        optimizer = torch.optim.Adam(groups)
        return [optimizer], [{"scheduler": schedulers.StepLR(optimizer, 3, 0.5), "interval": interval}]

    assert_resumes_exactly(lambda: Plain(configure))


SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "LambdaLR": lambda o: schedulers.LambdaLR(o, lambda epoch: 0.9**epoch),
    "MultiplicativeLR": lambda o: schedulers.MultiplicativeLR(o, lambda epoch: 1 / (epoch + 1)),
    "StepLR": lambda o: schedulers.StepLR(o, 3, 0.5),
    "MultiStepLR": lambda o: schedulers.MultiStepLR(o, [1, 3, 3], 0.5),
    "ConstantLR": lambda o: schedulers.ConstantLR(o, 0.5, 3),
    "LinearLR": lambda o: schedulers.LinearLR(o, 0.5, total_iters=3),
    "ExponentialLR": lambda o: schedulers.ExponentialLR(o, 0.7),
    "CosineAnnealingLR": lambda o: schedulers.CosineAnnealingLR(o, 4),
    "PolynomialLR": lambda o: schedulers.PolynomialLR(o, 3, 2),
    "CyclicLR": lambda o: schedulers.CyclicLR(o, 0.01, 0.1, 3),
    "OneCycleLR": lambda o: schedulers.OneCycleLR(o, 0.1, 20),
    "CosineAnnealingWarmRestarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 3),
    "ReduceLROnPlateau": lambda o: schedulers.ReduceLROnPlateau(o, factor=0.5, patience=0, threshold=0.5),
    "SequentialLR": lambda o: schedulers.SequentialLR(
        o, [schedulers.ConstantLR(o, 0.1, 9), schedulers.ExponentialLR(o, 0.7)], [3]
    ),
    "ChainedScheduler": lambda o: schedulers.ChainedScheduler(
        [schedulers.ConstantLR(o, 0.1, 3), schedulers.ExponentialLR(o, 0.7)]
    ),
}


def test_every_scheduler_of_torch_is_tested() -> None:
    base = schedulers.LRScheduler
    classes = {name for name, value in vars(schedulers).items() if isinstance(value, type) and issubclass(value, base)}
    assert classes - {"LRScheduler", "_LRScheduler"} == set(SCHEDULERS)


def test_a_run_resumes_exactly_with_every_scheduler() -> None:
    made = dict.fromkeys(SCHEDULERS, partial(torch.optim.SGD, lr=0.1, momentum=0.9))
    assert_resumes_exactly(lambda: Several(made, SCHEDULERS))


FOLDER_IN_USE = "ignore:Checkpoint directory .* exists and is not empty"


@pytest.mark.filterwarnings(FOLDER_IN_USE)
def test_model_checkpoint_keeps_the_best_and_the_last_after_a_resume(tmp_path: Path) -> None:
    ios = {"ours": SafetensorsCheckpointIO(), "theirs": TorchCheckpointIO()}
    for folder, io in ios.items():
        for epochs, ckpt_path in ((2, None), (4, f"{folder}/last.ckpt")):
            callback = ModelCheckpoint(folder, "{epoch}", monitor="val_loss", mode="max", save_top_k=2, save_last=True)
            fit(callback, io=io, epochs=epochs, ckpt_path=ckpt_path)
    states = [str(list(callback_state(folder).items())).replace("theirs", "ours") for folder in ios]
    assert states[0] == states[1]
    assert len(callback_state("ours")["best_k_models"]) == 2
    assert names("ours") == names("theirs")
    assert len(names("ours")) == 3


def callback_state(folder: str) -> dict[str, Any]:
    path = Path(folder) / "last.ckpt"
    read: Any = read_checkpoint if folder == "ours" else lambda path: torch.load(path, weights_only=False)
    (state,) = (value for key, value in read(path)["callbacks"].items() if key.startswith("ModelCheckpoint"))
    return dict(state)


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.mark.parametrize("save_last", [True, "link"])
def test_model_checkpoint_removes_what_it_no_longer_keeps(save_last: Any) -> None:
    fit(ModelCheckpoint("kept", "{epoch}", save_top_k=1, save_last=save_last))
    assert names("kept") == ["epoch=3.ckpt", "last.ckpt"]
    assert read_checkpoint("kept/last.ckpt")["epoch"] == 3


def test_early_stopping_counts_on_after_a_resume(tmp_path: Path) -> None:
    def stopping() -> EarlyStopping:
        return EarlyStopping("val_loss", patience=3, min_delta=100.0)

    unbroken = fit(stopping(), epochs=20)
    fit(stopping(), epochs=2).save_checkpoint(tmp_path / "a.ckpt")
    found = stopping()
    resumed = fit(found, epochs=20, ckpt_path=tmp_path / "a.ckpt")
    assert (unbroken.current_epoch, resumed.current_epoch) == (4, 4)
    assert found.wait_count == 3
    assert same(state(resumed), state(unbroken))


@pytest.mark.filterwarnings(FOLDER_IN_USE)
def test_averaged_weights_continue_after_a_resume(tmp_path: Path) -> None:
    def averaging() -> list[pl.Callback]:
        return [EMAWeightAveraging(decay=0.5), ModelCheckpoint("kept", "{epoch}", save_top_k=-1)]

    unbroken = fit(*averaging())
    fit(*averaging(), epochs=2)
    saved = read_checkpoint("kept/epoch=1.ckpt")
    assert not same(saved["state_dict"], saved["current_model_state"])
    assert saved["averaging_state"]["n_averaged"] == 2 * BATCHES
    assert same(state(fit(*averaging(), ckpt_path="kept/epoch=1.ckpt")), state(unbroken))


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks")
def test_test_reads_a_checkpoint(tmp_path: Path) -> None:
    callback = ModelCheckpoint("kept", "{epoch}", monitor="val_loss", save_top_k=1)
    fitted = fit(callback)
    assert callback.best_model_score is not None
    expected = pytest.approx(callback.best_model_score.item())
    for path in ("best", callback.best_model_path, Path(callback.best_model_path)):
        (found,) = fitted.test(dataloaders=data(), ckpt_path=path, verbose=False)
        assert found["test_loss"] == expected
    module = Plain()
    other = trainer(plugins=[SafetensorsCheckpointIO()])
    (found,) = other.test(module, data(), ckpt_path=callback.best_model_path, verbose=False)
    assert found["test_loss"] == expected
    (found,) = other.validate(module, data(), ckpt_path=callback.best_model_path, verbose=False)
    assert found["val_loss"] == expected


def test_weights_alone_can_be_saved(tmp_path: Path) -> None:
    fitted = fit(epochs=1)
    fitted.save_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    found = read_checkpoint(tmp_path / "a.ckpt")
    assert "optimizer_states" not in found
    assert same(dict(found["state_dict"]), dict(fitted.lightning_module.state_dict()))


class Configured(Plain):
    def __init__(self, width: int, schedule: Any = None, ignored: Sequence[str] = ()) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["ignored", *ignored])


def test_hyper_parameters_come_back(tmp_path: Path) -> None:
    values = {"rates": (0.1, 0.2), "path": Path("a/b"), 3: {"x": None}}
    fitted = fit(module=Configured(3, values), epochs=1)
    fitted.save_checkpoint(tmp_path / "a.ckpt")
    assert read_checkpoint(tmp_path / "a.ckpt")["hyper_parameters"] == {"width": 3, "schedule": values}


def test_a_function_among_the_hyper_parameters_is_refused_unless_it_is_ignored_as_the_message_says() -> None:
    message = r"hyper_parameters/schedule is a function; leave it out, for example by save_hyperparameters\(ignore="
    with pytest.raises(InputError, match=message):
        fit(module=Configured(3, data), epochs=1).save_checkpoint("a.ckpt")
    assert not Path("a.ckpt").exists()
    fit(module=Configured(3, data, ["schedule"]), epochs=1).save_checkpoint("a.ckpt")
    assert read_checkpoint("a.ckpt")["hyper_parameters"] == {"width": 3}


class Diverged(Plain):
    def on_train_epoch_end(self) -> None:
        if self.current_epoch == 1:
            next(self.parameters()).data[0, 0] = math.nan


@pytest.mark.parametrize("finite", [True, False])
def test_weights_that_are_not_finite_are_refused_unless_asked_for(tmp_path: Path, finite: bool) -> None:
    callback, io = ModelCheckpoint("kept", "{epoch}", save_top_k=-1), SafetensorsCheckpointIO(finite)
    if finite:
        with pytest.raises(InputError, match=r"the tensor 'network\.0\.weight' has values that are NaN or infinite"):
            fit(callback, module=Diverged(), io=io)
        assert names("kept") == ["epoch=0.ckpt"]
    else:
        fit(callback, module=Diverged(), io=io)
        with pytest.raises(InputError, match="was not read"):
            SafetensorsCheckpointIO().load_checkpoint("kept/epoch=1.ckpt")
        assert io.load_checkpoint("kept/epoch=1.ckpt")["state_dict"]["network.0.weight"].isnan().sum() == 1


@pytest.mark.parametrize("url", ["s3://bucket/a.ckpt", "gs://bucket/a.ckpt", "https://example.org/a.ckpt", "file:///a"])
def test_an_address_is_refused(url: str) -> None:
    io = SafetensorsCheckpointIO()
    for act in (partial(io.save_checkpoint, {}), io.load_checkpoint, io.remove_checkpoint):
        with pytest.raises(InputError, match=f"^{url} is not on a local or mounted disk; checkpoints are written to"):
            act(url)
    assert not list(Path.cwd().iterdir())


def test_an_address_given_to_a_trainer_is_refused() -> None:
    fitted, url = fit(epochs=1), "memory://bucket/a.ckpt"
    for act in (fitted.save_checkpoint, lambda url: fit(ckpt_path=url)):
        with pytest.raises(InputError, match="is not on a local or mounted disk"):
            act(url)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_checkpoint_can_be_removed_once_and_again(tmp_path: Path, kind: Callable[[Path], Any]) -> None:
    io, path = SafetensorsCheckpointIO(), kind(tmp_path / "new" / "a.ckpt")
    io.save_checkpoint({"epoch": 1}, path)
    assert io.load_checkpoint(path) == {"epoch": 1}
    io.remove_checkpoint(path)
    io.remove_checkpoint(path)
    assert not list((tmp_path / "new").iterdir())


def test_lightnings_own_checkpoint_is_refused(tmp_path: Path) -> None:
    fit(epochs=1, io=TorchCheckpointIO()).save_checkpoint(tmp_path / "theirs.ckpt")
    with pytest.raises(InputError, match=r"theirs\.ckpt is a pickle, and reading one can run any program"):
        fit(ckpt_path=tmp_path / "theirs.ckpt")


def test_a_damaged_checkpoint_stops_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    fit(epochs=1).save_checkpoint(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="is damaged: its contents do not match the SHA-256"):
        fit(ckpt_path=path)
