"""A question that is not what a server asks is refused by name, before anything is made of it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lying_site import DEEP

from lit_dist.callbacks import CyclicalWeightTransfer
from lit_dist.federation.client import SiteClient
from lit_dist.federation.refusal import Refusal
from lit_dist.federation.validate_question import check_size
from lit_dist.federation.wire import pack, unpack
from small_federation import engine

Tree = dict[str, Any]


def make() -> CyclicalWeightTransfer:
    return CyclicalWeightTransfer(every_n_epochs=1, optimizer_state="carry")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[SiteClient, Tree]:
    """A site, and a baton that it takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("site"))
        party = engine(make, max_epochs=1).parties["site-1"]
        party.settings({"batches": {"site-1": 4, "site-2": 4}})
        baton = party._own
        key = next(iter(baton["callbacks"]))
        baton["callbacks"][key]["record"]["run"] = "0" * 32
        return party, {"baton": baton, "batches": {"site-1": 4, "site-2": 4}, "visit": 0, "left_out": None}


def refused(party: SiteClient, question: str, content: Tree) -> str:
    answer: str = unpack(party.answer(question, pack(content)))["refused"]
    return answer


def baton(**changes: Any) -> Callable[[Tree], Tree]:
    return lambda content: {**content, "baton": {**content["baton"], **changes}}


def record(name: str, value: Any) -> Callable[[Tree], Tree]:
    def changed(content: Tree) -> Tree:
        [(key, account)] = content["baton"]["callbacks"].items()
        return baton(callbacks={key: {**account, "record": {**account["record"], name: value}}})(content)

    return changed


def loop(name: str, value: Any) -> Callable[[Tree], Tree]:
    def changed(content: Tree) -> Tree:
        fit_loop = {**content["baton"]["loops"]["fit_loop"], name: value}
        return baton(loops={**content["baton"]["loops"], "fit_loop": fit_loop})(content)

    return changed


def group(**changes: Any) -> Callable[[Tree], Tree]:
    def changed(content: Tree) -> Tree:
        [state] = content["baton"]["optimizer_states"]
        groups = [{**each, **changes} for each in state["param_groups"]]
        return baton(optimizer_states=[{**state, "param_groups": groups}])(content)

    return changed


QUESTIONS: dict[str, tuple[Callable[[Tree], Any], str]] = {
    "no visit": (lambda content: {**content, "visit": None}, "asks for visit None"),
    "a visit in the far future": (lambda content: {**content, "visit": 10**9}, "asks for visit 1000000000"),
    "a visit as text": (lambda content: {**content, "visit": "0"}, "asks for visit"),
    "no step": (lambda content: {**content, "left_out": "x"}, "left_out"),
    "no batches": (lambda content: {**content, "batches": [4]}, "no batches by site"),
    "many sites": (lambda content: {**content, "batches": {str(n): 1 for n in range(2000)}}, "more than 1000 sites"),
    "a long name": (lambda content: {**content, "batches": {"x" * 300: 1}}, "batches of the site"),
    "a name of two lines": (lambda content: {**content, "batches": {"a\nb": 1}}, "batches of the site"),
    "batches below zero": (lambda content: {**content, "batches": {"site-1": -4}}, "has -4 batches"),
    "without this site": (lambda content: {**content, "batches": {"a": 1, "b": 1}}, "no batches of this site"),
    "more": (lambda content: {**content, "more": 1}, "more, visit"),
    "less": (lambda content: {"baton": content["baton"]}, "where batches, baton, left_out, visit belong"),
    "deep": (lambda content: {**content, "batches": {"site-1": DEEP}}, "batches of the site"),
    "no baton": (lambda content: {**content, "baton": 7}, "another form"),
    "no progress": (baton(loops={}), "another form"),
    "no weights": (baton(state_dict={}), "weights of the server's baton"),
    "a schedule": (baton(lr_schedulers=[{"step": 1}]), "schedules"),
    "no optimizer": (baton(optimizer_states=[]), "other optimizers"),
    "an optimizer of text": (group(lr="high"), "its optimizers have lr"),
    "a rate that is none": (group(lr=torch.nan), "its optimizers have lr"),
    "others' parameters": (group(params=[0]), "other parameters"),
    "an older Lightning": (baton(**{"pytorch-lightning_version": "0"}), "another version"),
    "no account": (baton(callbacks={}), "other callbacks than the run"),
    "no visit's name": (record("visit", (0, 0)), "another form"),
    "no rates": (record("rates", None), "another form"),
    "no hash": (record("sha256_in", "../.."), "another form"),
    "no line": (record("waiting", {"visit": 0}), "another form"),
    "no run": (record("run", "../../x"), "the run's id"),
    "progress as text": (loop("epoch_loop.batch_progress", "none"), "progress"),
    "drawn below zero": (loop("state_dict", {"combined_loader": [{"drawn": -1}]}), "progress"),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_of_another_form_is_refused_by_name(name: str, asked: tuple[SiteClient, Tree]) -> None:
    party, content = asked
    change, message = QUESTIONS[name]
    assert message in refused(party, "train", change(content))


def test_so_is_any_other_question(asked: tuple[SiteClient, Tree]) -> None:
    party, _ = asked
    assert "where nothing belong" in refused(party, "greet", {"more": 1})
    assert "where batches belong" in refused(party, "settings", {})
    usual = {"state_dict": {}, "run": "0" * 32, "step": 1, "left_out": {}}
    assert "other tensors" in refused(party, "validate", usual)
    for change in ({"step": -1}, {"step": None}, {"left_out": []}, {"left_out": {"site-1": "0"}}):
        assert "another form" in refused(party, "validate", {**usual, **change})
    assert "no batches by site" in refused(party, "settings", {"batches": {str(n): 1 for n in range(2000)}})
    assert "is a pickle" in unpack(party.answer("train", [b"\x80\x04" + b"0" * 100]))["refused"]


def test_a_question_that_is_too_long_is_not_read() -> None:
    with pytest.raises(Refusal, match="'settings' has 1100000 bytes; 1048576 are the most"):
        check_size("settings", [b"0" * 550_000] * 2, 10**9)
    check_size("train", [b"0" * 10**7], 10**6)
    with pytest.raises(Refusal, match="'validate'"):
        check_size("validate", [b"0" * 10**7] * 2, 10**6)
