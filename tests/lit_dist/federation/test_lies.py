"""A site lies: its answer is refused by its name, or changes nothing; and honest sites resume after each lie."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from lying_site import Honest, honest_run, others, places, put, tell, value_at
from torch import Tensor
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


def record(answer: Tree) -> Tree:
    found: Tree = account(answer)["record"]
    return found


def progress(answer: Tree) -> Tree:
    found: Tree = answer["baton"]["loops"]["fit_loop"]
    return found


def weights(answer: Tree, change: Callable[[Tensor], Tensor] | None = None) -> tuple[str, Tensor]:
    """The first weights of a convolution, which may be put into another form."""
    found = answer["baton"]["state_dict"]
    name = next(name for name, tensor in found.items() if tensor.ndim == 4)
    if change is not None:
        found[name] = change(found[name]).clone()
    return name, found[name]


def no_lines_and_the_head_set_back(answer: Tree) -> None:
    record(answer)["head"] = Entry.parse(answer["entries"].pop()).previous


def the_next_sites_visit(answer: Tree) -> None:
    own = Entry.parse(answer["entries"][0])
    more = replace(own, visit=2, sha256_in=own.sha256_out, previous=own.sha256)
    answer["entries"].append(more.line)
    record(answer).update(head=more.sha256, visit=(2, 0, SITE), sha256_in=own.sha256_out)


def a_changed_line(answer: Tree) -> None:
    answer["entries"][0] = answer["entries"][0].replace('"steps": 2', '"steps": 3')


def another_step(answer: Tree) -> None:
    progress(answer)["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"]["completed"] += 1


def begun_with_others(answer: Tree) -> None:
    record(answer)["sha256_in"] = record(answer)["waiting"]["sha256_in"] = "0" * 64


NO_SCALE = {**torch.amp.GradScaler("cpu").state_dict(), "scale": torch.nan}
LIES: dict[str, tuple[Callable[[Tree], Any], str]] = {
    "trains uphill": (lambda answer: group(answer).update(maximize=True), "maximize: True"),
    "a great rate": (lambda answer: group(answer).update(lr=1e6), "lr: 1000000.0"),
    "a schedule set back": (lambda a: a["baton"]["lr_schedulers"][0].update(last_epoch=0), "schedules"),
    "a state that stays": (lambda answer: state(answer).update({0: {"step": torch.ones(())}}), "stays"),
    "a long line": (lambda a: line(a, metrics={f"m{n}": 1.0 for n in range(70_000)}), "more metrics"),
    "a name of two lines": (lambda a: line(a, metrics={"loss\n[/]": 1.0}), "cannot be printed"),
    "another site's name": (lambda a: line(a, metrics={"val_loss/site-1": 1.0}), "name of another site"),
    "no program's version": (lambda a: line(a, versions={"torch": "x" * 10**5}), "other programs"),
    "a negative time": (lambda a: line(a, seconds=-1.0), "another form|images in"),
    "other settings": (lambda a: line(a, settings="0" * 64), "other settings"),
    "batches drawn": (lambda a: drawn(a)[0].update(drawn=1), "drawn': 1"),
    "a visit that is skipped": (lambda a: account(a)["divergence"].update(skipping=True), "pass without"),
    "a count below zero": (lambda a: buffer(a, "num_batches_tracked", -5), "no count or variance"),
    "a variance below zero": (lambda a: buffer(a, "running_var", -1.0), "no count or variance"),
    "no tensor": (lambda a: a["baton"]["state_dict"].update(more="text"), "other tensors"),
    "NaN": (lambda a: weights(a)[1].view(-1)[:1].fill_(torch.nan), "NaN or infinite"),
    "a tensor 100 times larger": (lambda a: weights(a, lambda t: t.expand(100, *t.shape)), "another shape"),
    "other weights than it says": (lambda a: weights(a)[1].add_(1), "says that they are"),
    "another visit": (lambda a: record(a).update(visit=(5, 1, SITE)), "'visit': (5, 1, 'site-2')"),
    "without lines": (lambda a: a["entries"].clear(), "there is no line of it"),
    "without lines, as if none were due": (no_lines_and_the_head_set_back, "there is no line of it"),
    "a visit cut short, which only the server finds": (lambda a: line(a, outcome="cut short"), "was 'cut short'"),
    "the next site's visit": (the_next_sites_visit, "visits [1, 2]; visit 1 was due"),
    "text for a number": (lambda a: record(a).update(images="<b>many</b>"), "another form"),
    "weights that are not those of its line": (lambda a: record(a).update(sha256_out="0" * 64), "other weights than"),
    "no progress": (lambda a: a["baton"].update(loops={"fit_loop": {}}), "another form"),
    "another epoch": (lambda a: progress(a)["epoch_progress"]["total"].update(processed=1000), "processed is 1000"),
    "another step": (another_step, "completed is 5, where 4 was expected"),
    "an older Lightning": (lambda a: a["baton"].update({"pytorch-lightning_version": "0.1"}), "version of Lightning"),
    "no learning rate": (lambda a: group(a).update(lr=torch.nan), "lr: nan, where the run has"),
    "a scale that is not a number": (lambda a: a["baton"].update(MixedPrecision=NO_SCALE), "scale of its gradients"),
    "a scale that lacks something": (lambda a: a["baton"].update(MixedPrecision={"scale": 2.0}), "scale of its"),
    "a changed line": (a_changed_line, "hash is another"),
    "more than a baton": (lambda a: a["baton"].update(program="rm"), "program"),
    "an optimizer of other parameters": (lambda a: group(a)["params"].append(10**6), "other parameters"),
    "no baton": (lambda a: a.update(baton="none"), "another form"),
}  # fmt: skip
"""Lies of a site where the optimizer's state is reset."""

