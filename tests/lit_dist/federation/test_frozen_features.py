"""A federation over frozen features: each site encodes its own images, all by the same weights, and a head travels."""

from pathlib import Path

import lightning.pytorch as pl
import pytest
import safetensors.torch

from lit_dist import TabularPredictor
from lit_dist.callbacks import CyclicalWeightTransfer
from lit_dist.datamodules import FrozenEncoder
from lit_dist.federation.client import Parts
from lit_dist.federation.roster import Roster
from lit_dist.federation.server import Server
from lit_dist.federation.transfer_client import TransferClient
from lit_dist.provenance.ledger import iter_lines
from lit_dist.utils.errors import InputError
from small_encoder import encoder, photographs, weights
from small_federation import InProcess, trainer

SITES = ["site-1", "site-2"]


def module() -> TabularPredictor:
    pl.seed_everything(0, verbose=False)
    return TabularPredictor(num_classes=2, numeric=512, hidden=[])


def cycle() -> CyclicalWeightTransfer:
    return CyclicalWeightTransfer(every_n_epochs=1, validation="cycle")


def server(data: dict[str, FrozenEncoder]) -> tuple[Server, InProcess]:
    clients = {site: TransferClient(site, Parts(trainer(Path(site), cycle()), module(), data[site])) for site in SITES}
    parties = InProcess(clients)
    return Server(Roster(parties, SITES), trainer(Path("server"), cycle()), module()), parties


@pytest.mark.slow
def test_simulated_equals_federated() -> None:
    trainer(Path("simulated"), cycle()).fit(module(), encoder(sites=2, batch_size=8))
    made, _ = server({site: encoder(sites=2, batch_size=8, only_site=site) for site in SITES})
    made.run()
    hashes = [[line.sha256_out for line in iter_lines(Path(each) / "ledger.jsonl")] for each in ("simulated", "server")]
    assert hashes[0] == hashes[1]
    assert len(hashes[0]) > len(SITES)


@pytest.mark.parametrize("what", ["weights", "mean"])
def test_sites_that_encode_by_other_means_do_not_begin(tmp_path: Path, what: str) -> None:
    other = {"mean": {"images": photographs(mean=(0.5, 0.4, 0.4))}}
    if what == "weights":
        changed = {name: value * 1.01 for name, value in weights().items()}
        safetensors.torch.save_file(changed, tmp_path / "other.safetensors")
        other["weights"] = {"weights": tmp_path / "other.safetensors"}
    own = {"site-1": {}, "site-2": other[what]}
    data = {site: encoder(sites=2, only_site=site, **settings) for site, settings in own.items()}
    made, parties = server(data)
    with pytest.raises(InputError, match=r"would not train alike(?s:.*)features"):
        made.run()
    assert "train" not in parties.asked
