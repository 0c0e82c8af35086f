"""A site's answers are checked before they are used, and refused with the site's name."""

import pickle
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from lit_dist import InputError
from lit_dist.callbacks import CyclicalWeightTransfer
from lit_dist.federation import wire
from lit_dist.federation.remote_data import RemoteData
from lit_dist.federation.roster import _read
from lit_dist.federation.validate_answer import check_losses, check_validated, compare, most_images
from lit_dist.tasks.classification import Classification
from small_federation import engine, federated, server

Answer = dict[str, Any]


def make() -> CyclicalWeightTransfer:
    return CyclicalWeightTransfer(every_n_steps=2)


@pytest.mark.parametrize(
    ("answer", "message"),
    [(pickle.dumps({"baton": 1}), "pickle"), (b"", "was cut short"), (b"\0" * 5000, "was cut short")],
    ids=["pickle", "nothing", "noise"],
)
def test_an_answer_of_another_kind_is_refused(answer: bytes, message: str) -> None:
    parties = engine(make, max_epochs=1)
    parties.change = lambda question, site, own: [answer] if site == "site-3" else own
    with pytest.raises(InputError, match=rf"site-3.*refused.*{message}"):
        server(parties, make, max_epochs=1).run()


def test_an_answer_that_is_too_long_is_not_even_read() -> None:
    parties = engine(make, max_epochs=1)
    parties.change = lambda question, site, own: [*own, b"0" * 2**25] if site == "site-3" else own
    with pytest.raises(InputError, match=r"site-3.*refused: it has \d+ bytes; \d+ are the most"):
        server(parties, make, max_epochs=1).run()


@pytest.mark.parametrize("reason", ["", " ", "\n\t", "\x1b\n" * 10**5, None, [], {}])
def test_a_refusal_is_one_line_with_some_reason(reason: Any) -> None:
    with pytest.raises(InputError) as refused:
        _read("site-3", wire.pack({"refused": reason}), 2**24)
    said = str(refused.value).removeprefix("site 'site-3' refuses: ")
    assert said.strip()
    assert said.isprintable()


GREETINGS: list[Answer] = [
    *({"batches": "7"}, {"images": -1}, {"versions": None}, {"classes": [2]}, {"classes": []}, {"batches": 10**30}),
    *({"images": 2**31}, {"batch_size": True}, {"versions": {"torch": 2}}, {"more": torch.zeros(1)}),
]


@pytest.mark.parametrize("lie", GREETINGS)
def test_a_greeting_of_another_form_is_refused(lie: Answer) -> None:
    parties = engine(make, max_epochs=1)
    parties.tamper("greet", "site-3", lambda answer: answer.update(lie))
    with pytest.raises(InputError, match=r"site 'site-3' is refused: it does not say what records it has"):
        server(parties, make, max_epochs=1).run()


def test_a_greeting_may_lack_what_a_datamodule_need_not_know() -> None:
    parties = engine(make, max_epochs=1)
    parties.tamper("greet", None, lambda answer: (answer.pop("classes"), answer.pop("batch_size")))
    server(parties, make, max_epochs=1).run()
    assert len(federated()) == 3


@pytest.mark.parametrize("lie", [{"settings": [1]}, {"torch": 2}, {"settings": None}])
def test_settings_of_another_form_are_refused(lie: Answer) -> None:
    parties = engine(make, max_epochs=1)
    parties.tamper("settings", "site-2", lambda answer: answer.update(lie))
    with pytest.raises(InputError, match=r"site 'site-2' is refused: it does not say what its settings are"):
        server(parties, make, max_epochs=1).run()


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        ({"images": 10**400}, "no number of records"),
        ({"images": True}, "no number of records"),
        ({"metrics": {"val_loss": 10**400}}, "no number of records"),
        ({"metrics": {"val_loss/site-1": 0.5}}, "is not this site's"),
        ({"sums": [3.0, 4.0, 2.0]}, "its sums are not those of 7 records of a classification of 2 classes"),
        ({"sums": [3.0, 4.0, 5.0, 4.0]}, "its sums are not"),  # more are recognised than there are
        ({"sums": [3.0, 5.0, 2.0, 4.0]}, "its sums are not"),
        ({"sums": "3"}, "its sums are not"),
    ],
)
def test_a_validation_of_another_form_is_refused(lie: Answer, message: str) -> None:
    fine: Answer = {"images": 7, "metrics": {"val_loss": 0.5, "val_auroc": torch.nan}, "sums": [3.0, 4.0, 2.0, 4.0]}
    check_validated("site-2", fine, [], Classification(2))
    check_validated("site-2", {**fine, "sums": []}, [], Classification(2))
    with pytest.raises(InputError, match=f"site 'site-2' is refused: .*{message}"):
        check_validated("site-2", {**fine, **lie}, [], Classification(2))


