"""Draws the pictures of docs/wandb.md from offline runs: what their files hold, as W&B's own pages would show it.

WANDB_MODE=offline lit-dist compare --config configs/phantom/compare.yaml --output study --wandb.project hospitals \
    --heuristics "[central, cyclical_weight_transfer]" --every_n_epochs "[1, 4]" --seeds 0,1 --passes 12 \
    --trainer.log_every_n_steps 2
PYTHONPATH=tests/helpers python tools/draw_tracking.py study docs/assets
"""

import sys
from pathlib import Path
from typing import Any

import wandb_reader
from matplotlib import pyplot as plt

COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7"]


def main(study: Path, folder: Path) -> None:
    """Read every run of a study back, and draw its curves."""
    paths = sorted(study.glob("runs/*/wandb/offline-run-*/*.wandb"))
    runs = {path.parents[2].name: (wandb_reader.config(path), wandb_reader.history(path)) for path in paths}
    draw_groups(runs, folder / "wandb_heuristics.png")
    name = next(name for name in runs if name.startswith("cyclical") and "every_04" in name)
    draw_visits(*runs[name], folder / "wandb_visits.png")


def draw_groups(runs: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]], path: Path) -> None:
    """The validation of all runs, one colour a heuristic: W&B's chart of val_auroc, grouped by job_type."""
    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    kinds: dict[str, str] = {}
    for name, (_, rows) in runs.items():
        kind = name.partition("-seed_")[0]
        colour = kinds.setdefault(kind, COLOURS[len(kinds)])
        points = [(row["trainer/global_step"], row["val_auroc"]) for row in rows if "val_auroc" in row]
        label = kind if len([each for each in axes.lines if each.get_color() == colour]) == 0 else None
        axes.plot(*zip(*points, strict=True), color=colour, marker=".", label=label)
    axes.set(xlabel="trainer/global_step", ylabel="val_auroc")
    axes.legend(fontsize=8)
    save(figure, path)


def draw_visits(config: dict[str, Any], rows: list[dict[str, Any]], path: Path) -> None:
    """A run's loss, coloured by the site of the visit, and how well it does at each site."""
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(7, 5), layout="constrained")
    training = [row for row in rows if "train_loss" in row]
    sites = config["sites"]
    for number, (place, site) in enumerate(sites.items()):
        points = [(row["trainer/global_step"], row["train_loss"]) for row in training if row["site"] == int(place)]
        above.scatter(*zip(*points, strict=True), s=8, color=COLOURS[number], label=site)
        key = f"val_auroc/{site}"
        points = [(row["trainer/global_step"], row[key]) for row in rows if key in row]
        below.plot(*zip(*points, strict=True), color=COLOURS[number], marker=".", label=key)
    above.set(ylabel="train_loss, by `site`")
    below.set(xlabel="trainer/global_step", ylabel="AUROC at each site")
    above.legend(fontsize=8, ncols=4)
    below.legend(fontsize=8, ncols=2)
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    """Write a picture, small enough for a page."""
    figure.savefig(path, dpi=110)
    print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
