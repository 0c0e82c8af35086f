"""The site's navigation has every page, and its reference every public name."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

import lit_dist
import lit_dist.callbacks
import lit_dist.datamodules
from pages import DOCS, ROOT


def places(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    else:
        for branch in tree.values() if isinstance(tree, dict) else tree:
            yield from places(branch)


def test_the_navigation_has_every_page_once() -> None:
    named = list(places(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    assert len(named) == len(set(named))
    assert {str(page.relative_to(ROOT / "docs")) for page in DOCS} <= set(named)


@pytest.mark.parametrize("module", [lit_dist, lit_dist.callbacks, lit_dist.datamodules], ids=lambda each: each.__name__)
def test_the_reference_has_every_public_name(module: Any) -> None:
    page = ROOT / "docs" / "api" / f"{module.__name__.rpartition('.')[2]}.md"
    described = re.findall(rf"^::: {module.__name__}\.(\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(described) == sorted(module.__all__)