def test_a_loss_that_is_nan_may_be_the_models_as_well_as_the_sites() -> None:
    fine, lost = {"val_loss": 0.5, "val_auroc": torch.nan}, {"val_loss/site-2": torch.nan}
    check_losses("after visit 1", {"site-1": fine})
    with pytest.raises(InputError, match=r"after visit 1: 'val_loss/site-2' of site 'site-2' is NaN; .*every site"):
        check_losses("after visit 1", {"site-2": lost})
    with pytest.raises(InputError, match=r"of site 'site-2' is NaN; that of site-1 is not, so look at the records"):
        check_losses("after visit 1", {"site-1": fine, "site-2": lost})


@pytest.mark.parametrize(
    ("changes", "batches", "most"),
    [
        *(({}, 3, 13), ({}, 6, 26), ({}, 2, 10), ({}, 4, 20)),
        ({"batch_size": None}, 2, 13),
        ({"images": 30}, 3, 30),  # of which some are dropped
        ({"versions": {"processes": "2"}, "images": 25}, 3, 26),
    ],
)
def test_the_most_images_follow_from_the_greeting(changes: dict[str, Any], batches: int, most: int) -> None:
    greeting = {"versions": {}, "batches": 3, "images": 13, "batch_size": 5}
    assert most_images({**greeting, **changes}, batches) == most


def test_a_visit_that_is_left_out_takes_no_memory_however_long() -> None:
    batches = RemoteData({"site-1": {"batches": 2**31 - 1}})
    batches.left_out = ["site-1"]
    loader = batches.train_dataloader()["site-1"]
    assert len(loader) == 2**31 - 1
    assert len(next(iter(loader))) == 0


@pytest.mark.slow
def test_batch_sizes_are_the_sites_own_but_that_they_differ_is_said() -> None:
    parties = engine(make, max_epochs=1)
    parties.parties["site-2"].data.batch_size = 4
    with pytest.warns(UserWarning, match=r"batch sizes differ \(site-1: 5, site-2: 4, site-3: 5\)"):
        server(parties, make, max_epochs=1).run()


def test_sites_with_other_settings_or_programs_are_shown_in_a_table() -> None:
    parties = engine(make, max_epochs=1)
    parties.parties["site-2"] = engine(lambda: CyclicalWeightTransfer(every_n_steps=4), max_epochs=1).parties["site-2"]
    with pytest.raises(InputError, match=r"would not train alike(?s:.*)site-1  [0-9a-f]{12}"):
        server(parties, make, max_epochs=1).run()
    same = {"torch": "2.9", "lightning": "2.6", "lit_dist": "1", "settings": "a" * 64, "threads": "1"}
    compare({"a": same, "b": {**same, "threads": "2"}})
    with pytest.raises(InputError, match=r"site  torch"):
        compare({"a": same, "b": {**same, "torch": "2.10"}})


@pytest.mark.slow
def test_no_metric_leaves_a_site_that_it_does_not_let_out() -> None:
    parties = engine(make, max_epochs=1)
    quiet = parties.parties["site-2"]
    quiet.own = replace(quiet.own, metrics=["val_loss"])
    quiet.transfer.recorded = ["val_loss"]
    server(parties, make, max_epochs=1).run()
    metrics = {entry.site: entry.metrics for entry in federated()}
    assert "train_loss" in metrics["site-1"]
    assert "train_loss" not in metrics["site-2"]
    assert {"val_loss", "val_loss/site-1"} <= metrics["site-3"].keys()
    assert not {"val_loss/site-2", "val_accuracy"} & metrics["site-3"].keys()


@pytest.mark.slow
def test_loggers_get_the_visits() -> None:
    parties = engine(make, max_epochs=1)
    logger = CSVLogger("server", name="", version="")
    server(parties, make, max_epochs=1, logger=logger, log_every_n_steps=1).run()
    rows = pd.read_csv("server/metrics.csv")
    assert rows["visit"].dropna().tolist() == [0, 1, 2]
    assert rows["site"].dropna().tolist() == [0, 1, 2]
    assert rows["train_loss"].notna().sum() == 3
    assert rows["val_loss"].notna().sum() == 1


def test_sites_that_train_in_different_numbers_of_processes_are_told_so() -> None:
    parties = engine(make, max_epochs=1)
    parties.tamper("greet", "site-3", lambda answer: answer["versions"].update(processes="2"))
    with pytest.raises(InputError, match=r"site +processes(?s:.*)site-1 +1(?s:.*)site-3 +2"):
        server(parties, make, max_epochs=1).run()
