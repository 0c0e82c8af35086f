"""The work by NVIDIA FLARE's simulator and its recipe for cyclical transfer."""

import logging
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
from nvflare.app_opt.pt.recipes.cyclic import CyclicRecipe
from nvflare.client.config import ExchangeFormat
from nvflare.recipe import SimEnv

from programs.work import CLASSES, CYCLES, SITES, make_model, report

if __name__ == "__main__":
    start = time.perf_counter()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pt"  # the recipe would begin with other ones than those of its model
        torch.save(make_model().state_dict(), weights)
        sites = [f"site-{site}" for site in range(SITES)]
        recipe = CyclicRecipe(
            model={"class_path": "lit_dist.models.slim_resnet.slim_resnet18", "args": {"num_classes": CLASSES}},
            initial_ckpt=str(weights),
            num_rounds=CYCLES,
            min_clients=SITES,
            train_script=str(Path(__file__).with_name("flare_site.py")),
            server_expected_format=ExchangeFormat.PYTORCH,
            server_config_overrides={"order": sites},
            task_assignment_timeout=600,
        )
        recipe.execute(SimEnv(clients=sites, num_threads=SITES, workspace_root=f"{folder}/work"))
        (final,) = Path(folder, "work").rglob("FL_global_model.pt")
        model = make_model()
        model.load_state_dict(torch.load(final, weights_only=True)["model"])
        report(model, time.perf_counter() - start)
    sys.stdout.flush()
    os._exit(0)  # the simulator leaves threads
