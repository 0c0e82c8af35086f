"""What the pages of the methods say was measured stands in the pages of results."""

import re

from pages import ROOT, sections


def numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+\.\d+", text))


def test_measured_effects_are_those_of_the_results() -> None:
    docs = ROOT / "docs"
    pages = sorted(set((docs / "methods").glob("*.md")) - {docs / "methods" / "index.md"})
    results = numbers("".join((docs / page).read_text(encoding="utf-8") for page in ("results.md", "statistics.md")))
    for page in pages:
        measured = sections(page)["Measured"]
        assert numbers(measured) - OF_COMMANDS <= results, page.name
        assert "lit-dist compare" in measured or "results.md" in measured, f"{page.name} gives no command"


OF_COMMANDS = {"0.1"}  # PyTorch's momentum
