"""Each site trains alone, and every site judges all models and their ensemble, as ``lit-dist fit`` and ``test`` do."""

import copy
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

import program
from lit_dist import ImageClassifier, InputError, SiteEnsemble, read_checkpoint
from lit_dist.callbacks import RunCheckpoint
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.federation import wire
from lit_dist.federation.build import FederatedRun, make_site
from lit_dist.federation.roster import Roster
from lit_dist.federation.site_settings import SiteSettings
from lit_dist.models.stored_module import stored_module
from lit_dist.runs.lightning_cli import build
from small_federation import SITES, InProcess

BEST = {
    "class_path": "ModelCheckpoint",
    "init_args": {"monitor": "val_loss", "filename": "best", "enable_version_counter": False},
}
STOP = {"class_path": "EarlyStopping", "init_args": {"monitor": "val_loss", "patience": 1}}
SETTINGS: dict[str, Any] = {
    "seed_everything": 0,
    "model": {
        "class_path": "ImageClassifier",
        "init_args": {"backbone": "slim_resnet18", "num_classes": 2, "dropout": 0.2, "backbone_kwargs": {"width": 8}},
    },
    "trainer": {
        "max_epochs": 3,
        "accelerator": "cpu",
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": {"class_path": "CSVLogger", "init_args": {"save_dir": "runs", "name": "ensemble", "version": None}},
        "callbacks": [BEST],
    },
}
DATA: dict[str, Any] = {
    "class_path": "PhantomDataModule",
    "init_args": {"sites": 3, "patients": 24, "size": 32, "batch_size": 5},
}


def of_site(site: str) -> dict[str, Any]:
    return {**DATA, "init_args": {**DATA["init_args"], "only_site": site}}


def sites(settings: dict[str, Any], **own: Any) -> InProcess:
    return InProcess(
        {
            site: make_site(site, settings, SiteSettings(data=of_site(site), **own), Path(site).absolute())
            for site in SITES
        }
    )


def federate(settings: dict[str, Any], parties: InProcess, resume: bool = False) -> Path:
    return FederatedRun(settings, Roster(parties, SITES), Path("server").absolute(), resume).make()


def fit_alone(settings: dict[str, Any], site: str) -> Path:
    """What ``lit-dist fit`` leaves at a site: its best model."""
    settings = copy.deepcopy({**settings, "data": of_site(site)})
    settings["trainer"]["logger"]["init_args"]["name"] = site
    Path("alone.yaml").write_text(yaml.safe_dump(settings))
    done = program.run("fit", "--config", "alone.yaml")
    assert done.returncode == 0, done.stderr
    return Path("runs", site, "version_0", "checkpoints", "best.ckpt")


@pytest.mark.slow
def test_models_and_table_are_those_of_fits_and_of_a_test_of_their_ensemble() -> None:
    settings = {**SETTINGS, "trainer": {**SETTINGS["trainer"], "callbacks": [BEST, STOP]}}
    alone = {site: fit_alone(settings, site) for site in SITES}
    folder = federate(settings, sites(settings))
    members = {site: folder / "checkpoints" / f"{site}.ckpt" for site in SITES}
    for site in SITES:
        assert weights(members[site]) == weights(alone[site])
    rows = pd.read_csv(folder / "cross_site.csv").to_dict("records")
    table = {(row["model"], row["site"], row["split"]): row for row in rows}
    assert table["site-2", "site-1", "val"]["sha256"] == weights(alone["site-2"])
    assert len(table) == len(rows) == 4 * 4 * 2
    quiet = {**SETTINGS["trainer"], "logger": False, "callbacks": []}
    for name, paths in {"site-2": [alone["site-2"]], "ensemble": list(alone.values())}.items():
        made = build({**SETTINGS, "data": DATA, "trainer": quiet})
        model = SiteEnsemble.from_checkpoints(paths) if name == "ensemble" else stored_module(ImageClassifier, *paths)
        for split, found in {
            "test": made.trainer.test(model, datamodule=made.datamodule, verbose=False)[0],
            "val": made.trainer.validate(model, datamodule=made.datamodule, verbose=False)[0],
        }.items():
            for metric in ("loss", "accuracy"):
                assert table[name, "all sites", split][metric] == found[f"{split}_{metric}"]
            for site in SITES:
                for metric in ("loss", "accuracy", "balanced_accuracy", "auroc", "majority_rate"):
                    assert table[name, site, split][metric] == found[f"{split}_{metric}/{site}"]
    logged = pd.read_csv(folder / "metrics.csv")
    assert logged["test_loss"].dropna().tolist() == [table["ensemble", "all sites", "test"]["loss"]]
    ensembles = [SiteEnsemble.from_checkpoints(list(paths)).eval() for paths in (members.values(), alone.values())]
    images = torch.rand(4, 3, 32, 32)
    assert torch.equal(ensembles[0](images), ensembles[1](images))


