"""What a site counts in values of all sites together, and what is said where one is far from the others."""

from pathlib import Path

import pytest

from lit_dist import InputError
from lit_dist.callbacks import CyclicalWeightTransfer
from lit_dist.checkpoints.run_folder import newest_checkpoint
from lit_dist.federation.ensemble_server import _rows
from lit_dist.federation.pooled_validation import SiteValues, pooled, strange
from lit_dist.federation.roster import Roster
from lit_dist.federation.server import Server
from lit_dist.federation.wire import Message, pack, unpack
from lit_dist.tasks.classification import Classification
from small_federation import SITES, engine, module, server, trainer

FOUND = {"a": SiteValues(1, {"val_loss": 1.0}), "b": SiteValues(3, {"val_loss": 2.0})}


def make() -> CyclicalWeightTransfer:
    return CyclicalWeightTransfer(every_n_steps=1)


def test_each_site_counts_its_images_or_as_much_as_any_other() -> None:
    for task in (None, Classification()):
        assert pooled(FOUND, task)["val_loss"] == 1.75
        assert pooled(FOUND, task, "equal")["val_loss"] == 1.5


def test_a_site_that_is_far_from_the_others_is_named_and_an_ordinary_run_is_quiet() -> None:
    ordinary = {site: SiteValues(10 * (n + 1), {"val_loss": 0.5 + 0.1 * n}) for n, site in enumerate("abcd")}
    assert strange(ordinary) == []
    [loss] = strange({**ordinary, "d": SiteValues(40, {"val_loss": 0.001})})
    [size] = strange({**ordinary, "d": SiteValues(10**6, {"val_loss": 0.8})})
    assert "the val_loss of site 'd' is 0.001, and the median of the others' 0.6" in loss
    assert "the number of records of site 'd' is 1e+06, and the median of the others' 20" in size


def test_a_site_that_says_it_has_more_images_gains_nothing_where_weights_are_equal() -> None:
    def change(question: str, site: str, answer: Message) -> Message:
        more = {"images": 1000, "sums": []} if (question, site) == ("validate", "site-1") else {}
        return pack({**unpack(answer), **more})

    parties = engine(make, max_epochs=1)
    parties.change = change
    run = Server(Roster(parties, SITES, weights="equal"), trainer(Path("server"), make(), max_epochs=1), module())
    run.run()
    found = run.trainer.callback_metrics
    assert found["val_loss"].item() == pytest.approx(sum(found[f"val_loss/{site}"].item() for site in SITES) / 3)
    rows = _rows("model", "", "val", FOUND, pooled(FOUND, None, "equal"))
    assert rows[-1]["loss"] == 1.5


@pytest.mark.slow
def test_a_run_is_resumed_with_the_weights_that_it_began_with() -> None:
    parties = engine(make, max_epochs=1)
    roster = Roster(parties, SITES, weights="equal")
    Server(roster, trainer(Path("server"), make(), max_epochs=1), module()).run()
    with pytest.raises(InputError, match="was begun with --weights equal"):
        server(parties, make, max_epochs=1).run(newest_checkpoint("server"))
