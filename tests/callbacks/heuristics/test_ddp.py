"""Two processes on one CPU, as Lightning starts them for a user."""

import csv
import json
import os
import subprocess
import sys
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest

from small import ledger

SCRIPT = """
import json, sys
from pathlib import Path
import torch
from lightning.pytorch.loggers import CSVLogger
from small import SmallData, fit, inputs
from torch.utils.data import DataLoader, TensorDataset
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.callbacks import EWC, CyclicalWeightTransfer, SiteEvaluation, VisitAveraging
from lit_dist.datamodules.sampler import Draw, VisitSampler

class Own(TensorDataset):
    def __getitem__(self, draw: Draw):
        return super().__getitem__(draw.row)

def train(name, settings):
    data = SmallData(settings.pop("sizes"), num_workers=settings.pop("workers"))
    if settings.pop("own_sampler", False):
        data.train_dataloader = lambda: {
            site: DataLoader(Own(inputs(number, size)[:-1]), batch_size=16, sampler=VisitSampler(size * 2 - 1))
            for number, (site, size) in enumerate(zip("abc", data.sizes))
        }
    module = fit(
        CyclicalWeightTransfer(**settings), data=data, max_epochs=6, devices=2, strategy="ddp", sync_batchnorm=False,
        limit_val_batches=0, default_root_dir=name,
    )
    weights = fingerprint(dict(module.named_parameters()))[0]
    found = {"visited": module.visited, "rows": module.rows, "parameters": weights}
    Path(f"{name}/rank{module.trainer.global_rank}.json").write_text(json.dumps(found))

for name, settings in json.loads(sys.argv[1]).items():
    Path(name).mkdir(exist_ok=True)
    train(name, settings)
sys.path.insert(0, sys.argv[2])
import test_site_evaluation
transfer, logger = CyclicalWeightTransfer(every_n_epochs=1), CSVLogger(".", name="evaluated")
test_site_evaluation.fit(
    transfer, SiteEvaluation("visit"), max_epochs=3, devices=2, strategy="ddp", logger=logger, limit_val_batches=0
)

class Module(test_site_evaluation.Module):
    def forward(self, points):
        return self.network(points)

ewc, averaging = EWC(images=4), VisitAveraging()
module = test_site_evaluation.fit(
    CyclicalWeightTransfer(every_n_epochs=1), ewc, averaging, module=Module(), max_epochs=3, devices=2,
    strategy="ddp", limit_val_batches=0, default_root_dir="remedies",
)
states = [dict(module.named_parameters()), ewc.travelling["fisher"], averaging.travelling["average"]]
hashes = [fingerprint(state)[0] for state in states]
Path(f"rank{module.trainer.global_rank}.json").write_text(json.dumps(hashes))
torch.distributed.destroy_process_group()  # else gloo's threads may abort the process at its end
"""
SETTINGS: dict[str, dict[str, Any]] = {
    "by epochs": {"sizes": [4, 6, 2], "every_n_epochs": 1, "workers": 0},
    "by epochs, workers": {"sizes": [4, 6, 2], "every_n_epochs": 1, "workers": 2},
    "by steps": {"sizes": [4, 6, 2], "every_n_steps": 2, "workers": 0},
    "own sampler": {"sizes": [4, 6, 3], "every_n_epochs": 1, "workers": 0, "own_sampler": True},
}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What each rank of each fit has found; one pair of processes makes them all."""
    folder = tmp_path_factory.mktemp("ddp")
    tests = Path(__file__).parents[2]
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-W", "ignore", "script.py", json.dumps(SETTINGS), str(tests / "callbacks")]
    search = os.pathsep.join([str(tests / "helpers"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": search}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert (folder / "rank0.json").exists(), done.stderr[-3000:]
    return folder


def ranks(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


def test_what_travels_is_the_same_in_both(folder: Path) -> None:
    """Also where it was made of running statistics, of which each process has its own until the next step."""
    both = ranks(folder)
    assert both[0] == both[1]
    assert len(set(both[0])) == 3


@pytest.mark.parametrize(
    ("name", "visited"),
    [("by epochs", "aabbbc" * 2), ("by epochs, workers", "aabbbc" * 2), ("by steps", "aabbcc" * 6)],
)
def test_two_processes_share_every_visit(name: str, visited: str, folder: Path) -> None:
    both = ranks(folder / name)
    lines = ledger(folder / name)
    assert both[0]["visited"] == both[1]["visited"] == visited
    assert both[0]["parameters"] == both[1]["parameters"]
    if "every_n_epochs" in SETTINGS[name]:
        drawn = [(rank["rows"][:4], rank["rows"][4:10], rank["rows"][10:12]) for rank in both]
        for first, second, rows in zip(*drawn, (8, 12, 4), strict=True):
            assert sorted(first + second) == list(range(rows)), "no image twice, none left out"
        assert [line["images"] for line in lines] == [8, 12, 4] * 2
    assert all(line["sha256_out"] == following["sha256_in"] for line, following in pairwise(lines))


def test_our_sampler_draws_no_image_twice_of_an_odd_number(folder: Path) -> None:
    rows = [rank["rows"][: len(rank["rows"]) // 2] for rank in ranks(folder / "own sampler")]
    assert [len(mine) for mine in rows] == [3 + 5 + 2] * 2
    for start, end, count in ((0, 3, 7), (3, 8, 11), (8, 10, 5)):
        drawn = rows[0][start:end] + rows[1][start:end]
        assert len(set(drawn)) == len(drawn) == count - 1


def test_two_processes_leave_one_matrix_of_sites(folder: Path) -> None:
    with (folder / "evaluated/version_0/site_matrix.csv").open(newline="") as file:
        assert [(row["visited"], row["site"]) for row in csv.DictReader(file)] == [*product("abc", "abc")]
