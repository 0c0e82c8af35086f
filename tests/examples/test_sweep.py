"""The sweep's commands, as its agent makes them: what each sets arrives."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_dist.cli.federate import parse

ROOT = Path(__file__).parents[2]
SWEEP = yaml.safe_load((ROOT / "examples/sweep.yaml").read_text())
NAMES = [*SWEEP["parameters"]]
GRID = [*itertools.product(*(SWEEP["parameters"][name]["values"] for name in NAMES))]


def words(values: tuple[Any, ...]) -> list[str]:
    """The words of one run."""
    args = [f"--{name}={value}" for name, value in zip(NAMES, values, strict=True)]
    return [word for each in SWEEP["command"] for word in (args if each == "${args}" else [each])]


def setting(tree: Any, name: str) -> Any:
    """What an option has set, which names classes' arguments without ``init_args``."""
    for part in name.split("."):
        tree = tree["init_args"][part] if "init_args" in tree else tree[part]
    return tree


@pytest.mark.parametrize("values", GRID[:: len(GRID) // 3], ids=str)
def test_each_parameter_arrives(values: tuple[Any, ...]) -> None:
    command = words(values)
    assert command[:2] == ["lit-dist", "fit"]
    settings = parse([word.replace("=configs/", f"={ROOT}/configs/") for word in command[2:]])
    for name, value in zip(NAMES[1:], values[1:], strict=True):
        assert setting(settings, name) == value
    assert settings["trainer"]["max_epochs"] == 12
    assert settings["trainer"]["logger"][-1]["class_path"].endswith("WandbLogger")


def test_the_configuration_comes_before_what_it_would_set_back() -> None:
    assert sorted(NAMES) == NAMES
    assert NAMES[0] == "config"
    assert [(ROOT / path).is_file() for path in SWEEP["parameters"]["config"]["values"]] == [True] * 3


def test_another_name_is_noticed() -> None:
    with pytest.raises(ValueError, match=r"no setting|no option"):
        parse(["--config", str(ROOT / "configs/phantom/central.yaml"), "--model.learning_rate=1"])
