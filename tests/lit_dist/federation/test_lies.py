"""A site lies: its answer is refused by its name, or changes nothing; and honest sites resume after each lie."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from lying_site import Honest, honest_run, others, places, put, tell, value_at
from torch.optim.lr_scheduler import CosineAnnealingLR

from lit_dist import ImageClassifier
from lit_dist.callbacks import CyclicalWeightTransfer, SingleWeightTransfer, WeightTransfer
from lit_dist.federation.wire import unpack
from lit_dist.provenance.entry import Entry

Tree = dict[str, Any]
SITE = "site-2"
CASES: dict[str, tuple[Callable[[], WeightTransfer], Tree]] = {
    "reset": (lambda: CyclicalWeightTransfer(every_n_steps=2), {"max_epochs": 1}),
    "carry": (lambda: CyclicalWeightTransfer(every_n_epochs=1, optimizer_state="carry"), {"max_epochs": 3}),
    "within a visit": (lambda: CyclicalWeightTransfer(every_n_epochs=2, optimizer_state="local"), {"max_epochs": 4}),
    "skip": (lambda: CyclicalWeightTransfer(every_n_epochs=1, on_divergence="skip"), {"max_epochs": 3}),
    "single": (lambda: SingleWeightTransfer(patience=1, max_epochs_per_site=2), {"max_epochs": 6}),
}


def small_module() -> ImageClassifier:
    torch.manual_seed(0)
    return ImageClassifier(
        "slim_resnet18",
        backbone_kwargs={"width": 2},
        lr_scheduler=lambda optimizer: CosineAnnealingLR(optimizer, 10),
        lr_scheduler_interval="step",
    )


@pytest.fixture(scope="module")
def runs() -> dict[str, Honest]:
    return {}


@pytest.fixture
def honest(runs: dict[str, Honest], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Honest]:
    monkeypatch.setattr("small_federation.module", small_module)

    def made(case: str) -> Honest:
        if case not in runs:
            runs[case] = honest_run(*CASES[case])
        return runs[case]

    return made


def group(answer: Tree) -> Tree:
    found: Tree = answer["baton"]["optimizer_states"][0]["param_groups"][0]
    return found


def state(answer: Tree) -> Tree:
    found: Tree = answer["baton"]["optimizer_states"][0]["state"]
    return found


def line(answer: Tree, **changes: Any) -> None:
    """A line that is changed with all that depends on it."""
    entry = replace(Entry.parse(answer["entries"][0]), **changes)
    answer["entries"][0] = entry.line
    [account] = answer["baton"]["callbacks"].values()
    account["record"]["head"] = entry.sha256


def account(answer: Tree) -> Tree:
    [found] = answer["baton"]["callbacks"].values()
    return found  # type: ignore[no-any-return]


def drawn(answer: Tree) -> list[Tree]:
    found: list[Tree] = answer["baton"]["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    return found


def buffer(answer: Tree, end: str, value: float) -> None:
    weights = answer["baton"]["state_dict"]
    weights[next(name for name in weights if name.endswith(end))].fill_(value)


LIES: dict[str, tuple[str, Callable[[Tree], Any], str]] = {
    "trains uphill": ("reset", lambda answer: group(answer).update(maximize=True), "maximize: True"),
    "a great rate": ("reset", lambda answer: group(answer).update(lr=1e6), "lr: 1000000.0"),
    "a great decay": ("carry", lambda answer: group(answer).update(weight_decay=1e3), "weight_decay: 1000.0"),
    "a schedule set back": ("reset", lambda a: a["baton"]["lr_schedulers"][0].update(last_epoch=0), "schedules"),
    "a state that stays": ("reset", lambda answer: state(answer).update({0: {"step": torch.ones(())}}), "stays"),
    "another's momentum": ("carry", lambda a: state(a)[1].update(exp_avg=state(a)[0]["exp_avg"]), "the shape"),
    "momentum in doubles": ("carry", lambda a: state(a)[0].update(exp_avg=state(a)[0]["exp_avg"].double()), "float64"),
    "no momentum": ("carry", lambda a: state(a)[0].pop("exp_avg_sq"), "keeps step, exp_avg"),
    "a negative square": ("carry", lambda a: state(a)[0]["exp_avg_sq"].fill_(-1), "negative"),
    "steps not made": ("carry", lambda a: state(a)[0]["step"].fill_(10**6), "step went from"),
    "a long line": ("reset", lambda a: line(a, metrics={f"m{n}": 1.0 for n in range(70_000)}), "more metrics"),
    "a name of two lines": ("reset", lambda a: line(a, metrics={"loss\n[/]": 1.0}), "cannot be printed"),
    "another site's name": ("reset", lambda a: line(a, metrics={"val_loss/site-1": 1.0}), "name of another site"),
    "no program's version": ("reset", lambda a: line(a, versions={"torch": "x" * 10**5}), "other programs"),
    "a negative time": ("reset", lambda a: line(a, seconds=-1.0), "another form|images in"),
    "other settings": ("reset", lambda a: line(a, settings="0" * 64), "other settings"),
    "batches drawn": ("reset", lambda a: drawn(a)[0].update(drawn=1), "drawn': 1"),
    "a decision": ("single", lambda a: account(a).update(starts=(0, 1)), "heuristic"),
    "a visit that is skipped": ("reset", lambda a: account(a)["divergence"].update(skipping=True), "pass without"),
    "a count below zero": ("reset", lambda a: buffer(a, "num_batches_tracked", -5), "no count or variance"),
    "a variance below zero": ("reset", lambda a: buffer(a, "running_var", -1.0), "no count or variance"),
    "no tensor": ("reset", lambda a: a["baton"]["state_dict"].update(more="text"), "other tensors"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_a_lie_that_can_be_known_is_refused(name: str, honest: Callable[[str], Honest]) -> None:
    case, lie, message = LIES[name]

    def told(answer: Tree) -> None:
        lie(answer)

    said = tell(honest(case), "train", SITE, 0, told)
    assert said is not None
    assert f"the answer of site '{SITE}' is refused" in said
    assert any(each in said for each in message.split("|")), said


OTHERS: dict[str, tuple[str, Callable[[Tree], Any], str]] = {
    "text without an end": ("greet", lambda answer: answer["versions"].update(torch="9" * 10**5), "what images it has"),
    "more to say": ("greet", lambda answer: answer.update(more=1), "what images it has"),
    "batches without an end": ("greet", lambda answer: answer.update(batches=2**30), "what images it has"),
    "no hash": ("settings", lambda answer: answer.update(settings="x"), "what its settings are"),
    "colours": ("settings", lambda answer: answer.update(refused="\x1b[31m" + "x" * 10**5), "refuses: ?[31mx"),
    "another's metric": ("validate", lambda answer: answer["metrics"].update({"val_loss/site-1": 0.0}), "site-1"),
    "a sum without an end": ("validate", lambda answer: answer["metrics"].update(val_loss=1e308), "1e+308"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_so_is_a_lie_in_any_other_answer(name: str, honest: Callable[[str], Honest]) -> None:
    question, lie, message = OTHERS[name]
    said = tell(honest("reset"), question, SITE, 0, lambda answer: lie(answer) and None)
    assert said is not None
    assert message in said


def lies(run: Honest) -> dict[str, list[tuple[str, int, Any, int]]]:
    """All lies of one value each, by the first names of their places."""
    found: dict[str, list[tuple[str, int, Any, int]]] = {}
    numbers: dict[str, int] = {}
    for (question, site, *_), parcel in run.answers.items():
        if site == SITE:
            number = numbers[question] = numbers.get(question, -1) + 1
            tree = unpack(parcel)
            for place in places(tree):
                for kind in range(len(others(value_at(tree, place)))):
                    key = json.dumps([question, *map(str, place[:4])])
                    found.setdefault(key, []).append((question, number, place, kind))
    return found


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_no_lie_of_one_value_steers_or_kills_a_run(case: str, honest: Callable[[str], Honest]) -> None:
    run = honest(case)
    known, draw, told = list(lies(run).values()), random.Random(7), []
    for number in range(60):
        question, visit, place, kind = draw.choice(known[number % len(known)])
        told.append(
            tell(
                *(run, question, SITE, visit),
                lambda tree, place=place, kind=kind: put(tree, place, others(value_at(tree, place))[kind]),
            )
        )
    assert sum(each is not None for each in told) > 40
