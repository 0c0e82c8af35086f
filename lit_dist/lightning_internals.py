"""The only places that touch private parts of Lightning, each with its reason.

``tests/lit_dist/test_lightning_internals.py`` notices when Lightning changes them.
"""

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping


def train_source(trainer: Trainer) -> object:
    """The object that a fit takes its training loader from: a datamodule, a module, or what was passed to ``fit``.

    Lightning has no public name for it, and it must be known before the first epoch.
    """
    return trainer.fit_loop._data_source.instance


def check_early_stopping_after_validation(trainer: Trainer) -> None:
    """Make early stopping look at its metric after validation only.

    Lightning decides in ``EarlyStopping.setup``, from how often the trainer validates. A callback that changes this in
    its own ``setup`` may come later, and early stopping would then miss its metric in the first epoch.
    """
    for callback in trainer.early_stopping_callbacks:
        if isinstance(callback, EarlyStopping):
            callback._check_on_train_epoch_end = False
