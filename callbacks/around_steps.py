"""AroundSteps: a callback that has something in place while a batch is judged, and at no other time."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NoReturn

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from lit_dist.utils.errors import InputError
from lit_dist.utils.method_patch import MethodPatch, patched


class AroundSteps(Callback):
    """Wraps the steps of an evaluation, so that no hook and no checkpoint sees what is in place within them."""

    _patch: MethodPatch | None = None

    def wrap(self, module: LightningModule, step: str, context: Callable[[], AbstractContextManager[Any]]) -> None:
        """Enter a context around each call of a module's step, until the evaluation ends; a later wrap is outside."""
        self.lift()
        original = getattr(module, step)
        name = type(self).__name__

        def refuse(*_: Any, **__: Any) -> NoReturn:
            raise InputError(
                f"{type(module).__name__} saves a checkpoint in its {step}, which would hold what {name} has put in"
                f" the place of its own weights or statistics there; save it after the step, in a hook"
            )

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with context(), patched(module.trainer, save_checkpoint=refuse):
                return original(*args, **kwargs)

        self._patch = MethodPatch(module, step, wrapped)

    def lift(self) -> None:
        """Leave the module as it was."""
        if self._patch is not None:
            self._patch.lift()
            self._patch = None

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.lift()

    @override
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.lift()

    @override
    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.lift()

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.lift()
