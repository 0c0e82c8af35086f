"""A site that cannot take part says so, and keeps to itself what may name files and patients."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from lit_dist import ImageClassifier, InputError
from lit_dist.callbacks import CyclicalWeightTransfer
from lit_dist.federation.refusal import UNSAID
from lit_dist.federation.wire import pack, unpack
from small_federation import InProcess, engine, server

SECRET = "/data/hospital/patient-17_left.png cannot be read"


def make() -> CyclicalWeightTransfer:
    return CyclicalWeightTransfer(every_n_steps=2)


def everything(parties: InProcess) -> bytes:
    return b"".join(piece for content in parties.content for piece in content)


@pytest.mark.parametrize("name", ["prepare_data", "train_dataloader"])
def test_an_error_of_a_sites_data_stays_in_its_log(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Any:
        raise InputError(SECRET)

    parties = engine(make)
    monkeypatch.setattr(parties.parties["site-2"].data, name, fail)
    with pytest.raises(InputError) as refused:
        server(parties, make).run()
    assert str(refused.value) == f"site 'site-2' refuses: {UNSAID}"
    assert b"patient-17" not in everything(parties)
    assert SECRET in caplog.text


def test_reasons_of_a_sites_policy_are_said() -> None:
    parties = engine(make)
    party = parties.parties["site-1"]
    party.own = replace(party.own, min_images=1000)
    assert "takes part with 1000" in unpack(party.answer("greet", pack({})))["refused"]
    assert unpack(party.answer("what", pack({})))["refused"] == "there is no question 'what'"


def test_that_training_has_diverged_is_said() -> None:
    parties = engine(make)
    module = parties.parties["site-2"].module
    usual = module.training_step
    module.training_step = lambda *args: usual(*args) * torch.nan
    with pytest.raises(InputError, match=r"'site-2' refuses: training diverged: the loss is NaN .*visit 1, step 3"):
        server(parties, make).run()


@pytest.mark.slow
def test_an_answer_has_nothing_that_nobody_reads() -> None:
    parties = engine(make, max_epochs=1)
    server(parties, make, max_epochs=1).run()
    trained = [tree for tree in map(unpack, parties.content) if "entries" in tree]
    assert len(trained) == 3
    assert all(tree.keys() == {"baton", "entries"} for tree in trained)


def test_layers_without_a_shape_are_named_before_a_site_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lazy(ImageClassifier):
        def __init__(self) -> None:
            super().__init__("slim_resnet18", backbone_kwargs={"width": 2})
            self.more = torch.nn.LazyLinear(2)

    monkeypatch.setattr("small_federation.module", Lazy)
    with pytest.raises(InputError, match="more of Lazy would get weights only in the first batch"):
        server(InProcess({}), make)
