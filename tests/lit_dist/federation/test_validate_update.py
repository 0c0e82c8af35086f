"""A baton that comes back is checked: only what can have become of the one that was sent is resumed."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch

from lit_dist import InputError
from lit_dist.callbacks import CyclicalWeightTransfer, RunCheckpoint
from lit_dist.checkpoints.run_folder import newest_checkpoint
from lit_dist.federation import wire
from lit_dist.provenance.entry import Entry
from small_federation import engine, federated, server

Answer = dict[str, Any]


def make() -> CyclicalWeightTransfer:
    return CyclicalWeightTransfer(every_n_steps=2)


def tampered(answer: wire.Message, tamper: Callable[[Answer], None]) -> wire.Message:
    tree = wire.unpack(answer)
    tamper(tree)
    return wire.pack(tree)


def record(answer: Answer) -> Any:
    return next(iter(answer["baton"]["callbacks"].values()))["record"]


def some_weights(answer: Answer) -> tuple[Any, str]:
    weights = answer["baton"]["state_dict"]
    return weights, next(name for name, tensor in weights.items() if tensor.ndim == 4)


def nan(answer: Answer) -> None:
    weights, name = some_weights(answer)
    weights[name].view(-1)[0] = torch.nan


def larger(answer: Answer) -> None:
    weights, name = some_weights(answer)
    weights[name] = torch.zeros(100, *weights[name].shape)


def other_weights(answer: Answer) -> None:
    weights, name = some_weights(answer)
    weights[name].add_(1)


def another_visit(answer: Answer) -> None:
    record(answer)["visit"] = (5, 1, "site-2")


def no_lines(answer: Answer) -> None:
    answer["entries"] = []


def no_lines_and_the_head_set_back(answer: Answer) -> None:
    record(answer)["head"] = Entry.parse(answer["entries"].pop()).previous


def another_outcome(answer: Answer) -> None:
    line = replace(Entry.parse(answer["entries"][0]), outcome="cut short")
    answer["entries"] = [line.line]
    record(answer)["head"] = line.sha256


def the_next_sites_visit(answer: Answer) -> None:
    own = Entry.parse(answer["entries"][0])
    line = replace(own, visit=2, sha256_in=own.sha256_out, previous=own.sha256)
    answer["entries"].append(line.line)
    record(answer).update(head=line.sha256, visit=(2, 0, "site-2"), sha256_in=own.sha256_out)


def images_as_text(answer: Answer) -> None:
    record(answer)["images"] = "<b>many</b>"


def weights_that_another_went_with(answer: Answer) -> None:
    record(answer)["sha256_out"] = "0" * 64


def skipping(answer: Answer) -> None:
    next(iter(answer["baton"]["callbacks"].values()))["divergence"]["skipping"] = True


def no_progress(answer: Answer) -> None:
    answer["baton"]["loops"] = {"fit_loop": {}}


def another_epoch(answer: Answer) -> None:
    answer["baton"]["loops"]["fit_loop"]["epoch_progress"]["total"]["processed"] = 1000


def another_step(answer: Answer) -> None:
    loop = answer["baton"]["loops"]["fit_loop"]
    loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"]["completed"] += 1


def an_older_lightning(answer: Answer) -> None:
    answer["baton"]["pytorch-lightning_version"] = "0.1"


def a_rate_that_is_none(answer: Answer) -> None:
    answer["baton"]["optimizer_states"][0]["param_groups"][0]["lr"] = torch.nan


def a_scale_that_is_none(answer: Answer) -> None:
    answer["baton"]["MixedPrecision"] = {**torch.amp.GradScaler("cpu").state_dict(), "scale": torch.nan}


def a_scale_without_a_value(answer: Answer) -> None:
    answer["baton"]["MixedPrecision"] = {"scale": 2.0}


def changed_line(answer: Answer) -> None:
    answer["entries"][0] = answer["entries"][0].replace('"steps": 2', '"steps": 3')


def more(answer: Answer) -> None:
    answer["baton"]["program"] = "rm"


def others_parameters(answer: Answer) -> None:
    answer["baton"]["optimizer_states"][0]["param_groups"][0]["params"].append(10**6)


def text(answer: Answer) -> None:
    answer["baton"] = "none"


TAMPERED: dict[str, tuple[Callable[[Answer], None], str]] = {
    "NaN": (nan, "NaN or infinite"),
    "a tensor 100 times larger": (larger, "another shape"),
    "other weights than it says": (other_weights, "says that they are"),
    "another visit": (another_visit, r"'visit': \(5, 1, 'site-2'\)"),
    "without lines": (no_lines, "there is no line of it"),
    "without lines, as if none were due": (no_lines_and_the_head_set_back, "there is no line of it"),
    "a visit that only the server can find cut short": (another_outcome, "was 'cut short'"),
    "the next site's visit": (the_next_sites_visit, r"visits \[1, 2\]; visit 1 was due"),
    "text for a number": (images_as_text, "another form"),
    "weights that are not those of its line": (weights_that_another_went_with, "other weights than its lines"),
    "the next visit is to be skipped": (skipping, "pass without training"),
    "no progress": (no_progress, "another form"),
    "another epoch": (another_epoch, "processed is 1000, where 0 was expected"),
    "another step": (another_step, "completed is 5, where 4 was expected"),
    "an older Lightning": (an_older_lightning, "another version of Lightning"),
    "no learning rate": (a_rate_that_is_none, "lr: nan, where the run has 0.001"),
    "a scale that is no number": (a_scale_that_is_none, "scale of its gradients"),
    "a scale that lacks something": (a_scale_without_a_value, "scale of its gradients"),
    "a changed line": (changed_line, "hash is another"),
    "more than a baton": (more, "program"),
    "an optimizer of other parameters": (others_parameters, "other parameters"),
    "no baton": (text, "another form"),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_a_tampered_answer_is_refused_with_the_name_of_the_site(how: str) -> None:
    tamper, message = TAMPERED[how]
    parties = engine(make, max_epochs=1)

    def change(question: str, site: str, answer: wire.Message) -> wire.Message:
        if question != "train" or site != "site-2":
            return answer
        return tampered(answer, tamper)

    parties.change = change
    with pytest.raises(InputError, match=rf"site-2.*refused.*{message}"):
        server(parties, make, max_epochs=1).run()
    assert [entry.site for entry in federated()] == ["site-1"]


def begun_with_others(answer: Answer) -> None:
    record(answer)["sha256_in"] = record(answer)["waiting"]["sha256_in"] = "0" * 64


def waiting_images_as_text(answer: Answer) -> None:
    record(answer)["waiting"]["images"] = "<b>many</b>"


def waiting_metrics_as_text(answer: Answer) -> None:
    record(answer)["waiting"]["metrics"] = {"train_loss": "high"}


def not_ended(answer: Answer) -> None:
    record(answer).update(ended=False, visit=(1, 0, "site-1"))


WAITING: dict[str, tuple[Callable[[Answer], None], str]] = {
    "other weights that came in": (begun_with_others, "began with the weights 0000"),
    "text for a number": (waiting_images_as_text, "wrong type"),
    "text for a metric": (waiting_metrics_as_text, "wrong type"),
    "a line of a visit that has not ended": (not_ended, "'ended': False"),
}


@pytest.mark.parametrize("how", WAITING)
def test_a_line_that_waits_for_a_validation_is_checked_as_well(how: str) -> None:
    def transfer() -> CyclicalWeightTransfer:
        return CyclicalWeightTransfer(every_n_epochs=2)

    tamper, message = WAITING[how]
    parties = engine(transfer, max_epochs=6)
    answers = 0

    def change(question: str, site: str, answer: wire.Message) -> wire.Message:
        nonlocal answers
        answers += question == "train"
        if question != "train" or answers != 2:  # the first one ended within the visit, at a validation
            return answer
        return tampered(answer, tamper)

    parties.change = change
    with pytest.raises(InputError, match=rf"site-1.*refused.*{message}"):
        server(parties, transfer, max_epochs=6).run()


@pytest.mark.parametrize("replayed", [False, True])
def test_the_rest_of_a_visit_that_was_cut_short_is_checked_as_well(replayed: bool) -> None:
    def transfer() -> CyclicalWeightTransfer:
        return CyclicalWeightTransfer(every_n_epochs=2)

    answers: list[wire.Message] = []

    def change(question: str, site: str, answer: wire.Message) -> wire.Message:
        if question != "train" or site != "site-2":
            return answer
        answers.append(answer)
        return answer if len(answers) == 1 else answers[0] if replayed else tampered(answer, another_visit)

    for epochs in (3, 4):
        parties = engine(transfer, max_epochs=epochs)
        parties.change = change
        run = server(parties, transfer, RunCheckpoint(), max_epochs=epochs, enable_checkpointing=True)
        message = "goes back from epoch 3 to 2" if replayed else r"'visit': \(5,"
        with nullcontext() if epochs == 3 else pytest.raises(InputError, match=rf"site-2.*refused.*{message}"):
            run.run(newest_checkpoint("server") if epochs > 3 else None)


def test_a_replayed_answer_is_refused() -> None:
    parties = engine(make, max_epochs=2)
    first: list[wire.Message] = []

    def change(question: str, site: str, answer: wire.Message) -> wire.Message:
        if question == "train" and site == "site-1":
            first.append(answer)
            return first[0]
        return answer

    parties.change = change
    with pytest.raises(InputError, match=r"site-1.*refused: it goes back from epoch 1 to 0"):
        server(parties, make, max_epochs=2).run()