def weights(path: Path) -> str:
    return fingerprint(read_checkpoint(path)["state_dict"])[0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Experiment logs directory .* exists:UserWarning")
def test_a_fit_that_is_killed_resumes_and_gives_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    unbroken = federate(SETTINGS, sites(SETTINGS))
    for site in SITES:
        Path(site).rename(f"{site}-before")

    class Killed(Exception):
        pass

    usual = RunCheckpoint.on_train_epoch_start
    epochs = 0

    def dies(self: Any, *args: Any) -> None:
        nonlocal epochs
        usual(self, *args)
        epochs += 1
        if epochs == 5:  # at the second site
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RunCheckpoint, "on_train_epoch_start", dies)
        with pytest.raises(Killed):
            federate(SETTINGS, sites(SETTINGS))
    folder = federate(SETTINGS, sites(SETTINGS), resume=True)
    assert folder.name == "version_1"
    assert (folder / "cross_site.csv").read_text() == (unbroken / "cross_site.csv").read_text()


@pytest.mark.slow
def test_only_metrics_that_the_site_lets_out_are_in_the_table() -> None:
    settings = {**SETTINGS, "trainer": {**SETTINGS["trainer"], "max_epochs": 1}}
    folder = federate(settings, sites(settings, metrics=["test_loss"]))
    assert [*pd.read_csv(folder / "cross_site.csv")] == ["model", "sha256", "split", "site", "images", "loss"]


@pytest.mark.slow
def test_no_image_name_or_path_crosses_the_wire_and_each_site_reads_its_own_test_images_only() -> None:
    settings = {**SETTINGS, "trainer": {**SETTINGS["trainer"], "max_epochs": 1}}
    parties = sites(settings)
    folder = federate(settings, parties)
    everything = b"".join(piece for content in parties.content for piece in content)
    names = [name for party in parties.parties.values() for name in party.data.table["image"]]
    assert [name for name in [*names, str(Path.cwd()), "alone", ".ckpt"] if name.encode() in everything] == []
    table = pd.read_csv(folder / "cross_site.csv")
    assert table[table["site"] != "all sites"].groupby("split")["images"].unique().map(list).to_dict() == {
        "test": [3],
        "val": [4],
    }


def first(answer: Any, dims: int = 4) -> Any:
    return next(tensor for tensor in answer["state_dict"].values() if tensor.ndim == dims)


def swap(answer: Any, change: Any) -> None:
    name = "backbone.conv1.weight"
    answer["state_dict"][name] = change(answer["state_dict"][name])


