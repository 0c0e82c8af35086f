"""The help of ``fit``, ``validate``, ``test`` and ``predict``: what is lit_dist's own first, and where the rest is.

It is written here, and not asked of the parser, so that it comes at once: the parser imports torch and Lightning.
"""

from lit_dist.cli.overview import COMMANDS

_PAGE = """\
usage: lit-dist {command} --config FILE [--SETTING VALUE ...]

{purpose}

  --config FILE            a configuration; such as configs/phantom/cyclical.yaml come with lit_dist
  --print_config           print all settings as a configuration, and run nothing
  --seed_everything SEED   the seed of all that is random (0)
{own}
the network:
  --model CLASS            ImageClassifier, ImagePredictor, TabularPredictor, SiteEnsemble, or a class of yours
  --model.SETTING VALUE    one of its settings, such as --model.backbone resnet34
  --model.help CLASS       its settings

the data:
  --data CLASS             FundusDataModule, MammographyDataModule, ImageNetDataModule, ImageTableDataModule,
                           TabularDataModule, FrozenEncoder, PhantomDataModule, or a class of yours
  --data.SETTING VALUE     one of its settings, such as --data.root FOLDER, --data.sites 4, --data.batch_size 32
  --data.help CLASS        its settings

heuristics and remedies, which are callbacks of the trainer; an option goes to the last one that was named:
  --trainer.callbacks+ CLASS
      a heuristic:         CyclicalWeightTransfer, SingleWeightTransfer, FederatedAveraging, DaisyChaining
      a remedy:            FedProx, EWC, FixBN, LocalBatchNorm
      to judge with:       SiteEvaluation, SiteStatistics, SiteValidation, VisitAveraging
      to keep with:        PredictionWriter, WandbArtifacts
  --trainer.callbacks.SETTING VALUE
                           such as --trainer.callbacks.every_n_epochs 2
  --trainer.callbacks.help CLASS
                           its settings

the trainer:
  --trainer.max_epochs N   the length of the run
  --trainer.accelerator, --trainer.devices
                           auto, cpu, gpu; how many
  --trainer.precision, --trainer.gradient_clip_val, --trainer.accumulate_grad_batches
                           as in Lightning
  --trainer.logger+ CLASS  CSVLogger, WandbLogger, TensorBoardLogger
  --trainer.enable_progress_bar false
                           no bar

  lit-dist {command} --help-all   every setting of Lightning's trainer, too
"""

_OWN = {
    "fit": """\
  --resume                 continue the newest run, if there is one
  --checkpoint.keep N, --checkpoint.every_n_steps N
                           how many states of the run are kept (2), and how often besides after every visit
""",
    "predict": "  --ckpt_path FILE         the trained model\n\n"
    "New images, or new records of a table, take a run's folder alone: lit-dist predict RUN --help\n",
}


def fit_help(command: str) -> str:
    """The help of one of Lightning's commands."""
    purpose = COMMANDS[command]
    own = _OWN.get(command, "  --ckpt_path FILE         the trained model\n")
    return _PAGE.format(command=command, purpose=f"{purpose[0].upper()}{purpose[1:]}.", own=own).rstrip()
