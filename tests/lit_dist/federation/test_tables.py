"""A federation over tables: what a preparation is learnt from leaves each site as sums, checked and on record."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from contract import once
from lit_dist import TabularPredictor
from lit_dist.callbacks import CyclicalWeightTransfer, FederatedAveraging, WeightTransfer
from lit_dist.checkpoints.run_folder import newest_checkpoint
from lit_dist.datamodules import TabularDataModule
from lit_dist.federation.build import make_site
from lit_dist.federation.client import Parts
from lit_dist.federation.refusal import Refusal
from lit_dist.federation.roster import Absent, Roster
from lit_dist.federation.server import Server
from lit_dist.federation.site_settings import SiteSettings
from lit_dist.federation.transfer_client import TransferClient
from lit_dist.federation.wire import unpack
from lit_dist.provenance.estimation import Estimation
from lit_dist.provenance.ledger import iter_lines
from lit_dist.provenance.verify import verify
from lit_dist.utils.errors import InputError
from small_federation import InProcess, federated, kill_at, trainer
from small_tables import write_patients

SITES = ["a", "b", "c"]
DATA: dict[str, Any] = {"table": "patients.csv", "target": "years", "task": "regression", "site_column": "hospital",
                        "features": ["weight", "height", "blood"], "categorical": ["blood"],
                        "id_column": "id", "patient_column": "patient", "batch_size": 8}  # fmt: skip
MODEL: dict[str, Any] = {"task": "regression", "numeric": 2, "categorical": 1, "hidden": [4], "dropout": 0.2,
                         "least": 3, "ranges": [[50, 100], [140, 200]], "bins": 8, "indicators": True}  # fmt: skip
Make = Callable[[], WeightTransfer]


def cycle() -> WeightTransfer:
    return CyclicalWeightTransfer(every_n_epochs=1, validation="cycle", optimizer_state="carry")


def module() -> TabularPredictor:
    pl.seed_everything(0, verbose=False)
    return TabularPredictor(**MODEL)


def data(**settings: Any) -> TabularDataModule:
    return TabularDataModule(root=once(write_patients), **{**DATA, **settings})


def engine(make: Make = cycle) -> InProcess:
    def client(site: str) -> TransferClient:
        return TransferClient(site, Parts(trainer(Path(site), make()), module(), data(only_site=site)))

    return InProcess({site: client(site) for site in SITES})


def server(parties: InProcess, make: Make = cycle, absent: Absent = "retry") -> Server:
    return Server(Roster(parties, SITES, absent), trainer(Path("server"), make()), module())


def estimation(folder: str) -> Estimation:
    [line] = [line for line in iter_lines(Path(folder) / "ledger.jsonl") if isinstance(line, Estimation)]
    return line


@pytest.mark.slow
@pytest.mark.parametrize("make", [cycle, lambda: FederatedAveraging(every_n_epochs=1)], ids=["cyclical", "averaging"])
def test_simulated_equals_federated(make: Make) -> None:
    trainer(Path("simulated"), make()).fit(module(), data())
    parties = engine(make)
    server(parties, make).run()
    lines = [[*iter_lines(Path(folder) / "ledger.jsonl")] for folder in ("simulated", "server")]
    hashes = [[line.sha256_out for line in each] for each in lines]
    assert hashes[0] == hashes[1]
    assert isinstance(lines[1][0], Estimation), "before the first visit"
    assert lines[1][0].sha256_out == federated()[0].sha256_in
    assert parties.asked.count("estimate") == 1
    known = estimation("simulated")
    assert (known.sites, known.parents, known.sizes) == (
        SITES,
        estimation("server").parents,
        estimation("server").sizes,
    )
    assert "1 estimation(s)" in verify("server")
    assert "1 estimation(s)" in verify("simulated")


@pytest.mark.slow
def test_nothing_but_sums_leaves_a_site() -> None:
    parties = engine()
    server(parties).run()
    place = parties.asked.index("estimate")
    answers = parties.content[4 * place + 1 : 4 * place + 4]
    own = data()
    for answer in map(unpack, answers):
        assert answer.keys() == {"sums"}
        sums = answer["sums"]
        assert sorted(sums) == estimation("server").sums
        assert sums["records"] in [len(own.dataset([site], "train")) for site in SITES]
        assert all(0 < count >= 3 for count in sums["code_counts_0"].tolist())
        assert not ((sums["histogram"] > 0) & (sums["histogram"] < 3)).any()


@pytest.mark.slow
def test_a_run_that_is_killed_does_not_ask_again() -> None:
    parties = engine()
    server(parties).run()
    expected = [entry.sha256_out for entry in federated()]
    Path("server").rename("unbroken")
    parties = engine()
    kill_at(parties, 3)
    with pytest.raises(KeyboardInterrupt):
        server(parties).run()
    again = engine()
    server(again).run(newest_checkpoint(Path("server")))
    assert [entry.sha256_out for entry in federated()] == expected
    assert "estimate" not in again.asked
    assert estimation("server").sites == SITES


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:site 'b' gave no answer to 'estimate'")
def test_a_site_that_is_absent_is_left_out_and_said() -> None:
    parties = engine()
    parties.silent = lambda question, site: site == "b" and question == "estimate"
    with pytest.warns(UserWarning, match="lacks the records of b"):
        server(parties, absent="skip").run()
    assert estimation("server").sites == ["a", "c"]
    assert "1 estimation(s)" in verify("server")


LIES: dict[str, Callable[[Any], object]] = {
    "more records than it has": lambda answer: answer["sums"]["records"].fill_(1000),
    "squares that cannot be": lambda answer: answer["sums"]["squares"].mul_(0.5),
    "NaN": lambda answer: answer["sums"]["sums"].fill_(torch.nan),
    "no sums": lambda answer: answer.pop("sums"),
    "more than sums": lambda answer: answer.update(records=torch.zeros(3)),
    "a list": lambda answer: answer.update(sums=[1]),
    "another dtype": lambda answer: answer["sums"].update(counts=torch.zeros(2)),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_cannot_be_a_sites_sums_is_refused(lie: str) -> None:
    parties = engine()
    parties.tamper("estimate", "b", LIES[lie])
    with pytest.raises(InputError, match="the answer of site 'b' is refused"):
        server(parties).run()


RUN: dict[str, Any] = {
    "seed_everything": 0,
    "model": {"class_path": "lit_dist.TabularPredictor", "init_args": MODEL},
    "trainer": {
        "max_epochs": 3,
        "callbacks": [
            {"class_path": "lit_dist.callbacks.CyclicalWeightTransfer", "init_args": {"every_n_epochs": 1}},
        ],
    },
}


def site(**own: Any) -> Any:
    settings = {"class_path": "lit_dist.datamodules.TabularDataModule",
                "init_args": {"root": str(once(write_patients)), "only_site": "b", **DATA}}  # fmt: skip
    return make_site("b", RUN, SiteSettings(data=settings, **own), Path("b"))


@pytest.mark.parametrize("callbacks", [RUN["trainer"]["callbacks"], []], ids=["travels", "alone"])
def test_a_site_whose_policy_says_nothing_lets_no_sums_leave(
    callbacks: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RUN["trainer"], "callbacks", callbacks)
    with pytest.raises(Refusal, match=r"lets none leave the site; min_records"):
        site()


def test_a_site_may_want_more_records_behind_each_number() -> None:
    own = site(min_records=24)
    sums = own.estimate({})["sums"]
    assert sums["records"] >= 20
    assert not sums["counts"].any() or sums["counts"].min() >= 24
    assert len(sums["codes_0"]) == 0
    with pytest.raises(Refusal, match="where nothing belong"):
        own.estimate({"ranges": 1})


def test_a_preparation_that_a_visit_has_changed_is_refused() -> None:
    parties = engine()
    parties.tamper("train", "b", lambda answer: answer["baton"]["state_dict"]["preparation.fill"].add_(1))
    with pytest.raises(InputError, match=r"site 'b' is refused: the tensor 'preparation.fill' is not the one"):
        server(parties).run()


def test_sums_are_counted_at_the_site_and_the_same_ones_once(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"min_records": 2, "max_estimations_in_all": 1}
    for _ in range(2):
        site(**limits).estimate({})
    monkeypatch.setitem(RUN["model"], "init_args", {**MODEL, "ranges": [[50, 101], [140, 200]]})
    with pytest.raises(Refusal, match="max_estimations_in_all: 1, and all runs together would take 2"):
        site(**limits).estimate({})


@pytest.mark.slow
def test_a_ledger_whose_first_visit_does_not_begin_with_what_was_estimated_is_refused() -> None:
    server(engine()).run()
    path = Path("server/ledger.jsonl")
    lines = [*iter_lines(path)]
    changed = json.loads(lines[0].line) | {"sha256_out": "0" * 64}
    for values in (changed, {**changed, "sites": ["a", "a", "c"]}):
        del values["sha256"]
        first = Estimation(**values)
        path.write_text(first.line + "\n")
        rest = []
        previous = first.sha256
        for line in lines[1:]:
            entry = type(line)(**{**_values(line), "previous": previous})
            rest.append(entry.line)
            previous = entry.sha256
        path.write_text("\n".join([first.line, *rest]) + "\n")
        with pytest.raises(InputError, match=r"the estimation of TablePreparation had left|names a site twice"):
            verify("server")


def _values(line: Any) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(line.line)
    del values["sha256"]
    return values
