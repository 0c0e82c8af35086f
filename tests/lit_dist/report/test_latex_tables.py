import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some

from lit_dist.report.html_table import escaped
from lit_dist.report.latex_tables import latex_table, latex_text

_SET = {  # what LaTeX sets for each of these
    **{rf"\{each}": each for each in "&%$#_{}"},
    **{r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^", r"\textbar{}": "|"},
    **{r"\textless{}": "<", r"\textgreater{}": ">", r"\textasciigrave{}": "`", "{}": "", "~": "\N{NO-BREAK SPACE}"},
    **{f"{{{each}}}": each for each in "[]*"},
}
_PART = re.compile("|".join(map(re.escape, sorted(_SET, key=len, reverse=True))) + r"|[^\\&%$#_{}~^\[\]*|<>`]")


def set_text(text: str) -> str:
    """What is seen of LaTeX; any sign that would be more than itself fails."""
    found, place = "", 0
    while place < len(text):
        part = _PART.match(text, place)
        assert part, text[place:]
        found, place = found + _SET.get(part[0], part[0]), part.end()
    return found


@given(some.text(some.characters(exclude_categories=["Cc", "Cs"])))
def test_any_text_is_set_as_it_is(text: str) -> None:
    written = latex_text(text)
    assert set_text(written) == text
    assert not re.search(r"--|,,|''|``|\?`|!`", written)


@pytest.mark.parametrize("label", ["a_b & 50 % of $x$", r"\input{x} #1 ^~", "[2cm]", "*", "é, ß & <b>", "3--4 ''"])
def test_a_line_of_a_table_has_its_cells_whatever_they_hold(label: str) -> None:
    rows = pd.DataFrame({"heuristic": [escaped(label)] * 2, "p": ["&lt; 0.001", "-0.5 to 0.2"]})
    lines = latex_table(rows, "The caption", "name").splitlines()
    first, second = [line.strip().removesuffix(r" \\") for line in lines if line.endswith(r"\\")][1:]
    assert first.endswith(" & $<$ 0.001")
    assert second.endswith(" & $-$0.5 to 0.2")
    assert set_text(first.removesuffix(" & $<$ 0.001")) == label
    assert not first.startswith(("[", "*"))


def test_letters_beyond_latin_ask_for_a_program_that_has_them() -> None:
    names = ("Bern", "Łódź, Þórshöfn", "Ħamrun", "Ελλάδα")
    plain, latin, maltese, greek = (latex_table(pd.DataFrame({"site": [name]}), "", "x") for name in names)
    assert "fontenc" not in plain
    assert r"\usepackage[T1]{fontenc}" in latin
    assert "LuaLaTeX" not in plain + latin
    assert "LuaLaTeX" in maltese
    assert "LuaLaTeX" in greek


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs LaTeX")
@pytest.mark.parametrize("name", ["cyclical, every epoch", "Łódź " * 16, r"a_b & 50% #1 {x} ~ ^ \ $"])
def test_a_wide_table_fits_on_its_page(name: str) -> None:
    rows = pd.DataFrame([[escaped(name)] * 2 + ["0.1 to 0.2"] * 6], columns=list("abcdefgh"))
    written = latex_table(rows, "50 % of it", "x")
    needs = re.findall(r"\\usepackage\S+", written.splitlines()[0])
    page = [r"\documentclass{article}", *needs, r"\begin{document}", written, r"\end{document}"]
    Path("t.tex").write_text("\n".join(page))
    told = subprocess.run(["pdflatex", "-interaction=nonstopmode", "t.tex"], capture_output=True, check=False).stdout
    assert b"\n! " not in told
    assert b"Overfull" not in told
