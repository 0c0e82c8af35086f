"""Tasks by the names that settings call them."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

from lit_dist.tasks.classification import Classification
from lit_dist.tasks.multilabel import MultiLabel
from lit_dist.tasks.ordinal import OrdinalGrades
from lit_dist.tasks.regression import Regression
from lit_dist.tasks.survival import Survival
from lit_dist.tasks.task import Task
from lit_dist.utils.errors import InputError
from lit_dist.utils.setting_checks import check_choice

TaskName = Literal["classification", "ordinal", "multilabel", "regression", "survival"]

_OF_CLASSES: dict[str, type[Classification] | type[MultiLabel]] = {
    "classification": Classification,
    "ordinal": OrdinalGrades,
    "multilabel": MultiLabel,
}
_OF_ONE: dict[str, type[Regression] | type[Survival]] = {"regression": Regression, "survival": Survival}


def named_task(name: str, classes: Sequence[str] | int | None = None) -> Task:
    """Make the task of a name.

    Args:
        name: One of ``TaskName``.
        classes: The classes, grades or findings, or their number; None where the task has none.

    Raises:
        InputError: If there is no such task, or the number of classes does not fit it.

    Example:
        >>> str(named_task("ordinal", 5)), named_task("regression").outputs
        ('ordinal of 5 grades', 1)
    """
    check_choice(get_args(TaskName), task=name)
    if name in _OF_ONE:
        return _OF_ONE[name]()
    if classes is None:
        raise InputError(f"task={name} takes classes: give the data their names (classes), and the model their number"
                         " (num_classes)")  # fmt: skip
    number = classes if isinstance(classes, int) else len(classes or ())
    least = 1 if name == "multilabel" else 2
    if number < least:
        raise InputError(f"num_classes={number} is not at least {least}, which task={name} takes")
    return _OF_CLASSES[name](classes if isinstance(classes, int) else list(classes or ()))


def described(task: Task) -> dict[str, Any] | None:
    """What ``named_task`` makes a task of again, as JSON values; None of a task of the user's own.

    Example:
        >>> described(named_task("ordinal", ["none", "mild", "severe"]))
        {'task': 'ordinal', 'classes': ['none', 'mild', 'severe']}
    """
    if type(task) not in (*_OF_CLASSES.values(), *_OF_ONE.values()):
        return None
    return {"task": task.name, "classes": getattr(task, "class_names", None)}


def task_described(values: Any) -> Task | None:
    """The task that ``described`` has described; None where it was the user's own.

    Raises:
        InputError: If the values are not such.
    """
    if values is None:
        return None
    name, classes = (values.get(key) for key in ("task", "classes")) if isinstance(values, dict) else (None, None)
    texts = isinstance(classes, list) and all(isinstance(each, str) for each in classes)
    if not isinstance(name, str) or not (classes is None or texts):
        raise InputError(f"{values!r} describes no task")
    return named_task(name, classes)
