"""``lit-dist --print-completion``: a script by which a shell completes commands and options, without asking Python."""

import contextlib
import io
import re
import shlex
from collections.abc import Mapping, Set

from lit_dist.cli.overview import COMMANDS, LIGHTNINGS
from lit_dist.utils.errors import InputError
from lit_dist.utils.signatures import parameters

SHELLS = ("bash", "zsh", "fish")

_BASH = """\
_lit_dist() {
    local word="${COMP_WORDS[COMP_CWORD]}" command="${COMP_WORDS[1]}" options=""
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "@COMMANDS@ --help --version" -- "$word"))
    elif [ "${word#-}" != "$word" ]; then
        case "$command" in
@CASES@
        esac
        COMPREPLY=($(compgen -W "$options" -- "$word"))
    fi
}
complete -o default -F _lit_dist lit-dist
"""
"""Where it gives nothing, bash completes the names of files."""


def main(args: list[str]) -> None:
    """Run ``lit-dist --print-completion`` with the words that follow it."""
    if len(args) != 1 or args[0] not in SHELLS:
        raise InputError(f"name a shell: lit-dist --print-completion {' | '.join(SHELLS)}")
    print(script(args[0], all_options()), end="")


def script(shell: str, options: Mapping[str, Set[str]]) -> str:
    """What a shell completes the options of each command by."""
    return _fish(options) if shell == "fish" else _bash(options, zsh=shell == "zsh")


def all_options() -> dict[str, set[str]]:
    """The options of each command."""
    from lit_dist.runs.lightning_cli import SiteParser  # heavy, and not needed to refuse a shell

    options = {command: _options_of(command) for command in COMMANDS}
    parts = {f"--{part}.{name}" for part, kind in SiteParser.parts.items() for name in parameters(kind)[0]}
    options["federate"] |= options["fit"]
    for command in (*LIGHTNINGS, "compare", "federate"):
        options[command] |= parts
    return options


def _options_of(command: str) -> set[str]:
    """The options that a command's help lists."""
    from lit_dist.cli.main import main as lit_dist

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        lit_dist([command, "--help-all" if command in LIGHTNINGS else "--help"])
    if command == "predict":
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            lit_dist([command, "RUN", "--help"])
    return set(re.findall(r"^  (?:-\w[^,\n]*, )?(--[\w.-]+)", said.getvalue(), re.MULTILINE))


def _bash(options: Mapping[str, Set[str]], zsh: bool) -> str:
    cases = "\n".join(
        f'            {command}) options="{" ".join(sorted(names))}" ;;' for command, names in options.items()
    )
    script = _BASH.replace("@COMMANDS@", " ".join(options)).replace("@CASES@", cases)
    return "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n" + script if zsh else script


def _fish(options: Mapping[str, Set[str]]) -> str:
    lines = [
        f"complete -c lit-dist -n __fish_use_subcommand -f -a {command} -d {shlex.quote(COMMANDS[command])}"
        for command in options
    ]
    for command, names in options.items():
        lines += [
            f"complete -c lit-dist -n '__fish_seen_subcommand_from {command}' -l {name[2:]}" for name in sorted(names)
        ]
    return "\n".join(lines) + "\n"
