"""What stays at a site belongs to one run, and the run does not go on without it."""

from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
import yaml

from flare_federation import CONFIG
from lit_dist import InputError
from lit_dist.callbacks import CyclicalWeightTransfer
from lit_dist.checkpoints.run_folder import newest_checkpoint
from lit_dist.cli.federate import main
from lit_dist.federation.wire import Message, pack, unpack
from small_federation import InProcess, engine, federated, server


def make() -> CyclicalWeightTransfer:
    return CyclicalWeightTransfer(every_n_epochs=1, optimizer_state="local", validation="cycle")


def another() -> CyclicalWeightTransfer:
    return CyclicalWeightTransfer(every_n_epochs=1, optimizer_state="local", validation="cycle", seed=5)


def interrupted(visits: int) -> InProcess:
    """A run whose server is killed after some visits."""
    parties = engine(make)

    def change(question: str, site: str, answer: Message) -> Message:
        if parties.asked.count("train") > visits:
            raise KeyboardInterrupt
        return answer

    parties.change = change
    with pytest.raises(KeyboardInterrupt):
        server(parties, make).run()
    return parties


@pytest.mark.slow
def test_a_run_resumes_though_another_was_made_at_the_same_sites() -> None:
    server(engine(make), make).run()
    unbroken = [entry.sha256_out for entry in federated()]
    Path("server").rename("unbroken")
    interrupted(4)
    Path("server").rename("first")
    server(engine(another), another).run()
    rmtree("server")
    Path("first").rename("server")
    server(engine(make), make).run(newest_checkpoint("server"))
    assert [entry.sha256_out for entry in federated()] == unbroken
    assert not Path("site-1/ledger.jsonl").exists()  # of another run at the same time it would be the ledger, too
    assert len(list(Path("site-1/stays").iterdir())) == 3


@pytest.mark.slow
def test_a_run_does_not_resume_at_a_site_that_has_lost_what_stayed() -> None:
    interrupted(4)
    rmtree("site-2/stays")
    with pytest.raises(InputError, match="the optimizer's state of its last visit in this run is gone"):
        server(engine(make), make).run(newest_checkpoint("server"))


@pytest.mark.parametrize("run", ["../../elsewhere", "0" * 31, "0" * 32 + "\n", 7])
def test_a_folder_is_named_by_nothing_but_an_id(run: Any) -> None:
    parties = interrupted(1)
    question = unpack(next(each for each in parties.content if "baton" in unpack(each)))
    [account] = question["baton"]["callbacks"].values()
    account["record"]["run"] = run
    answer = unpack(parties.parties["site-1"].answer("train", pack(question)))
    assert answer["refused"] == "the run's id is not one of 32 hexadecimal digits"


def test_local_optimizer_states_need_the_folder_that_they_are_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_dist.cli.federate.need", lambda extra, what: None)
    transfer = {"class_path": "CyclicalWeightTransfer", "init_args": {"every_n_epochs": 1, "optimizer_state": "local"}}
    Path("run.yaml").write_text(yaml.safe_dump({**CONFIG, "trainer": {**CONFIG["trainer"], "callbacks": [transfer]}}))
    with pytest.raises(InputError, match="give --folder when it begins"):
        main(["--local", "--resume", "--config", "run.yaml"])
