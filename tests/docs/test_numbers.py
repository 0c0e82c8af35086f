"""What the page of methods says was measured stands in the pages of results."""

import re

from pages import ROOT


def numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+\.\d+", text))


def test_measured_effects_are_those_of_the_results() -> None:
    docs = ROOT / "docs"
    rows = re.findall(r"^\| Measured \|.*$", (docs / "methods.md").read_text(encoding="utf-8"), re.MULTILINE)
    results = "".join((docs / page).read_text(encoding="utf-8") for page in ("results.md", "statistics.md"))
    said = numbers("".join(rows))
    assert len(said) > 20
    assert said <= numbers(results)
