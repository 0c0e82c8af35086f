"""Where the real images are, if there are any. Their terms forbid copying them into the repository."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("LIT_DIST_DATA", Path(__file__).parents[3] / "shared" / "data"))


def real_folder(name: str) -> Path:
    """A folder of real data; skips the test where there is none."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}; set LIT_DIST_DATA to the folder that holds the real images")
    return folder