LIES: list[tuple[str, Any, str]] = [
    ("greet", lambda a: a.update(images=0), "what records it has"),
    ("greet", lambda a: a["versions"].update(torch="9"), "would not train alike"),
    ("settings", lambda a: a.update(settings="0" * 64), "would not train alike"),
    ("fit", lambda a: first(a).view(-1)[:1].fill_(torch.nan), "NaN or infinite"),
    ("fit", lambda a: first(a, 1).fill_(torch.inf), "NaN or infinite"),
    ("fit", lambda a: swap(a, lambda tensor: tensor[None]), "another shape or dtype"),
    ("fit", lambda a: swap(a, lambda tensor: tensor.double()), "another shape or dtype"),
    ("fit", lambda a: swap(a, lambda tensor: "text"), "it lacks: backbone.conv1"),
    ("fit", lambda a: a["state_dict"].pop("backbone.conv1.weight"), "other tensors"),
    ("fit", lambda a: a["state_dict"].update(more=torch.ones(1)), "other tensors"),
    ("fit", lambda a: a["state_dict"]["backbone.bn1.running_var"].fill_(-1), "no count or variance"),
    ("fit", lambda a: a["state_dict"]["backbone.bn1.num_batches_tracked"].fill_(-1), "no count or variance"),
    ("fit", lambda a: a.update(state_dict="none"), "refused"),
    ("fit", lambda a: a.update(entries=["{}"]), "other things than a model"),
    ("fit", lambda a: a.update(hyper_parameters={}), "other things than a model"),
    ("judge", lambda a: a.pop("site-3"), "how site-3 performs"),
    ("judge", lambda a: a["ensemble"].pop("test"), "how ensemble performs"),
    ("judge", lambda a: a["site-1"]["val"].update(metrics=[]), "no number of records and metrics"),
    ("judge", lambda a: a["site-1"]["val"].update(more=1), "no number of records and metrics"),
    ("judge", lambda a: a["site-1"]["val"].update(images=-1), "no number of records and metrics"),
    ("judge", lambda a: a["site-1"]["val"].update(images=10**6, sums=[]), "or test records is not the same"),
    ("judge", lambda a: a["site-1"]["val"]["metrics"].update({"val_loss/site-3": 0.0}), "not this site's"),
    ("judge", lambda a: a["site-1"]["val"]["metrics"].update(val_loss=float("nan")), "is NaN"),
    ("judge", lambda a: a["site-1"]["val"]["metrics"].update(val_loss=1e308), "1e\\+308"),
    ("judge", lambda a: a["site-1"]["val"]["metrics"].update({"val_\x1b[2J": 0.0}), "cannot be printed"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Experiment logs directory .* exists:UserWarning")
def test_lies_of_a_member_are_refused_by_its_name_and_honest_ones_resume() -> None:
    settings = copy.deepcopy({**SETTINGS, "trainer": {**SETTINGS["trainer"], "max_epochs": 1}})
    parties = sites(settings)
    answers: dict[tuple[str, str], wire.Message] = {}
    parties.change = lambda question, site, answer: answers.setdefault((question, site), answer)
    honest = (federate(settings, parties) / "cross_site.csv").read_text()
    replay: Any = type("Replay", (InProcess,), {"answer": lambda self, question, content: []})({})
    replay.parties = dict.fromkeys(SITES, replay)

    def told(question: str, lie: Any) -> None:
        def change(asked: str, site: str, _: wire.Message) -> wire.Message:
            tree = wire.unpack(answers[asked, site])
            if (asked, site) == (question, "site-2"):
                lie(tree)
            return wire.pack(tree)

        replay.change = change

    told("", None)
    shutil.rmtree("server")
    federate(settings, replay)
    for question, lie, message in LIES:
        told(question, lie)
        with pytest.raises(InputError, match=f"(?s)(?=.*site-2).*({message})"):
            federate(settings, replay, resume=True)
    told("judge", lambda answer: answer.update(more=answer["site-1"]))  # nobody has asked for it
    for _ in range(2):
        assert (federate(settings, replay, resume=True) / "cross_site.csv").read_text() == honest
        told("", None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The number of training batches:UserWarning")
def test_a_site_that_has_removed_its_part_of_a_run_trains_it_again_but_under_no_other_settings_or_weights() -> None:
    def fit(shift: float = 0.0, **arguments: Any) -> Any:
        settings = {**copy.deepcopy(SETTINGS), "trainer": {**SETTINGS["trainer"], "max_epochs": 1}}
        settings["model"]["init_args"] |= arguments
        own = SiteSettings(data=of_site("site-1"), max_visits=1, max_epochs=1)
        member = make_site("site-1", settings, own, Path("site-1").absolute())
        weights = member.module.state_dict()
        weights["backbone.conv1.weight"] += shift
        question = wire.pack({"run": "0" * 32, "state_dict": weights})
        answer = wire.unpack(member.answer("fit", question))
        return fingerprint(answer["state_dict"])[0] if "state_dict" in answer else answer["refused"]

    trained = fit()
    shutil.rmtree(Path("site-1", "alone", "0" * 32))
    for others in ({"dropout": 0.5}, {"shift": 1e-3}):
        assert "max_visits: 1, and the run would make 2" in fit(**others)
    assert fit() == trained


@pytest.mark.slow
def test_a_site_may_have_a_logger_of_its_own_while_the_model_travels() -> None:
    transfer = {"class_path": "CyclicalWeightTransfer", "init_args": {"every_n_epochs": 1}}
    settings = {**SETTINGS, "trainer": {**SETTINGS["trainer"], "callbacks": [transfer]}}
    logger = {"class_path": "CSVLogger", "init_args": {"save_dir": "own", "name": "curves"}}
    parties = sites(settings, trainer={"logger": logger})
    federate(settings, parties)
    curves = [pd.read_csv(f"own/curves/version_{number}/metrics.csv") for number in range(3)]
    assert [curve["train_loss"].notna().sum() for curve in curves] == [4, 4, 4]
