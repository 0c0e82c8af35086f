"""Relative links lead to a file and a heading of the repository, so that they work there and on the site."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pages import PAGES, ROOT, anchors, links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme == "https" or link.startswith("http://localhost"), link
            assert "." in parts.netloc, link
            continue
        target = (page.parent / parts.path).resolve() if parts.path else page
        assert target.exists(), f"{page} links to {link}, which is not there"
        assert target.is_relative_to(ROOT), f"{page} links out of the repository: {link}"
        if parts.fragment:
            assert parts.fragment in anchors(target), f"{page} links to {link}, a heading that is not there"
