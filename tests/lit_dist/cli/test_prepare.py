import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contract import once
from lit_dist.cli import main
from lit_dist.cli.prepare import _file_name
from small_encoder import ARCHITECTURE, write_weights


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Photographs in two folders, one a class."""
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "root" / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "root" / name / f"{number}.png")
    return tmp_path


def words(folder: Path, *more: str) -> list[str]:
    return [
        "--config=configs/imagenet/cyclical.yaml", f"--data.root={folder / 'root'}", "--data.size=32",
        f"--data.cache_dir={folder / 'cache'}", f"--output={folder / 'sheets'}", *more,
    ]  # fmt: skip


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *more: str) -> None:
    monkeypatch.setattr(sys, "argv", ["lit-dist", "prepare", *words(folder, *more)])
    main.main()


@pytest.mark.slow
def test_it_builds_the_cache_and_shows_each_site(
    classes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, classes)
    said = capsys.readouterr().out
    assert "(40 images, 0.00 GB)" in said
    assert "site-4" in said
    assert "cats" in said
    sheets = sorted(path.name for path in (classes / "sheets").iterdir())
    assert sheets == [f"site-{number}.png" for number in range(1, 5)]
    (pixels,) = (classes / "cache").glob("*/pixels.u8")
    before = pixels.stat().st_mtime_ns
    run(monkeypatch, classes)
    assert pixels.stat().st_mtime_ns == before, "the second time there is nothing to do"


def test_a_damaged_cache_is_mended(
    classes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, classes)
    (pixels,) = (classes / "cache").glob("*/pixels.u8")
    size = 32 * 32 * 3
    content = bytearray(pixels.read_bytes())
    original = bytes(content)
    content[7 * size + 5] ^= 1
    pixels.write_bytes(content)
    run(monkeypatch, classes)
    assert "1 prepared images had changed on the disk" in capsys.readouterr().out
    assert original[7 * size : 8 * size] in pixels.read_bytes()


def test_a_configuration_of_a_study_does_as_well(classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, classes, "--config=configs/imagenet/compare.yaml", "--images=3")
    assert len(list((classes / "sheets").iterdir())) == 4


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--images=0"], "images=0 is not a positive number"),
        (["--config=nowhere.yaml"], "there is no nowhere.yaml"),
        (["--data.root=nowhere"], "there is no folder nowhere"),
    ],
)
def test_what_cannot_be_done_is_said(
    classes: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, classes, *more)
    assert ended.value.code == 1
    assert message in capsys.readouterr().err


def test_an_image_that_is_none_is_named(
    classes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (classes / "root" / "cats" / "3.png").write_bytes(b"nothing")
    with pytest.raises(SystemExit):
        run(monkeypatch, classes)
    assert "cats/3.png: it is not an image" in capsys.readouterr().err


def test_a_file_in_the_place_of_the_folder_for_sheets_is_named(
    classes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (classes / "sheets").write_text("")
    with pytest.raises(SystemExit):
        run(monkeypatch, classes)
    assert "contact sheets cannot be written to" in capsys.readouterr().err


def test_sites_that_differ_by_a_sign_have_a_sheet_each(classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, classes, "--data.sites=[a/b, a_b]")
    assert sorted(path.name for path in (classes / "sheets").iterdir()) == ["1_a_b.png", "a_b.png"]


def test_each_image_that_is_left_out_is_listed(
    classes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(7):
        (classes / "root" / "cats" / f"{number}.png").write_bytes(b"nothing")
    with pytest.warns(UserWarning, match="7 images are left out"):
        run(monkeypatch, classes, "--data.on_error=skip")
    said = capsys.readouterr().out
    assert [f"cats/{number}.png: it is not an image" in said for number in range(7)] == [True] * 7


def test_a_site_may_be_called_like_a_folder() -> None:
    assert [_file_name(site, 2) for site in ("mgh", "..", ".", "../x")] == ["mgh", "2_..", "2_.", "2_.._x"]


def test_images_that_are_encoded_are_shown_as_they_are(
    classes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = once(write_weights) / "weights.safetensors"
    images = {"root": str(classes / "root"), "size": 32, "cache_dir": str(classes / "cache")}
    encoder = {
        "images": {"class_path": "ImageNetDataModule", "init_args": images},
        "architecture": ARCHITECTURE,
        "weights": str(weights),
        "sites": 2,
    }
    config = {"data": {"class_path": "FrozenEncoder", "init_args": encoder}}
    (classes / "config.yaml").write_text(json.dumps(config))
    words = ["prepare", "--config", str(classes / "config.yaml"), "--output", str(classes / "sheets")]
    monkeypatch.setattr(sys, "argv", ["lit-dist", *words])
    main.main()
    assert "40 images, " in capsys.readouterr().out
    assert sorted(path.name for path in (classes / "sheets").iterdir()) == ["site-1.png", "site-2.png"]
    assert list((classes / "cache" / "features").glob("*.safetensors"))
