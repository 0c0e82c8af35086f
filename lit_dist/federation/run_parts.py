"""RunParts: the module, the callbacks and the trainer that a run's settings name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, StochasticWeightAveraging, WeightAveraging

from lit_dist.federation.class_list import ClassList
from lit_dist.federation.network_size import make_limited
from lit_dist.federation.policy import OF_RUN, without_own
from lit_dist.federation.site_settings import Settings
from lit_dist.federation.typed_settings import Make, TypedSettings
from lit_dist.runs.make_trainer import as_list, make_trainer
from lit_dist.utils.errors import InputError
from lit_dist.utils.lightning_internals import given_hyperparameters

_QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}


class RunParts:
    """Checks a run's settings, and makes what they name.

    Nothing is made before all is checked. What is made equals what ``lit-dist fit`` makes of the same settings.

    Args:
        run: The settings, which ``check_run`` has accepted.
        classes: The classes that they may name.
        without: Callbacks of which classes are left out.
        place: Gives a callback's settings with the places that it has on this machine.

    Raises:
        Refusal: If a class is not among them, or a value is not of the type that its class declares.
    """

    def __init__(
        self,
        run: Settings,
        classes: ClassList,
        without: tuple[type, ...] = (),
        place: Callable[[Settings], Settings] = dict,
    ) -> None:
        typed = TypedSettings(classes)
        self._run = run
        _, self._module = typed.instance(run["model"], LightningModule, "model")
        given = run["trainer"]
        self._callbacks: list[Make] = []
        for number, each in enumerate(as_list(given.get("callbacks"))):
            where = f"trainer.callbacks[{number}]"
            kind, _ = typed.instance(each, Callback, where)
            if issubclass(kind, WeightAveraging | StochasticWeightAveraging):
                raise InputError(
                    f"{where} is {kind.__name__}, whose average no site would hand on; leave it out of a federation, or"
                    " train in a simulation"
                )
            if not issubclass(kind, without):
                self._callbacks.append(typed.instance(place(each), Callback, where)[1])
        self._trainer = typed.arguments(without_own(given), Trainer, "trainer")

    def module(self, most: int | None = None) -> LightningModule:
        """Seed all generators, and make the module, of not more than so many weights.

        Its hyperparameters are the settings, as in a fit from YAML.
        """
        return self._seeded_module() if most is None else make_limited(self._seeded_module, most)

    def _seeded_module(self) -> LightningModule:
        seed = self._run.get("seed_everything", 0)
        if seed is not False:
            seed_everything(seed, workers=True)
        model = self._run["model"]
        with given_hyperparameters({"_class_path": model["class_path"], **(model.get("init_args") or {})}):
            module: LightningModule = self._module()
        return module

    def trainer(self, root: Path, at_site: bool = False, **own: Any) -> Trainer:
        """Make the trainer.

        Args:
            root: Its folder.
            at_site: Whether what the server takes of the run is left out, too.
            **own: What is the machine's own among a trainer's arguments.
        """
        names = [name for name in self._trainer if name in OF_RUN or not at_site]
        given = {name: self._trainer[name]() for name in names}
        callbacks = [make() for make in self._callbacks]
        arguments = {**given, **_QUIET, "plugins": None, **own, "default_root_dir": str(root)}
        return make_trainer(Trainer, **arguments, callbacks=callbacks)
