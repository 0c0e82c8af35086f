"""The task of a module or of a datamodule, whoever wrote it."""

from typing import Any

from lit_dist.tasks.classification import Classification
from lit_dist.tasks.task import Task


def own_task(module: Any) -> Task | None:
    """The task of a module; None of one that does not say."""
    task = getattr(module, "task", None)
    return task if isinstance(task, Task) else None


def task_of(module: Any) -> Task:
    """The task of a module; of one that does not say, that it classifies."""
    return own_task(module) or Classification()


def task_of_data(data: Any) -> Task:
    """What is predicted of a datamodule's records; of one that does not say, one of its classes."""
    task = getattr(data, "learning_task", None)
    return task if isinstance(task, Task) else Classification(getattr(data, "num_classes", 2))