OF_OTHERS: dict[str, tuple[str, Callable[[Tree], Any], str]] = {
    "a great decay": ("carry", lambda answer: group(answer).update(weight_decay=1e3), "weight_decay: 1000.0"),
    "another's momentum": ("carry", lambda a: state(a)[1].update(exp_avg=state(a)[0]["exp_avg"]), "the shape"),
    "momentum in doubles": ("carry", lambda a: state(a)[0].update(exp_avg=state(a)[0]["exp_avg"].double()), "float64"),
    "no momentum": ("carry", lambda a: state(a)[0].pop("exp_avg_sq"), "keeps step, exp_avg"),
    "a negative square": ("carry", lambda a: state(a)[0]["exp_avg_sq"].fill_(-1), "negative"),
    "steps not made": ("carry", lambda a: state(a)[0]["step"].fill_(10**6), "step went from"),
    "a decision": ("single", lambda a: account(a).update(starts=(0, 1)), "heuristic"),
}  # fmt: skip
"""The same in other cases."""

WAITING: dict[str, tuple[Callable[[Tree], Any], str]] = {
    "other weights that came in": (begun_with_others, "began with the weights 0000"),
    "text for a number": (lambda a: record(a)["waiting"].update(images="<b>many</b>"), "wrong type"),
    "text for a metric": (lambda a: record(a)["waiting"].update(metrics={"train_loss": "high"}), "wrong type"),
    "a line of a visit under way": (lambda a: record(a).update(ended=False, visit=(1, 0, SITE)), "'ended': False"),
}  # fmt: skip
"""Lies about a visit that has ended, and whose line waits for a validation: its answer is the site's second one."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "number", "lie", "message"),
    [("reset", 0, lie, message) for lie, message in LIES.values()]
    + [(case, 0, lie, message) for case, lie, message in OF_OTHERS.values()]
    + [("within a visit", 1, lie, message) for lie, message in WAITING.values()],
    ids=[*LIES, *OF_OTHERS, *(f"waiting: {name}" for name in WAITING)],
)
def test_a_lie_that_can_be_known_is_refused(
    case: str, number: int, lie: Callable[[Tree], Any], message: str, honest: Callable[[str], Honest]
) -> None:
    def told(answer: Tree) -> None:
        lie(answer)

    said = tell(honest(case), "train", SITE, number, told)
    assert said is not None
    assert f"the answer of site '{SITE}' is refused" in said
    assert any(each in said for each in message.split("|")), said


OTHERS: dict[str, tuple[str, Callable[[Tree], Any], str]] = {
    "text without an end": (
        "greet",
        lambda answer: answer["versions"].update(torch="9" * 10**5),
        "records it has",
    ),
    "more to say": ("greet", lambda answer: answer.update(more=1), "records it has"),
    "batches without an end": ("greet", lambda answer: answer.update(batches=2**30), "records it has"),
    "no hash": ("settings", lambda answer: answer.update(settings="x"), "what its settings are"),
    "colours": ("settings", lambda answer: answer.update(refused="\x1b[31m" + "x" * 10**5), "refuses: ?[31mx"),
    "a loss of NaN": ("validate", lambda a: a["metrics"].update(val_loss=float("nan")), "of site 'site-2' is NaN"),
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
