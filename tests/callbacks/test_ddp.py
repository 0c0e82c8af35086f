"""Two processes on one CPU, as Lightning starts them for a user."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import json, sys
from pathlib import Path
import lightning.pytorch as pl
import torch
from small import SmallData, fit
from lit_dist.baton import fingerprint
from lit_dist.callbacks import CyclicalWeightTransfer

settings = json.loads(sys.argv[1])
data = SmallData(settings.pop("sizes"), num_workers=settings.pop("workers"))
if settings.pop("own_sampler", False):
    from lit_dist.datamodules.sampler import Draw, VisitSampler
    from torch.utils.data import DataLoader, TensorDataset
    from small import inputs

    class Own(TensorDataset):
        def __getitem__(self, draw: Draw):
            return super().__getitem__(draw.row)

    def train_dataloader():
        return {
            site: DataLoader(Own(inputs(number, size)[:-1]), batch_size=16, sampler=VisitSampler(size * 2 - 1))
            for number, (site, size) in enumerate(zip("abc", data.sizes))
        }

    data.train_dataloader = train_dataloader
module = fit(
    CyclicalWeightTransfer(**settings), data=data, max_epochs=6, devices=2, strategy="ddp", sync_batchnorm=False,
    limit_val_batches=0,
)
rank = module.trainer.global_rank
result = {"visited": module.visited, "rows": module.rows, "parameters": fingerprint(dict(module.named_parameters()))[0]}
Path(f"rank{rank}.json").write_text(json.dumps(result))
torch.distributed.destroy_process_group()  # else gloo's threads may abort the process at its end
"""


def run(tmp_path: Path, **settings: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    helpers = Path(__file__).parents[1] / "helpers"
    environment = {**os.environ, "PYTHONPATH": str(helpers), "OMP_NUM_THREADS": "1"}
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-W", "ignore", "script.py", json.dumps(settings)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert (tmp_path / "rank1.json").exists(), done.stderr[-3000:]
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    return ranks, [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "visited"),
    [
        ({"every_n_epochs": 1, "workers": 2}, "aabbbc" * 2),
        ({"every_n_steps": 2, "workers": 0}, "aabbcc" * 6),
    ],
)
def test_two_processes_share_every_visit(tmp_path: Path, settings: dict[str, Any], visited: str) -> None:
    ranks, lines = run(tmp_path, sizes=[4, 6, 2], **settings)
    assert ranks[0]["visited"] == ranks[1]["visited"] == visited
    assert ranks[0]["parameters"] == ranks[1]["parameters"]
    if "every_n_epochs" in settings:
        drawn = [(rank["rows"][:4], rank["rows"][4:10], rank["rows"][10:12]) for rank in ranks]
        for first, second, rows in zip(*drawn, (8, 12, 4), strict=True):
            assert sorted(first + second) == list(range(rows)), "no image twice, none left out"
        assert [line["images"] for line in lines] == [8, 12, 4] * 2
    assert all(line["sha256_out"] == following["sha256_in"] for line, following in pairwise(lines))


@pytest.mark.slow
def test_our_sampler_draws_no_image_twice_of_an_odd_number(tmp_path: Path) -> None:
    ranks, _ = run(tmp_path, sizes=[4, 6, 3], every_n_epochs=1, workers=0, own_sampler=True)
    rows = [rank["rows"][: len(rank["rows"]) // 2] for rank in ranks]
    assert [len(mine) for mine in rows] == [3 + 5 + 2] * 2
    for start, end, count in ((0, 3, 7), (3, 8, 11), (8, 10, 5)):
        drawn = rows[0][start:end] + rows[1][start:end]
        assert len(set(drawn)) == len(drawn) == count - 1
