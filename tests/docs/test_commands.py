"""Commands in the pages are those of the command line: each is parsed, up to the point where it would begin to work."""

import re
import shlex
from pathlib import Path
from typing import Any

import jsonargparse
import pytest

from lit_dist.cli.completion import SHELLS
from lit_dist.cli.main import main
from lit_dist.cli.overview import COMMANDS
from pages import PAGES, ROOT, code, inline_code


class ParsedError(Exception):
    """A command's words were understood."""


def commands(page: Path) -> list[list[str]]:
    """The words of each ``lit-dist`` command in a page's blocks of shell."""
    lines = [line for block in code(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
    parts = [part for line in lines for part in re.split(r"&&|\||;| > | # ", line)]
    found = [part.strip().partition("lit-dist ")[2] for part in parts if re.match(r"\s*(\w+=\S* )*lit-dist ", part)]
    return [shlex.split(re.sub(r"\$\w+|\$\([^)]*\)", "runs/one", words)) for words in found]


SAID = sorted({tuple(words) for page in PAGES for words in commands(page)})


@pytest.mark.parametrize("words", SAID, ids=" ".join)
def test_a_command_is_understood(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if words[0] == "federate":
        pytest.importorskip("nvflare")
    if words[0] == "--print-completion":  # which asks no parser for words
        assert words[1] in SHELLS
        return
    given = list(words)
    if "--config" in given:
        place = given.index("--config") + 1
        if given[place].startswith(("configs/", "examples/")):
            assert (ROOT / given[place]).is_file()
        else:  # one of the reader's own
            study = given[0] == "compare"
            given[place] = f"configs/phantom/{'compare' if study else 'cyclical'}.yaml"
        given[place] = str(ROOT / given[place])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lit-dist"])
    monkeypatch.syspath_prepend(ROOT / "examples")
    whole, depth = jsonargparse.ArgumentParser.parse_args, [0]

    def parse(self: Any, *args: Any, **kwargs: Any) -> Any:
        depth[0] += 1  # a parser asks others for parts of its words
        try:
            found = whole(self, *args, **kwargs)
        finally:
            depth[0] -= 1
        if not depth[0]:
            raise ParsedError
        return found

    monkeypatch.setattr(jsonargparse.ArgumentParser, "parse_args", parse)
    with pytest.raises((ParsedError, SystemExit)) as end:
        main(given)
    if isinstance(end.value, SystemExit):
        assert end.value.code == 0, f"lit-dist {' '.join(words)}"


def test_commands_within_lines_are_those_that_there_are() -> None:
    said = {word for page in PAGES for text in inline_code(page) for word in re.findall(r"^lit-dist ([\w-]+)", text)}
    assert said - {"--version", "--help"} <= {*COMMANDS, "COMMAND"}
