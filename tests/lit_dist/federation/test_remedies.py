"""Each remedy, and all at once: simulated, resumed after a kill, and federated are one run, bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from lit_dist import InputError
from lit_dist.callbacks import (
    EWC,
    CyclicalWeightTransfer,
    FederatedAveraging,
    FedProx,
    FixBN,
    LocalBatchNorm,
    SingleWeightTransfer,
    SiteStatistics,
    VisitAveraging,
    WeightTransfer,
)
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.checkpoints.run_folder import newest_checkpoint
from lit_dist.models.norm_statistics import norm_tensors
from lit_dist.provenance.ledger import iter_lines
from scaffold import Scaffold
from small_federation import SITES, engine, federated, kill_at, module, server, simulate

REMEDIES: dict[str, list[Callable[[], Callback]]] = {
    "EWC": [lambda: EWC(weight=1000, images=4)],
    "LocalBatchNorm": [lambda: VisitAveraging(), lambda: LocalBatchNorm(affine=True, images=8)],
    "all": [
        lambda: EWC(weight=1000, images=4),
        lambda: FedProx(mu=0.1),
        FixBN,
        Scaffold,
        lambda: SiteStatistics(images=4),
        VisitAveraging,
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("EWC", marks=pytest.mark.long), "LocalBatchNorm", "all"])
def test_simulated_equals_resumed_equals_federated(name: str) -> None:
    def make() -> CyclicalWeightTransfer:
        return CyclicalWeightTransfer(every_n_epochs=1, validation="cycle")

    def remedies() -> list[Callback]:
        return [each() for each in REMEDIES[name]]

    simulated = simulate(make, *remedies(), max_epochs=6)
    parties = engine(make, *REMEDIES[name], max_epochs=6)
    kill_at(parties, 4)
    with pytest.raises(KeyboardInterrupt):
        server(parties, make, *remedies(), max_epochs=6).run()
    run = server(parties, make, *remedies(), max_epochs=6)
    run.run(newest_checkpoint("server"))
    facts = [
        [(each.sha256_in, each.sha256_out, each.bytes, each.settings) for each in entries]
        for entries in (simulated, federated())
    ]
    assert facts[0] == facts[1]
    losses = [[each.metrics.get("val_loss") for each in entries] for entries in (simulated, federated())]
    assert losses[0] == losses[1]
    assert None not in losses[0][2::3]
    beside = fingerprint(module().state_dict())[1] * 0.9  # information or an average, as large as the weights
    assert simulated[0].bytes > fingerprint(module().state_dict())[1] + beside


@pytest.mark.slow
def test_what_acts_at_the_end_of_a_visit_is_refused_where_a_server_ends_it() -> None:
    def make() -> SingleWeightTransfer:
        return SingleWeightTransfer(patience=1, max_epochs_per_site=1)

    for remedy, hook in ((EWC, "on_visit_end"), (FixBN, "on_cycle_end"), (Scaffold, "on_visit_end")):
        with pytest.raises(InputError, match=f"{remedy.__name__} acts in {hook}"):
            server(engine(make), make, remedy())
    simulated = simulate(make, FedProx(mu=1), max_epochs=3)
    server(engine(make, lambda: FedProx(mu=1), max_epochs=3), make, FedProx(mu=1), max_epochs=3).run()
    assert [each.sha256_out for each in federated()] == [each.sha256_out for each in simulated]


@pytest.mark.parametrize(
    ("transfer", "settings", "said"),
    [
        (lambda: SingleWeightTransfer(patience=1, max_epochs_per_site=1), {}, "ends? a visit|validates within visits"),
        (lambda: CyclicalWeightTransfer(every_n_epochs=2), {}, "validates within visits"),
        (lambda: CyclicalWeightTransfer(every_n_steps=2), {"val_check_interval": 0.5}, "validates within visits"),
        (lambda: CyclicalWeightTransfer(every_n_epochs=4, validation="cycle"), {}, "ends within a visit of 4 epochs"),
    ],
)
def test_what_would_show_the_server_a_sites_own_layers_is_refused(
    transfer: Callable[[], WeightTransfer], settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        server(engine(transfer), transfer, LocalBatchNorm(), **settings)


def test_a_site_does_not_give_its_layers_away_whatever_the_server_asks() -> None:
    def make() -> CyclicalWeightTransfer:
        return CyclicalWeightTransfer(every_n_epochs=2)

    parties = engine(make, LocalBatchNorm)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lit_dist.federation.server.refuse_local_within_visits", lambda *_: None)
        with pytest.raises(InputError, match=r"'site-.' refuses: the visit would leave within it"):
            server(parties, make, LocalBatchNorm()).run()


@pytest.mark.slow
def test_averaging_leaves_batch_normalisation_at_the_sites_and_a_checkpoint_goes_with_it() -> None:
    def make() -> FederatedAveraging:
        return FederatedAveraging(every_n_epochs=1)

    simulate(make, LocalBatchNorm(affine=True))
    parties = engine(make, lambda: LocalBatchNorm(affine=True))
    run = server(parties, make, LocalBatchNorm(affine=True))
    run.run()
    found = [[*iter_lines(Path(folder, "ledger.jsonl"))] for folder in ("simulated", "server")]
    losses = [f"val_loss/{site}" for site in SITES]
    facts = [[(each.sha256_out, *map(each.metrics.get, losses)) for each in lines] for lines in found]
    assert facts[0] == facts[1]
    assert None not in facts[0][-1]
    began, names = module().state_dict(), norm_tensors(module(), affine=True)
    assert all(torch.equal(run.module.state_dict()[name], began[name]) for name in names), "none of them has travelled"
    stay = max(Path("site-2/stays").glob("*/*.stay"))
    own = LocalBatchNorm.own_of(stay)
    assert own.keys() == names.keys()
    assert not any(torch.equal(own[name], began[name]) for name in names)
    with pytest.raises(InputError, match="without LocalBatchNorm"):
        LocalBatchNorm.own_of(next(Path("server").glob("**/*.ckpt")))
