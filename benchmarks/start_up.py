"""What it takes until something happens: imports, help, and the first training step, beside Lightning's import.

python benchmarks/start_up.py --repeats 5
"""

import argparse
import json
import sys

import harness
from harness import Facts, Way

LIGHTNING = "import lightning.pytorch"
TORCH = "import torch"
_EMPTY = '\nprint("{}")'  # the facts that the harness wants
_FIRST_STEP = ["--config", "configs/phantom/cyclical.yaml", "--trainer.fast_dev_run", "1", "--data.patients", "120"]


def command(*words: str) -> str:
    """A script that does what ``lit-dist`` does with these words."""
    return (
        f"from lit_dist.cli.main import main\ntry:\n    main({json.dumps(words)})\nexcept SystemExit:\n    pass{_EMPTY}"
    )


SCRIPTS = {
    LIGHTNING: LIGHTNING + _EMPTY,
    TORCH: TORCH + _EMPTY,
    "import lit_dist": f"import lit_dist{_EMPTY}",
    "import lit_dist.callbacks": f"import lit_dist.callbacks{_EMPTY}",
    "lit-dist --version": command("--version"),
    "lit-dist --help": command("--help"),
    "lit-dist verify --help": command("verify", "--help"),
    "lit-dist fit, to the end of one step on phantoms": command("fit", *_FIRST_STEP),
}


def measure(names: list[str], repeats: int) -> dict[str, list[Facts]]:
    """Run the scripts of these names in turns."""
    return harness.in_turns([Way(name, [sys.executable, "-c", SCRIPTS[name]]) for name in names], repeats)


def main() -> None:
    """Run all in turns and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    before = harness.machine()
    found = measure(list(SCRIPTS), options.repeats)
    rows = [["", f"seconds / `{LIGHTNING}`", "memory, MB"]]
    for name, runs in found.items():
        whole = harness.spread(harness.ratios(found, name, LIGHTNING, "whole"))
        rows.append([f"`{name}`", whole, f"{harness.median(runs, 'memory'):.0f}"])
    harness.write("start_up", found, rows, before)


if __name__ == "__main__":
    main()
