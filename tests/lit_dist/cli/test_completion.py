import shlex
import subprocess
from pathlib import Path

import pytest

from lit_dist import InputError
from lit_dist.cli import completion
from lit_dist.cli.main import main
from lit_dist.cli.overview import COMMANDS


@pytest.fixture(scope="module")
def scripts() -> dict[str, str]:
    """The script of each shell, of the options of all commands."""
    options = completion.all_options()
    return {shell: completion.script(shell, options) for shell in completion.SHELLS}


def completed(script: str, *words: str) -> list[str]:
    """What bash offers behind some words."""
    Path("script").write_text(script)
    typed = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}"
    if words[-1] == "''":
        typed = typed.replace("''", '""')
    asked = f'source ./script; {typed}; _lit_dist; echo "${{COMPREPLY[*]}}"'
    return subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True).stdout.split()


def test_bash_offers_commands_and_the_options_of_each(scripts: dict[str, str]) -> None:
    assert set(completed(scripts["bash"], "lit-dist", "''")) == {*COMMANDS, "--help", "--version"}
    assert completed(scripts["bash"], "lit-dist", "pre") == ["predict", "prepare"]
    assert "--trainer.max_epochs" in completed(scripts["bash"], "lit-dist", "fit", "--trainer.max")
    assert completed(scripts["bash"], "lit-dist", "fit", "--data.batch") == ["--data.batch_size"]
    assert "--images" in completed(scripts["bash"], "lit-dist", "predict", "--")
    assert {"--local", "--config"} <= set(completed(scripts["bash"], "lit-dist", "federate", "--"))
    assert "--seeds" in completed(scripts["bash"], "lit-dist", "compare", "--see")
    assert completed(scripts["bash"], "lit-dist", "verify", "--r") == ["--replay"]
    assert completed(scripts["bash"], "lit-dist", "fit", "--config", "conf") == []  # a file: bash's own


def test_zsh_and_fish_are_given_the_same(scripts: dict[str, str]) -> None:
    assert scripts["zsh"].endswith(scripts["bash"])
    assert scripts["zsh"].startswith("autoload")
    assert "'__fish_seen_subcommand_from fit' -l trainer.max_epochs\n" in scripts["fish"]
    assert scripts["fish"].count(" -a ") == len(COMMANDS)


def test_each_line_for_fish_is_whole(scripts: dict[str, str]) -> None:
    lines = [shlex.split(line) for line in scripts["fish"].splitlines()]  # a quote that is left open raises
    said = {line[line.index("-a") + 1]: line[-1] for line in lines if "-a" in line}
    assert said == COMMANDS


def test_another_shell_is_refused() -> None:
    with pytest.raises(InputError, match=r"bash \| zsh \| fish"):
        completion.main(["tcsh"])
    with pytest.raises(SystemExit):
        main(["--print-completion"])
