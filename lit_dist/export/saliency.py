"""Where the models of a study look: Grad-CAM of the test records that they are surest of, right ones and wrong ones."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from lit_dist.datamodules.frozen_encoder import FrozenEncoder
from lit_dist.datamodules.images.datamodule import ImageDataModule
from lit_dist.export.grad_cam import grad_cam, last_layer
from lit_dist.export.trained_study_run import load_study_run
from lit_dist.models.norm_statistics import norm_tensors
from lit_dist.report.main_heuristics import best_of
from lit_dist.report.shown_maps import Case, Maps
from lit_dist.report.summary import baseline, groups
from lit_dist.report.tables import Tables
from lit_dist.runs.new_predictions import image_data
from lit_dist.runs.site_layers import site_layers
from lit_dist.runs.trained import TrainedRun
from lit_dist.study.execute import FIT, PREDICTIONS, read_predictions
from lit_dist.study.heuristics import OWN
from lit_dist.study.run import run_path
from lit_dist.tasks.classification import Classification
from lit_dist.tasks.multilabel import MultiLabel
from lit_dist.tasks.task import Task, called
from lit_dist.utils.errors import InputError
from lit_dist.utils.extras import MissingExtraError
from lit_dist.utils.quiet_lightning import quiet_lightning

_TRANSFERS = ("single_weight_transfer", "cyclical_weight_transfer")
_NEAR = 0.01
"""By how much chances may differ that another machine, or its precision, computes anew."""


def where_models_look(tables: Tables, number: int) -> Iterator[Maps]:
    """Look at central, at the best transfer, and at the best heuristic of other callbacks, such as federated averaging.

    Of each, it is the model of the first seed, and of several sites that were held out, of the first one.

    Args:
        tables: Those of the study.
        number: The greatest number of right records, and of wrong ones.

    Yields:
        The maps of a model, or a sentence that says why there are none; none is shown of a model that does not repeat
        its saved predictions.
    """
    for label, run in _models(tables):
        where = f"seed {run['seed']}" + (f", tested at {run['held_out']}" if isinstance(run["held_out"], str) else "")
        try:
            yield Maps(label, where, *_looked(tables, run, number))
        except (InputError, MissingExtraError, OSError) as error:
            print(f"No Grad-CAM of {label}: {error}")  # a page for others holds no paths and names of files
            yield Maps(label, where, "Its weights or its images could not be read here; the command has said why.")


def _models(tables: Tables) -> Iterator[tuple[str, dict[str, Any]]]:
    runs = groups(tables.results)
    kinds = {label: str(own["kind"].iloc[0]) for label, own in runs.items()}
    transfers, others = (
        best_of([label for label, kind in kinds.items() if kind in wanted], tables.summary, tables.task)
        for wanted in (_TRANSFERS, (OWN,))
    )
    for label in (baseline(runs), transfers, others):
        if label is not None:
            yield label, {str(name): value for name, value in runs[label].sort_values("seed").iloc[0].items()}


def _looked(tables: Tables, run: dict[str, Any], number: int) -> tuple[str, list[Case]]:
    """A sentence on the maps, and the cases; none of a model that there can be no maps of."""
    task, folder = tables.task, run_path(tables.study, run["run"])
    if not isinstance(task, Classification | MultiLabel):
        return f"No Grad-CAM: it is made for classes and findings, and this is a {task}.", []
    with quiet_lightning():
        trained = load_study_run(folder)
    if isinstance(trained.data, FrozenEncoder) or not isinstance(trained.data, ImageDataModule):
        return "No Grad-CAM: the network that was trained gets no images, but features or values.", []
    image_data(trained).prepare_data()
    trained.data.setup("predict")
    records = surest(task, read_predictions(task, folder / FIT / PREDICTIONS, run["held_out"]), number)
    cases: dict[int, Case] = {}
    layer: tuple[str, Any, tuple[int, ...]] | None = None
    for site, own in records.groupby("site", sort=False):
        images = _images(trained.data, str(site), own["image"].tolist())
        with _judged_layers(trained, str(site)), trained.trainer.precision_plugin.predict_step_context():
            inputs = trained.batch(images)[0]
            if not _repeats(trained.module, task, inputs, own):
                return (
                    "No Grad-CAM: the model does not repeat its saved predictions here, so its weights, its images or"
                    " their preparation are not those that it was tested with.",
                    [],
                )
            try:
                layer = layer or last_layer(trained.module, inputs[:1])
            except InputError as reason:
                return f"No Grad-CAM: {reason}.", []
            maps = grad_cam(trained.module, layer[1], inputs, own["target"].tolist())
        for place, (row, record) in enumerate(own.iterrows()):
            pixels = images[place].permute(1, 2, 0).contiguous().numpy()
            said = (record["truth"], record["said"], record["chance"], record["right"])
            cases[int(str(row))] = Case(str(site), *said, pixels, maps[place].numpy())
    if layer is None:
        return "No Grad-CAM: there is no record to show.", []
    name, _, (down, across) = layer
    return f"Of the layer {name}, which has {down} by {across} places.", [cases[row] for row in sorted(cases)]


def surest(task: Task, predictions: pd.DataFrame, number: int) -> pd.DataFrame:
    """The records that a model is surest of, right ones first, then wrong ones, the surest of each first.

    Of findings, each is an answer of its own; that one is rightly said to be absent shows nothing, and is left out.

    Args:
        task: A ``Classification`` or ``MultiLabel``.
        predictions: The columns of ``predictions.csv``.
        number: How many of both kinds there may be.

    Returns:
        The columns ``site``, ``image``, ``target`` (the output that is asked about), ``truth``, ``said``, ``chance``
        (of what is said) and ``right``.
    """
    chances = torch.tensor(predictions[task.columns].to_numpy(), dtype=torch.float64)
    targets = torch.tensor(task.targets(predictions["label"].to_numpy()))
    answers = _findings(task, chances, targets) if isinstance(task, MultiLabel) else _class(task, chances, targets)
    table = pd.concat([predictions[["site", "image"]].assign(**each) for each in answers], ignore_index=True)
    table = table[table["target"] >= 0].sort_values("chance", ascending=False, kind="stable")
    right = table["right"].astype(bool)
    return pd.concat([table[right].head(number), table[~right].head(number)], ignore_index=True)


def _class(task: Any, chances: Tensor, targets: Tensor) -> list[dict[str, Any]]:
    what = "grade" if task.name == "ordinal" else "class"
    names = [called(name, what) for name in task.class_names]
    chance, said = chances.max(dim=1)
    return [
        {
            "target": said.tolist(),
            "truth": [names[each] for each in targets.tolist()],
            "said": [names[each] for each in said.tolist()],
            "chance": chance.tolist(),
            "right": (said == targets).tolist(),
        }
    ]


def _findings(task: MultiLabel, chances: Tensor, targets: Tensor) -> Iterator[dict[str, Any]]:
    for finding, name in enumerate(task.class_names):
        chance, present = chances[:, finding], targets[:, finding] > 0.5
        said = chance > 0.5
        yield {
            "target": [finding if any(each) else -1 for each in zip(said.tolist(), present.tolist(), strict=True)],
            "truth": [f"{called(name, 'finding')} {_PRESENT[each]}" for each in present.tolist()],
            "said": [_PRESENT[each] for each in said.tolist()],
            "chance": torch.where(said, chance, 1 - chance).tolist(),
            "right": (said == present).tolist(),
        }


_PRESENT = {True: "present", False: "absent"}


def _images(data: ImageDataModule, site: str, names: Sequence[str]) -> Tensor:
    """Test images of a site, uint8, (images, 3, height, width)."""
    records: Any = data.dataset([site], "test")
    places = {str(name): place for place, name in enumerate(records.table["image"])}
    missing = [name for name in names if name not in places]
    if missing:
        raise InputError(f"{missing[0]!r} is no test image of {site!r} here, but was one when the model was tested")
    images: Tensor = records.__getitems__([places[name] for name in names])[0]
    return images


def _judged_layers(run: TrainedRun, site: str) -> AbstractContextManager[Any]:
    """Let the model have the batch normalisation that a site's test records were judged with."""
    by_site = run.statistics
    if by_site is None or not by_site.images or not norm_tensors(run.module, affine=True):
        return nullcontext()
    data: Any = run.data
    if data.training_records(site) is not None:
        return site_layers(run, site, False, lambda _: [])
    tested = data.test_dataloader()[site]  # a site that nothing is trained at is judged by these themselves
    return site_layers(run, None, True, lambda _: [batch[0] for batch in by_site.sampled(tested, site)])


def _repeats(module: Any, task: Task, inputs: Tensor, saved: pd.DataFrame) -> bool:
    """Whether a model says of images what stands in the table, and its outputs are those of the task."""
    try:
        with torch.no_grad():
            outputs = module(inputs)
            found = task.predictions(outputs.float()).double().cpu()
    except Exception as error:  # whatever a module of the user's raises
        raise InputError(f"{type(module).__name__} cannot take a batch of images by itself: {error}") from error
    if found.shape != (len(saved), task.outputs):
        return False
    asked = found[torch.arange(len(saved)), torch.tensor(saved["target"].tolist())]
    chance = torch.tensor(saved["chance"].tolist(), dtype=torch.float64)
    absent = torch.tensor([said == _PRESENT[False] for said in saved["said"]]) & isinstance(task, MultiLabel)
    return bool(((torch.where(absent, 1 - asked, asked) - chance).abs() <= _NEAR).all())
