import shutil
from pathlib import Path

import pandas as pd
import pytest

from fake_mammograms import write_mini_mias
from lit_dist.datamodules.mammography.films import WITHOUT_FINDING
from lit_dist.datamodules.mammography.mini_mias import read_list, read_mini_mias
from lit_dist.utils.errors import InputError
from real_data import real_folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_mini_mias(tmp_path / "mias")


def test_the_real_list() -> None:
    """330 lines for 322 films: seven films have more than one finding, and some no place."""
    folder = real_folder("mammo_minimias")
    table = read_list(folder / "README")
    assert (len(table), table["image"].nunique(), table["patient"].nunique()) == (330, 322, 161)
    findings = table[table["diagnosis"] != "normal"]
    assert sorted(findings.loc[findings["x"].isna(), "image"]) == ["mdb059", "mdb216", "mdb233", "mdb245"]
    assert table[table["image"] == "mdb001"].iloc[0][["x", "y", "radius"]].tolist() == [535, 1024 - 425, 197]
    assert (table["side"] == table["image"].str[-1].isin(list("13579")).map({True: "right", False: "left"})).all()
    films = read_mini_mias(folder / "README", folder / "images512")
    assert films["diagnosis"].value_counts().to_dict() == {"normal": 207, "benign": 63, "malignant": 52}
    assert films["density"].value_counts().to_dict() == {"D": 112, "F": 106, "G": 104}
    known = pd.read_csv(folder / "labels.csv", dtype=str).set_index("image").loc[films["image"]]
    for column, name in (("patient", "patient"), ("side", "side"), ("density", "tissue"), ("diagnosis", "label")):
        assert films[column].tolist() == known[name].tolist()


def test_real_findings_lie_where_they_were_seen() -> None:
    folder = real_folder("mammo_minimias")
    crops = read_mini_mias(folder / "README", folder / "images512", crop=True).set_index("image")
    seen = pd.read_csv(folder / "roi224.csv")
    seen = seen[seen["radius"].notna()]
    assert len(crops) == len(seen) == 119
    assert crops.attrs == {WITHOUT_FINDING: 207 + 4}  # the normal films, and those whose finding has no place
    centres = {((b[0] + b[2]) * 512, (b[1] + b[3]) * 512) for b in (film.box for film in crops["film"])}
    assert centres == set(zip(seen["x"].astype(float), seen["y_top"].astype(float), strict=True))


def test_several_findings_are_one_film_with_the_worst(root: Path) -> None:
    path = root / "Info.txt"
    path.write_text(path.read_text() + "mdb003 F CALC B 10 10 5\nmdb005 G MISC M\n")
    films = read_mini_mias(path, root).set_index("image")
    assert len(films) == 48
    assert films["diagnosis"][["mdb003", "mdb005"]].tolist() == ["malignant", "malignant"]
    crops = read_mini_mias(path, root, crop=True)
    assert crops["image"].tolist()[:4] == ["mdb001_0", "mdb003_0", "mdb005_0", "mdb007_0"]
    assert crops["image"].tolist()[-1] == "mdb003_1"
    assert len(crops) == 25


def test_y_counts_from_the_bottom_and_a_box_is_half_as_wide_again_as_the_finding(root: Path) -> None:
    path = root / "Info.txt"
    path.write_text("mdb001 G CIRC B 535 425 197\r\nmdb002 F CALC M *NOTE 3*\r\n")
    box = read_mini_mias(path, root, crop=True)["film"].iloc[0].box
    assert [share * 1024 for share in box] == pytest.approx([535 - 295.5, 599 - 295.5, 535 + 295.5, 599 + 295.5])


def test_a_missing_list_and_a_film_in_two_files_are_named(root: Path) -> None:
    with pytest.raises(InputError, match="there is no nowhere, the list of films"):
        read_list(Path("nowhere"))
    (root / "more").mkdir()
    shutil.copy(root / "mdb002.pgm", root / "more/mdb002.png")
    with pytest.raises(InputError, match=r"both .*mdb002\.p.* and .*mdb002\.p.* are there"):
        read_mini_mias(root / "Info.txt", root)
