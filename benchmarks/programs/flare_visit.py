"""A site of FLARE's own cyclic transfer: trains two steps a visit, and notes when they began and ended."""

import sys
import time
from pathlib import Path

import nvflare.client as flare
import torch
from torch.nn.functional import cross_entropy

from lit_dist.models.backbones import build_backbone

if __name__ == "__main__":
    backbone, size, folder, batch = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    flare.init()
    model = build_backbone(backbone, 2, **({"image_size": size} if backbone.startswith("vit") else {}))
    images, labels = torch.randn(batch, 3, size, size), torch.randint(2, (batch,))
    while flare.is_running():
        received = flare.receive()
        if received is None:
            break
        model.load_state_dict(received.params)
        start = time.time()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(2):
            optimizer.zero_grad()
            cross_entropy(model(images), labels).backward()
            optimizer.step()
        with (folder / "visits.txt").open("a") as file:
            file.write(f"{start} {time.time()}\n")
        flare.send(flare.FLModel(params=model.state_dict()))
