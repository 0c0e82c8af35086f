"""A site's limits hold, whatever the server says of a run's length."""

from pathlib import Path
from typing import Any

import pytest

from lit_dist import InputError
from lit_dist.callbacks import CyclicalWeightTransfer
from lit_dist.federation.build import FederatedRun
from lit_dist.federation.counts import Limits
from lit_dist.federation.policy import check_policy
from lit_dist.federation.refusal import Refusal
from lit_dist.federation.roster import Roster
from lit_dist.federation.site_settings import SiteSettings
from small_federation import SITES, InProcess, engine, federated, server

RUN: dict[str, Any] = {
    "model": {"class_path": "ImageClassifier", "init_args": {"backbone": "slim_resnet18", "num_classes": 2}},
    "trainer": {"logger": False, "callbacks": []},
}


def make() -> CyclicalWeightTransfer:
    return CyclicalWeightTransfer(every_n_epochs=1)


@pytest.mark.parametrize("epochs", [None, -1, 0, 101])
def test_a_run_that_does_not_end_in_time_is_refused(epochs: int | None) -> None:
    run = {**RUN, "trainer": {**RUN["trainer"], "max_epochs": epochs}}
    with pytest.raises(Refusal, match=f"allows 100 epochs, and the run has {epochs}"):
        check_policy(run, SiteSettings(data={}, max_epochs=100))
    check_policy(run, SiteSettings(data={}))
    run["trainer"]["max_epochs"] = 100
    check_policy(run, SiteSettings(data={}, max_epochs=100))


def test_models_that_are_trained_alone_need_an_end_too() -> None:
    run = {**RUN, "seed_everything": 0, "trainer": {**RUN["trainer"], "max_epochs": -1}}
    run["model"]["init_args"]["backbone_kwargs"] = {"width": 8}
    with pytest.raises(InputError, match="a federation needs max_epochs"):
        FederatedRun(run, Roster(InProcess({}), SITES), Path("server"), resume=False)


def limited(limits: Limits, **kwargs: Any) -> InProcess:
    parties = engine(make, **kwargs)
    parties.parties["site-2"]._limiter.limits = limits
    return parties


@pytest.mark.slow
def test_a_server_that_continues_is_refused() -> None:
    parties = limited(Limits(max_epochs=4), max_epochs=4)
    with pytest.raises(InputError, match=r"'site-2' refuses: its site\.yaml allows max_epochs: 4, and the run is"):
        server(parties, make, max_epochs=6).run()
    assert len(federated()) == 4


def test_a_visit_of_more_steps_than_the_epochs_allow_is_refused_before_the_run_begins() -> None:
    def long() -> CyclicalWeightTransfer:
        return CyclicalWeightTransfer(every_n_steps=9)  # of a site's four batches

    parties = engine(long, max_epochs=1)
    parties.parties["site-2"]._limiter.limits = Limits(max_epochs=2)
    with pytest.raises(InputError, match=r"max_epochs: 2; in 1 epochs the run would go through its records 3 times"):
        server(parties, long, max_epochs=1).run()


@pytest.mark.slow
def test_a_run_of_too_many_visits_is_refused_before_it_begins() -> None:
    with pytest.raises(InputError, match=r"refuses: .* allows max_visits: 1, and the run would make 2"):
        server(limited(Limits(max_visits=1)), make).run()
    server(limited(Limits(max_visits=2)), make).run()
    assert len(federated()) == 6


@pytest.mark.slow
def test_a_visit_too_many_is_refused() -> None:
    parties = limited(Limits(max_visits=1), max_epochs=3)
    with pytest.raises(InputError, match="allows max_visits: 1, and the run would make 2"):
        server(parties, make, max_epochs=6).run()
    assert len(federated()) == 4
