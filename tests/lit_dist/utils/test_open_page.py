import webbrowser
from pathlib import Path

import pytest

from lit_dist.utils.open_page import open_page


def test_a_page_is_shown_where_there_is_a_screen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page, opened = tmp_path / "a b.html", list[str]()
    monkeypatch.setattr(webbrowser, "open", lambda url: not opened.append(url))
    monkeypatch.setenv("DISPLAY", ":0")
    open_page(page)
    assert opened == [page.as_uri()]
    assert capsys.readouterr().out == ""
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    open_page(page)
    assert len(opened) == 1
    assert str(page) in capsys.readouterr().out
