"""The callbacks of a heuristic: read as a configuration names them, and looked at together before anything is run."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.model_helpers import is_overridden

from lit_dist.callbacks import SiteEvaluation, SiteStatistics, VisitAveraging, WeightTransfer
from lit_dist.callbacks.fit_checks import check_callbacks
from lit_dist.runs.class_kinds import check_kind
from lit_dist.runs.lightning_cli import SiteParser
from lit_dist.study.plain_settings import plain_settings
from lit_dist.utils.errors import InputError
from lit_dist.utils.mistakes import first_line, root_of
from lit_dist.utils.signatures import imported, parameters
from lit_dist.visits.visit_callback import VisitCallback

_KEYS = {"class_path", "init_args", "dict_kwargs"}


def callback_settings(given: Any, where: str) -> dict[str, Any]:
    """Read a callback's settings: all that its class takes, under the class's whole name.

    A transfer validates after whole cycles, unless it is told otherwise.

    Args:
        given: The name of its class, or ``class_path`` and ``init_args``.
        where: Its place in the configuration.

    Raises:
        InputError: If there is no such callback, or it does not take these settings.
    """
    settings = {"class_path": given} if isinstance(given, str) else given
    if not isinstance(settings, Mapping) or not isinstance(settings.get("class_path"), str):
        raise InputError(f"{where} is {given!r}; give a callback's class_path and init_args, or its class alone")
    if unknown := settings.keys() - _KEYS:
        raise InputError(f"{where} has {min(map(str, unknown))!r} beside class_path; settings stand in init_args")
    if not isinstance(settings.get("init_args", {}), Mapping):
        raise InputError(f"{where}.init_args is {settings['init_args']!r}; give settings by name, or leave it out")
    plain: dict[str, Any] = _parse(settings, where)
    kind = imported(plain["class_path"])
    takes_validation = issubclass(kind, WeightTransfer) and "validation" in parameters(kind)[0]
    if takes_validation and "validation" not in settings.get("init_args", {}):
        plain["init_args"]["validation"] = "cycle"
    make_callbacks([plain], where)
    return plain


def _parser() -> SiteParser:
    parser = SiteParser()
    parser.add_argument("--callback", type=Callback)
    return parser


def _parse(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    try:
        parsed = _parser().parse_object({"callback": dict(settings)})
    except InputError as error:
        text = re.sub(r'Parser key "callback":; (Problem with given class_path .*?:; )?', "", str(error))
        text = re.sub(r"^callback(: | (?=is ))|(?<!\w)callback\.", "", text, count=1)
        raise InputError(f"{where}: {text}") from None
    check_kind(parsed.callback, Callback, where)
    plain: dict[str, Any] = plain_settings(parsed)["callback"]
    return {**plain, "init_args": plain.get("init_args") or {}}


def make_callbacks(settings: Sequence[Mapping[str, Any]], where: str) -> list[Callback]:
    """Make callbacks of the settings that ``callback_settings`` gives.

    Raises:
        InputError: If a constructor does not take them.
    """
    parser = _parser()
    try:
        return [parser.instantiate_classes(parser.parse_object({"callback": dict(each)})).callback for each in settings]
    except Exception as error:  # whatever a class of the user's raises
        raise InputError(f"{where}: {first_line(root_of(error)) or type(root_of(error)).__name__}") from error


def check_together(
    settings: Sequence[Mapping[str, Any]], shared: Sequence[Mapping[str, Any]], kind: str, own: bool, where: str
) -> None:
    """See that the callbacks of a heuristic can stand beside each other.

    Args:
        settings: The heuristic's own.
        shared: Those of all runs.
        kind: Its kind.
        own: Whether one of its callbacks has to be the transfer; else the study adds one if the kind needs it.
        where: Its place in the configuration.

    Raises:
        InputError: If there are two transfers, or none where one is needed, or two that would share their state.
    """
    callbacks = [*make_callbacks(shared, "trainer.callbacks"), *make_callbacks(settings, where)]
    transfers = [each for each in callbacks if isinstance(each, WeightTransfer)]
    if own and not transfers:
        raise InputError(
            f"{where} has no transfer callback: add one, such as CyclicalWeightTransfer, or say by heuristic: what its"
            " callbacks are added to"
        )
    if len(transfers) > own:
        raise InputError(
            f"{where} has {type(transfers[-1]).__name__} beside the transfer that it has already; leave one out"
            if own or kind.endswith("transfer")
            else f"{where} is {kind}, so no model travels; leave {type(transfers[-1]).__name__} out"
        )
    for each in callbacks if not own and not kind.endswith("transfer") else ():
        if isinstance(each, SiteEvaluation) or _needs_visits(each):
            raise InputError(f"{where} is {kind}, which has no visits, so {type(each).__name__} has no part in it")
    for alone in (SiteStatistics, VisitAveraging):
        if sum(isinstance(each, alone) for each in callbacks) > 1:
            raise InputError(f"{where} has two {alone.__name__}; keep one")
    stateful = [each for each in callbacks if is_overridden("state_dict", each, Callback)]
    keys = [each.state_key for each in stateful]
    for each in stateful:
        if keys.count(each.state_key) > 1:
            raise InputError(f"{where} has two of {type(each).__name__} that a checkpoint could not tell apart")
    if own:
        try:
            check_callbacks(callbacks, WeightTransfer, transfers[0].every_n_steps is not None)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None


def _needs_visits(callback: Callback) -> bool:
    """Whether it is a ``VisitCallback`` that has not said what it does in a run without visits."""
    return (
        isinstance(callback, VisitCallback)
        and type(callback).on_train_epoch_start is VisitCallback.on_train_epoch_start
    )
