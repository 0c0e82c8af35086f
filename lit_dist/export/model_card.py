"""The card of an exported model, for people."""

from collections.abc import Mapping, Sequence
from typing import Any

_BLANK = "_Not filled in: whoever answers for the use of this model writes it here._"

_UNTESTED = "_Not tested: what `lit-dist predict` leaves in a folder is judged here, if it is given as --predictions._"
_INTERVAL = "The interval is of 95 %, by a bootstrap over patients."

_PROGRAM = """\
```python
import torch

model = torch.export.load("model.pt2").module()
{inputs}
print(model(inputs))
```"""

_IMAGES = "inputs = torch.zeros(1, 3, {size}, {size}, dtype=torch.uint8)  # prepared as below"
_VALUES = "inputs = torch.full((1, {columns}), torch.nan)  # a row a record, raw, in the order of the columns below"

_WEIGHTS = """\
```python
import torchvision
from safetensors.torch import load_file

network = torchvision.models.get_model("{backbone}", num_classes={outputs})
network.load_state_dict(load_file("model.safetensors"))
```"""

_STATISTICS = """\
It was judged with batch normalisation's statistics of each site ({judged}), and the files hold those that
travelled, with which it may perform worse; `lit-dist export --site NAME` writes a site's. """

_ESTIMATE = """\
For a site, estimate them from some dozens of its own prepared images, without labels, before the network is used:

```python
for layer in network.modules():
    if hasattr(layer, "running_mean"):
        layer.reset_running_stats()
        layer.momentum = None
network.train()(normalised_images)
network.eval()
```"""


def as_markdown(card: Mapping[str, Any]) -> str:
    """The card as Markdown.

    Args:
        card: What ``exported.export`` knows of a model.
    """
    backbone, training = card["network"]["backbone"], card["training"]
    judged = [name for name in ("SiteStatistics", "LocalBatchNorm") if name in training["callbacks"]]
    by_statistics = card["network"]["batch_normalisation"] and judged and not card["network"].get("statistics")
    sections = [
        f"# Model card: {card['task']}",
        f"## Intended use\n\n{card['intended_use'] or _BLANK}",
        f"## Limits and risks\n\n{_BLANK}",
        f"## How to use it\n\n{_PROGRAM.format(inputs=_example(card['input']))}",
        _WEIGHTS.format(backbone=backbone, outputs=len(card["predictions"])) if _is_torchvisions(backbone) else "",
        _STATISTICS.format(judged=" and ".join(judged)) + (_ESTIMATE if _is_torchvisions(backbone) else "")
        if by_statistics
        else "",
        f"## Input and predictions\n\n{_facts({**card['input'], 'predictions': _predictions(card)})}",
        f"## Training\n\n{_facts({**card['network'], **training})}",
        f"## Records by site\n\n{_table(card['records_by_site'])}",
        f"## Test\n\n{_table(card['test'])}\n\n{_INTERVAL}" if card["test"] else f"## Test\n\n{_UNTESTED}",
        f"## Provenance\n\n{_facts({**card['weights'], **card['files'], **card['versions']})}",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _example(inputs: Mapping[str, Any]) -> str:
    """The line that makes what goes into the program."""
    if "values" in inputs:
        return _VALUES.format(columns=len(inputs["numeric_columns"]) + len(inputs["columns_of_categories"]))
    size = "".join(each for each in inputs["images"].split(",")[3] if each.isdigit()) or "224"
    return _IMAGES.format(size=size)


def _is_torchvisions(backbone: str | None) -> bool:
    import torchvision

    return backbone in torchvision.models.list_models(module=torchvision.models)


def _predictions(card: Mapping[str, Any]) -> str:
    if card["classes"]:
        pairs = zip(card["predictions"], card["classes"], strict=True)
        return ", ".join(f"{column}: {name}" for column, name in pairs)
    return ", ".join(card["predictions"])


def _facts(facts: Mapping[str, Any]) -> str:
    return "\n".join(f"- {name.replace('_', ' ')}: {_shown(value)}" for name, value in facts.items())


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([_shown(row.get(name)) for name in names] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "not known"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(each)}" for name, each in value.items())
    # What a table or a list of Markdown would read as its own.
    return str(value).replace("|", "\\|").replace("\n", " ")
