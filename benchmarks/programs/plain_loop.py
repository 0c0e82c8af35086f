"""The work by a plain PyTorch loop."""

import time

from programs.work import CYCLES, SITES, make_loader, make_model, make_visit, report

if __name__ == "__main__":
    start = time.perf_counter()
    model = make_model()
    loaders = [make_loader(site) for site in range(SITES)]
    for _ in range(CYCLES):
        for loader in loaders:
            make_visit(model, loader)
    report(model, time.perf_counter() - start)
