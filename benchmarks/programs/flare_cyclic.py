"""FLARE's own cyclic transfer over two sites: a server and sites as processes of their own, on this machine."""

import itertools
import json
import os
import sys
import tempfile
from pathlib import Path

import torch
from nvflare.app_opt.pt.recipes.cyclic import CyclicRecipe
from nvflare.client.config import ExchangeFormat
from nvflare.recipe import PocEnv

from lit_dist.models.backbones import build_backbone

SITES = ["site-1", "site-2"]

if __name__ == "__main__":
    backbone, size, cycles, batch = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    own = {"image_size": int(size)} if backbone.startswith("vit") else {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NVFLARE_POC_WORKSPACE"] = f"{folder}/poc"
        weights = Path(folder) / "weights.pt"
        torch.save(build_backbone(backbone, 2, **own).state_dict(), weights)
        environment = PocEnv(clients=SITES)
        recipe = CyclicRecipe(
            model={
                "class_path": "lit_dist.models.backbones.build_backbone",
                "args": {"name": backbone, "num_classes": 2, **own},
            },
            initial_ckpt=str(weights),
            num_rounds=cycles,
            min_clients=2,
            train_script=str(Path(__file__).with_name("flare_visit.py")),
            train_args=f"{backbone} {size} {folder} {batch}",
            server_expected_format=ExchangeFormat.PYTORCH,
            server_config_overrides={"order": SITES},
            task_assignment_timeout=3600,
        )
        try:
            recipe.execute(environment).get_result(timeout=3600)
        finally:
            environment.stop()
        lines = (Path(folder) / "visits.txt").read_text().splitlines()
    visits = [[float(word) for word in line.split()] for line in lines]
    gaps = [later[0] - earlier[1] for earlier, later in itertools.pairwise(visits)]
    print(json.dumps({"gaps": gaps}))
    sys.stdout.flush()
    os._exit(0)  # FLARE leaves threads
