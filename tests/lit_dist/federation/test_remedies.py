"""Each remedy, and all at once: simulated, resumed after a kill, and federated are one run, bit for bit."""

from collections.abc import Callable

import pytest
from lightning.pytorch.callbacks import Callback

from lit_dist import InputError
from lit_dist.callbacks import (
    EWC,
    CyclicalWeightTransfer,
    FedProx,
    FixBN,
    SingleWeightTransfer,
    SiteStatistics,
    VisitAveraging,
)
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.checkpoints.run_folder import newest_checkpoint
from scaffold import Scaffold
from small_federation import engine, federated, kill_at, module, server, simulate

REMEDIES: dict[str, list[Callable[[], Callback]]] = {
    "EWC": [lambda: EWC(weight=1000, images=4)],
    "all": [
        lambda: EWC(weight=1000, images=4),
        lambda: FedProx(mu=0.1),
        FixBN,
        Scaffold,
        lambda: SiteStatistics(images=4),
        VisitAveraging,
    ],
}


@pytest.mark.parametrize("name", REMEDIES)
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
    assert (
        simulated[0].bytes > 1.9 * fingerprint(module().state_dict())[1]
    )  # the information is as large as the weights


def test_what_acts_at_the_end_of_a_visit_is_refused_where_a_server_ends_it() -> None:
    def make() -> SingleWeightTransfer:
        return SingleWeightTransfer(patience=1, max_epochs_per_site=1)

    for remedy, hook in ((EWC, "on_visit_end"), (FixBN, "on_cycle_end"), (Scaffold, "on_visit_end")):
        with pytest.raises(InputError, match=f"{remedy.__name__} acts in {hook}"):
            server(engine(make), make, remedy())
    simulated = simulate(make, FedProx(mu=1), max_epochs=3)
    server(engine(make, lambda: FedProx(mu=1), max_epochs=3), make, FedProx(mu=1), max_epochs=3).run()
    assert [each.sha256_out for each in federated()] == [each.sha256_out for each in simulated]
