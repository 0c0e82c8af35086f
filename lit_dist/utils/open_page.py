"""Shows a page in the user's browser."""

import os
import sys
import webbrowser
from pathlib import Path


def open_page(path: Path) -> None:
    """Show a page in the browser; say where it is, if there is none to be shown in.

    A browser of the terminal is none: it would take the terminal's place.
    """
    screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not (screen and webbrowser.open(path.absolute().as_uri())):
        print(f"No browser could be opened here; the page is {path.absolute()}")
