"""EnsembleServer: each site trains a model alone, and every site judges all of them and their mean prediction."""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import torch
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from lit_dist.checkpoints.baton import fingerprint, read_checkpoint, write_checkpoint
from lit_dist.checkpoints.run_folder import CHECKPOINTS, checkpoint_path, run_folder
from lit_dist.federation.ensemble_client import ENSEMBLE, SPLITS
from lit_dist.federation.pooled_validation import SiteValues, pooled
from lit_dist.federation.roster import Roster
from lit_dist.federation.validate_answer import check_losses, check_member, check_validated, refused
from lit_dist.federation.wire import Tree
from lit_dist.tasks.found import task_of
from lit_dist.tasks.task import Task
from lit_dist.utils.terminal_table import print_table

TABLE = "cross_site.csv"
ALL = "all sites"


class EnsembleServer:
    """Collects the models of all sites, and how well each performs at each.

    It leaves each site's model as ``checkpoints/<site>.ckpt``, of which ``SiteEnsemble`` makes the ensemble, and
    ``cross_site.csv``: a row a model, site and split, with the model's SHA-256, the number of images, and the metrics
    that the site lets out. Of all sites together there are those that follow from each site's.

    Args:
        roster: The sites.
        trainer: The trainer, of which the loggers and the folder are used.
        module: The module, with the weights that every model begins with.
    """

    def __init__(self, roster: Roster, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.roster = roster
        self.trainer = trainer
        self.module = module

    def run(self, checkpoint: str | Path | None = None) -> None:
        """Make the run, or resume it from a checkpoint.

        Raises:
            InputError: If the sites differ in settings or programs, a site does not answer, or its answer is wrong.
        """
        folder = run_folder(self.trainer)
        self.roster.greet(folder)
        self.roster.agree({})
        state = self._begin(folder) if checkpoint is None else read_checkpoint(checkpoint)
        answers = self.roster.ask("fit", {"run": state["run"], "state_dict": state["state_dict"]})
        members = {site: check_member(site, state["state_dict"], answer) for site, answer in answers.items()}
        for site, weights in members.items():
            kept = {"state_dict": weights, "hyper_parameters": dict(self.module.hparams)}
            write_checkpoint(kept, folder / CHECKPOINTS / f"{site}.ckpt")
            rank_zero_info(f"Site {site} has trained its model: {fingerprint(weights)[0]}")
        self._judge(folder, members)
        self._hashes = {site: fingerprint(weights)[0] for site, weights in members.items()}

    def summary(self) -> list[str]:
        """What the run has come to, as lines."""
        models = [f"SHA-256 of the model of {site}: {sha256}" for site, sha256 in self._hashes.items()]
        return [*models, f"How each model performs at each site: {run_folder(self.trainer) / TABLE}"]

    def _begin(self, folder: Path) -> Tree:
        """Keep what a run that is resumed needs: its id, by which the sites know their part, and the weights."""
        csv = [0 for logger in self.trainer.loggers if isinstance(logger, CSVLogger)]
        wandb = [logger.version for logger in self.trainer.loggers if isinstance(logger, WandbLogger)]
        weights = self.module.state_dict()
        state = {"run": uuid.uuid4().hex, "state_dict": weights, "logs": {"rows": csv, "wandb": wandb}}
        write_checkpoint(state, checkpoint_path(folder, 0))
        self.roster.keep(folder)
        return state

    def _judge(self, folder: Path, members: Mapping[str, Tree]) -> None:
        answers = self.roster.ask("judge", {"members": dict(members)})
        if self.roster.missing:
            rank_zero_warn(f"the ensemble and its evaluation lack {', '.join(self.roster.missing)}")
        hashes = {name: fingerprint(weights)[0] for name, weights in members.items()}
        task = task_of(self.module)
        rows: list[dict[str, Any]] = []
        for model in [*members, ENSEMBLE]:
            for split in SPLITS:
                sites = self.roster.sites
                found = {site: _found(site, answer, model, split, sites, task) for site, answer in answers.items()}
                check_losses(f"the model {model!r}", {site: each.metrics for site, each in found.items()})
                means = pooled(found, task, self.roster.weights)
                rows += _rows(model, hashes.get(model, ""), split, found, means)
        table = pd.DataFrame(rows).dropna(axis="columns", how="all")
        for site in answers:
            if len(table[table["site"] == site][["split", "images"]].drop_duplicates()) > len(SPLITS):
                raise refused(site, "its number of val or test records is not the same for all models")
        table.to_csv(folder / TABLE, index=False)
        self._log(table)
        _show(table, task)

    def _log(self, table: pd.DataFrame) -> None:
        ensemble = table[table["model"] == ENSEMBLE].drop(columns=["model", "sha256", "images"])
        values: dict[str, float] = {}
        for row in ensemble.to_dict("records"):
            site, split = row.pop("site"), row.pop("split")
            end = "" if site == ALL else f"/{site}"
            values |= {f"{split}_{name}{end}": value for name, value in row.items() if pd.notna(value)}
        for logger in self.trainer.loggers:
            logger.log_metrics(values, 0)
            if isinstance(logger, WandbLogger):
                logger.log_table("cross_site", dataframe=table)
            logger.save()


def _found(site: str, answer: Tree, model: str, split: str, sites: list[str], task: Task) -> SiteValues:
    try:
        found = answer[model][split]
        check_validated(site, found, sites, task)
        return SiteValues(**found)
    except (KeyError, TypeError, AttributeError):
        raise refused(site, f"it does not say how {model} performs") from None


def _rows(
    model: str, sha256: str, split: str, found: Mapping[str, SiteValues], pooled: Mapping[str, float]
) -> list[dict[str, Any]]:
    begin = f"{split}_"
    same = {"model": model, "sha256": sha256, "split": split}
    rows: list[dict[str, Any]] = [
        {**same, "site": site, "images": each.images}
        | {name.removeprefix(begin): value for name, value in each.metrics.items() if "/" not in name}
        for site, each in found.items()
    ]
    # Rounded to the last bit as Lightning logs them.
    means = {name: torch.tensor(value).item() for name, value in pooled.items() if "/" not in name}
    together = {name.removeprefix(begin): value for name, value in means.items()}
    return [*rows, {**same, "site": ALL, "images": sum(each.images for each in found.values()), **together}]


def _show(table: pd.DataFrame, task: Task) -> None:
    if task.at_a_site not in table:
        return
    sites, models = table["site"].unique(), table["model"].unique()
    for split in SPLITS:
        matrix = table[table["split"] == split].pivot(index="model", columns="site", values=task.at_a_site)
        rows = [[model, *(f"{matrix.loc[model, site]:.3f}" for site in sites)] for model in models]
        title = task.measures[task.at_a_site].title.capitalize()
        print_table(f"{title} on the {split} records of each site", ["model", *sites], rows)
