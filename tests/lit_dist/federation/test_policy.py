"""What a site takes part in, and what a run's settings cannot do to its machine."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_dist import InputError
from lit_dist.federation.build import FederatedRun, _without_weights, make_site
from lit_dist.federation.class_list import ClassList
from lit_dist.federation.network_size import make_limited
from lit_dist.federation.policy import check_places
from lit_dist.federation.refusal import UNSAID, Refusal
from lit_dist.federation.roster import Roster
from lit_dist.federation.site_settings import SiteSettings
from lit_dist.federation.typed_settings import TypedSettings
from lit_dist.federation.wire import pack, unpack
from small_federation import SITES, InProcess

RUN: dict[str, Any] = {
    "seed_everything": 0,
    "model": {
        "class_path": "ImageClassifier",
        "init_args": {"backbone": "slim_resnet18", "num_classes": 2, "backbone_kwargs": {"width": 8}},
    },
    "trainer": {"max_epochs": 3, "accelerator": "cpu", "logger": False, "callbacks": []},
}
TRANSFER: dict[str, Any] = {"class_path": "CyclicalWeightTransfer", "init_args": {"every_n_epochs": 1}}


def run(*callbacks: Any, **trainer: Any) -> dict[str, Any]:
    settings = copy.deepcopy(RUN)
    settings["trainer"] |= {"callbacks": copy.deepcopy(list(callbacks)), **trainer}
    return settings


def own(site: str = "site-1", **policy: Any) -> SiteSettings:
    arguments = {"sites": 3, "patients": 24, "size": 32, "batch_size": 5, "only_site": site}
    return SiteSettings(data={"class_path": "PhantomDataModule", "init_args": arguments}, **policy)


def site(settings: dict[str, Any], **policy: Any) -> Any:
    return make_site("site-1", settings, own(**policy), Path("here").absolute())


def test_a_run_writes_into_the_sites_folder_only(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    best = {"class_path": "ModelCheckpoint", "init_args": {"monitor": "val_loss", "dirpath": str(elsewhere)}}
    transfer = {**TRANSFER, "init_args": {**TRANSFER["init_args"], "baton_dir": str(elsewhere)}}
    travelling = site(run(transfer, best))
    assert travelling.transfer.baton_dir is None
    alone = site(run(best)).make("0" * 32)
    assert [each.dirpath for each in alone.trainer.checkpoint_callbacks if hasattr(each, "dirpath")] == [
        str(Path("here/alone", "0" * 32, "checkpoints").absolute())
    ]


@pytest.mark.parametrize("filename", ["../../../authorization", "/etc/passwd", "~/best"])
def test_a_callback_that_names_another_place_of_a_sites_machine_is_refused(filename: str) -> None:
    best = {"class_path": "ModelCheckpoint", "init_args": {"monitor": "val_loss", "filename": filename}}
    with pytest.raises(Refusal, match="names a place of the site's machine"):
        site(run(best))
    site(run(TRANSFER, best))  # while the model travels the server has it


def test_batons_are_not_kept_in_a_federation() -> None:
    transfer = {**TRANSFER, "init_args": {**TRANSFER["init_args"], "baton_dir": "batons"}}
    with pytest.raises(ValueError, match="leave it out"):
        FederatedRun(run(transfer), Roster(InProcess({}), SITES), Path("server"), resume=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"patient": 24}, "patient"), ({"patients": "many"}, "patients"), ({"patients": -3}, "patients")],
    ids=["unknown", "of another type", "refused by the class"],
)
def test_what_is_wrong_with_a_sites_data_is_an_error_that_says_what(arguments: dict[str, Any], message: str) -> None:
    settings = own()
    settings.data["init_args"].update(arguments)
    with pytest.raises(InputError, match=f"(?s)this site's site.yaml cannot be used: .*{message}"):
        make_site("site-1", run(TRANSFER), settings, Path("here"))


def test_what_is_wrong_with_the_runs_settings_is_an_error_at_the_server() -> None:
    wrong = run({**TRANSFER, "init_args": {"every_n_epoch": 1}})
    with pytest.raises(InputError, match=r"(?s)the run's settings cannot be used: .*every_n_epoch\b"):
        FederatedRun(wrong, Roster(InProcess({}), SITES), Path("server"), resume=False)


def test_two_servers_do_not_work_on_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_dist.federation.build._PATIENCE", 0)
    others: list[str] = []

    def ask(question: str, content: Any, sites: Any) -> Any:
        second = FederatedRun(run(TRANSFER), Roster(InProcess({}), SITES), Path("server"), resume=True)
        with pytest.raises(InputError, match=r"server is held by process .* wait until it has ended"):
            second.make()
        others.append(question)
        raise KeyboardInterrupt

    engine = InProcess({})
    monkeypatch.setattr(engine, "ask", ask)
    first = FederatedRun(run(TRANSFER), Roster(engine, SITES), Path("server"), resume=False)
    with pytest.raises(KeyboardInterrupt):
        first.make()
    assert others == ["greet"]


def begun(command: str, resume: bool = False) -> str:
    """The name of the run that a command begins, or resumes, until its job dies in the second visit."""
    logger = {"class_path": "CSVLogger", "init_args": {"save_dir": "runs"}}
    settings = run(TRANSFER, logger=logger, max_epochs=30)
    parties = InProcess({name: make_site(name, settings, own(name), Path(name)) for name in SITES})

    def die(question: str, name: str, answer: Any) -> Any:
        if parties.asked.count("train") == 2:
            raise KeyboardInterrupt
        return answer

    parties.change = die
    made = FederatedRun(settings, Roster(parties, SITES), Path("server"), resume, command)
    with pytest.raises(KeyboardInterrupt):
        made.make()
    return str(Path(made.trainer.log_dir or "").name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Experiment logs directory .* exists:UserWarning")
def test_a_job_resumes_with_the_run_of_its_own_command_only() -> None:
    assert begun("first") == "version_0"
    assert begun("second") == "version_1"  # its first job may have died before it made a folder
    assert begun("second") == "version_1"
    assert begun("third", resume=True) == "version_1"
    assert begun("third") == "version_1"
    assert begun("") == "version_2"


def test_a_run_is_not_ended_by_the_servers_clock() -> None:
    with pytest.raises(InputError, match="max_time and Timer cannot end a federated run"):
        FederatedRun(run(TRANSFER, max_time="00:01:00:00"), Roster(InProcess({}), SITES), Path("server"), resume=False)


@pytest.mark.filterwarnings("ignore:The number of training batches:UserWarning")
def test_a_model_that_was_trained_alone_comes_with_nothing_else() -> None:
    member = site(run(max_epochs=1, enable_progress_bar=False))
    answer = member.fit({"run": "0" * 32, "state_dict": member.module.state_dict()})
    assert answer.keys() == {"state_dict"}


def test_an_order_that_is_wrong_is_said_before_a_site_is_asked() -> None:
    wrong = run({**TRANSFER, "init_args": {**TRANSFER["init_args"], "order": ["site-1", "mgh"]}})
    with pytest.raises(InputError, match="the order names the site 'mgh', which is not one of site-1, site-2, site-3"):
        FederatedRun(wrong, Roster(InProcess({}), SITES), Path("server"), resume=False)


@pytest.mark.parametrize("filename", ["{step:c}tmp{step:c}x", "{/tmp/x}", "{step}/x", "{nope:s}", "a" * 1500])
def test_a_files_name_cannot_become_a_place(filename: str) -> None:
    best = {"class_path": "ModelCheckpoint", "init_args": {"monitor": "val_loss", "filename": filename}}
    with pytest.raises(Refusal, match="filename"):
        site(run(best))
    with pytest.raises(InputError, match="filename"):
        FederatedRun(run(TRANSFER, best), Roster(InProcess({}), SITES), Path("runs").absolute(), resume=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": {"compiled": True}}, "compilers"),
        ({"model": {"backbone_kwargs": {"width": 10**7}}}, "max_parameters: 1000000000"),
        ({"model": {"backbone": "mobilenet_v2", "backbone_kwargs": {"width_mult": 1000}}}, "max_parameters"),
        ({"model": {"backbone": "slim_resnet18", "num_classes": 2**40}}, "max_parameters"),
        ({"model": {"optimizer": {"class_path": "torch.optim.LBFGS"}}}, "not one of the classes"),
        ({"trainer": {"fast_dev_run": 1}}, "fast_dev_run"),
        ({"trainer": {"barebones": True}}, "barebones"),
        ({"trainer": {"callbacks": [{"class_path": "ModelCheckpoint"}] * 2}}, "ModelCheckpoint callbacks"),
        ({"trainer": {"callbacks": [{"class_path": "ModelCheckpoint", "init_args": {"save_top_k": -1}}]}}, "top_k"),
        ({"trainer": {"callbacks": [TRANSFER] * 40}}, "40 callbacks"),
    ],
)
def test_what_would_exhaust_a_site_or_change_its_own_is_refused(change: dict[str, Any], said: str) -> None:
    settings = run(TRANSFER, **change.get("trainer", {}))
    settings["model"]["init_args"] |= change.get("model", {})
    with pytest.raises(Refusal, match=said):
        site(settings)


@pytest.mark.slow
def test_a_network_of_too_many_layers_is_refused_before_they_are_made() -> None:
    with pytest.raises(Refusal, match="layers"):
        make_limited(lambda: torch.nn.Sequential(*(torch.nn.Identity() for _ in range(10**5))), 10)


def test_a_site_says_how_large_a_network_may_be() -> None:
    with pytest.raises(Refusal, match="max_parameters: 1000,"):
        site(run(TRANSFER), max_parameters=1000)
    site(run(TRANSFER), max_parameters=10**6)


def test_a_model_within_a_model_reads_no_file_and_a_callback_within_one_names_no_folder() -> None:
    weights = {**RUN["model"]["init_args"], "weights": "site.yaml"}
    outer = {"class_path": "mylab.Outer", "init_args": {"part": {**RUN["model"], "init_args": weights}}}
    assert _without_weights(outer)["init_args"]["part"]["init_args"]["weights"] is None
    inner = {"class_path": "ModelCheckpoint", "init_args": {"dirpath": "elsewhere"}}
    with pytest.raises(Refusal, match="dirpath, within callback"):
        check_places({"part": None, "callback": inner}, "init_args", "the site")


def test_a_name_that_cannot_be_looked_up_costs_no_other_parameter_its_type() -> None:
    class Odd:
        def __init__(self, count: int = 1, other: "Nowhere | None" = None) -> None:  # type: ignore[name-defined] # noqa: F821
            pass

    typed = TypedSettings(ClassList())
    assert typed.arguments({"count": 3, "other": None}, Odd, "odd").keys() == {"count"}
    for wrong, said in (({"count": "os.system"}, "must be int"), ({"other": "os.system"}, "cannot be looked up")):
        with pytest.raises(Refusal, match=said):
            typed.arguments(wrong, Odd, "odd")


@pytest.mark.parametrize("name", ["torch.optim.Nothing", "os.system", "nowhere.Net", "Net", ""])
def test_a_site_that_adds_what_is_no_class_is_told(name: str) -> None:
    with pytest.raises(InputError, match="which is not a class that can be imported"):
        ClassList([name])


def test_a_site_says_which_backbones_it_trains() -> None:
    with pytest.raises(Refusal, match="allows the backbones resnet34, not 'slim_resnet18'"):
        site(run(TRANSFER), backbones=["resnet34"])
    site(run(TRANSFER), backbones=["resnet34", "slim_resnet18"])


def test_a_callback_that_averages_weights_is_refused_though_a_site_lists_it() -> None:
    name = "lightning.pytorch.callbacks.StochasticWeightAveraging"
    with pytest.raises(InputError, match="whose average no site would hand on"):
        site(run(TRANSFER, {"class_path": name, "init_args": {"swa_lrs": 0.1}}), classes=[name])


def test_a_run_that_is_longer_than_any_is_refused_when_it_begins() -> None:
    answer = unpack(site(run(TRANSFER, max_epochs=10**6 + 1)).answer("settings", pack({"batches": {"site-1": 4}})))
    assert "1000001 epochs; 1000000 are the most" in answer["refused"]


def test_a_class_that_takes_any_name_takes_words_only() -> None:
    class Open:
        def __init__(self, **others: Any) -> None:
            pass

    for name in ("__class__", "_private", "a b", "0"):
        with pytest.raises(Refusal, match="no such setting"):
            TypedSettings(ClassList()).arguments({name: 1}, Open, "open")
    assert TypedSettings(ClassList()).arguments({"name": 1}, Open, "open").keys() == {"name"}


@pytest.mark.parametrize("optimizer", [{"lr": -1.0}, {"betas": [0.9, 3.0]}])
def test_a_mistake_that_a_library_finds_ends_the_run_instead_of_asking_again(optimizer: dict[str, Any]) -> None:
    settings = run(TRANSFER)
    settings["model"]["init_args"]["optimizer"] = {"class_path": "torch.optim.Adam", "init_args": optimizer}
    answer = unpack(site(settings).answer("settings", pack({"batches": {"site-1": 2, "site-2": 2}})))
    assert answer == {"refused": UNSAID}
