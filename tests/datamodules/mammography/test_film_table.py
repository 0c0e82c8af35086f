from pathlib import Path

import pytest

from lit_dist.datamodules.mammography.film_table import read_film_table
from lit_dist.utils.errors import InputError


@pytest.mark.parametrize("link", ["file", "folder"])
def test_a_film_of_a_table_that_a_link_leads_to_lies_below_the_folder(tmp_path: Path, link: str) -> None:
    for place in ("images", "elsewhere"):
        (tmp_path / place / "inner").mkdir(parents=True)
        (tmp_path / place / "inner" / "film").write_bytes(b"")
    inside, outside = tmp_path / "images", tmp_path / "elsewhere"
    (inside / "near").symlink_to(inside / "inner" / ("film" if link == "file" else ""))
    (inside / "far").symlink_to(outside / "inner" / ("film" if link == "file" else ""))
    name = "" if link == "file" else "/film"
    table = tmp_path / "labels.csv"
    columns = {"image": "image", "label": "label"}
    table.write_text(f"image,label\nnear{name},1\n")
    assert str(read_film_table(table, inside, columns)["film"][0]) == f"{inside}/near{name}"
    table.write_text(f"image,label\nfar{name},1\n")
    with pytest.raises(InputError, match=rf"row 2: 'far{name}' leads out of"):
        read_film_table(table, inside, columns)
