import os
import re
from pathlib import Path

import pytest
import yaml
from one_sentence import refused

from lit_dist.utils.errors import InputError
from lit_dist.utils.yaml_text import MOST_REPEATED, check_yaml, read_yaml

BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
COMMANDS = pytest.mark.parametrize(
    "command", [["fit"], ["compare"], ["prepare"], ["federate", "--local"]], ids=lambda command: command[0]
)
WRONG = {
    "itself": ("data: &x\n  init_args: *x\n", "line 2: *x stands within itself"),
    "twice": ("data: 1\nmodel: {a: [b, b], c: b}\n\ndata: 2\n", "line 4: the key 'data' stands twice"),
    "twice within": ("model:\n  - {lr: 1, b: {lr: 2},\n     lr: 3}\n", "line 3: the key 'lr' stands twice"),
    "in a list": ("a: &x [*x]\n", "stands within itself"),
    "by a merge": ("a: &x\n  <<: *x\n", "stands within itself"),
    "bomb": (BOMB, "are too many for settings"),
    "deep": ("a: " + "[" * 20000 + "]" * 20000, "nest"),
    "deep by lines": ("".join(" " * n + "a:\n" for n in range(2000)), "nested more than"),
    "number": ("a: " + "9" * 5000, "4300 digits"),
    "tag": ("a: !!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
}


@pytest.mark.parametrize("name", WRONG)
def test_settings_that_explode_are_refused(name: str) -> None:
    text, said = WRONG[name]
    Path("own.yaml").write_text(text)
    with pytest.raises(InputError, match=re.escape(said)):
        read_yaml(Path("own.yaml"))


@COMMANDS
@pytest.mark.parametrize("name", ["itself", "bomb"])
def test_they_are_by_every_command(name: str, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if command[0] == "federate":
        pytest.importorskip("nvflare")
    text, said = WRONG[name]
    Path("own.yaml").write_text(text)
    assert said in refused([*command, "--config", "own.yaml"], capsys)


def test_aliases_that_repeat_little_are_as_good_as_what_they_repeat() -> None:
    Path("own.yaml").write_text("a: &x {lr: 0.1}\nb: *x\nc: {<<: *x, eps: 1}\n")
    assert read_yaml(Path("own.yaml")) == {"a": {"lr": 0.1}, "b": {"lr": 0.1}, "c": {"lr": 0.1, "eps": 1}}


def test_the_bound_counts_what_is_repeated() -> None:
    line = f"a: &x [{','.join('x' * 100)}]\n"
    check_yaml(line + f"b: [{','.join(['*x'] * (MOST_REPEATED // 101))}]")
    with pytest.raises(yaml.YAMLError, match="too many"):
        check_yaml(line + f"b: [{','.join(['*x'] * (MOST_REPEATED // 101 + 1))}]")


@COMMANDS
def test_a_pipe_is_not_waited_for(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("own.yaml")
    assert "own.yaml: that is a pipe" in refused([*command, "--config", "own.yaml"], capsys)
    assert "own.yaml: that is a pipe" in refused([*command, "--config=own.yaml"], capsys)


def test_a_folder_and_what_is_not_there_are_named() -> None:
    with pytest.raises(InputError, match=r"there is no nowhere\.yaml"):
        read_yaml(Path("nowhere.yaml"))
    Path("folder").mkdir()
    with pytest.raises(InputError, match="folder is a folder, not a file"):
        read_yaml(Path("folder"))
