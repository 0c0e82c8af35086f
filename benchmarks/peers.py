"""One run of cyclical weight transfer by lit_dist, by what a user would take instead, and by a plain loop.

    python benchmarks/peers.py --repeats 5 --flare PYTHON --flower PYTHON

Four sites, twelve visits, 156 steps of a network of 2.8 million parameters on images of 64 pixels; each program ends
with the same weights, to the last bit. NVIDIA FLARE and Flower are left out if no interpreter is given that has
them (``pip install torch torchvision "nvflare>=2.9,<3"``; ``pip install torch torchvision "flwr[simulation]"``).
"""

import argparse
import sys
from pathlib import Path

import harness
from harness import Way

LOOP, LIGHTNING, OURS = "plain PyTorch loop", "plain Lightning", "lit_dist"
_QUIET = {  # of their own accord both send reports of their use
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def ways(flare: str | None, flower: str | None) -> list[Way]:
    """The programs."""
    folder = Path(__file__).parent / "programs"
    own = {LOOP: "plain_loop", LIGHTNING: "plain_lightning", OURS: "by_lit_dist"}
    found = [Way(name, [sys.executable, str(folder / f"{file}.py")]) for name, file in own.items()]
    if flower:
        found.append(Way("Flower, simulation", [flower, str(folder / "flower.py")], _QUIET))
    if flare:
        found.append(Way("NVIDIA FLARE, simulator", [flare, str(folder / "flare.py")]))
    return found


def main() -> None:
    """Run all in turns and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--flare", help="a Python that has nvflare")
    parser.add_argument("--flower", help="a Python that has flwr[simulation]")
    options = parser.parse_args()
    before = harness.machine()
    found = harness.in_turns(ways(options.flare, options.flower), options.repeats)
    hashes = {run["sha256"] for runs in found.values() for run in runs}
    if len(hashes) != 1:
        raise SystemExit(f"they did not do the same work: the final weights have the SHA-256 {sorted(hashes)}")
    rows = [
        ["", "whole process / the loop's", "training / plain Lightning's", "peak memory / the loop's", "memory, MB"]
    ]
    for name, runs in found.items():
        whole, memory = (harness.ratios(found, name, LOOP, fact) for fact in ("whole", "memory"))
        fit = harness.spread(harness.ratios(found, name, LIGHTNING, "fit")) if name in (LIGHTNING, OURS) else ""
        megabytes = f"{harness.median(runs, 'memory'):.0f}"
        rows.append([name, harness.spread(whole), fit, harness.spread(memory), megabytes])
    harness.write("peers", found, rows, before, f"All ended with the weights of SHA-256 `{hashes.pop()[:16]}...`.")


if __name__ == "__main__":
    main()
