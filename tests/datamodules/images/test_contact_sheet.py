import numpy as np
import pytest

from lit_dist.datamodules import Augmentation, InstitutionDataModule, PhantomDataModule
from lit_dist.datamodules.images.contact_sheet import _GAP, _LINE, _SIDE, COLUMNS, draw_sheet


def phantoms(**settings: object) -> PhantomDataModule:
    data = PhantomDataModule(**{"sites": 2, "patients": 60, "size": _SIDE, **settings})  # type: ignore[arg-type]
    data.setup("prepare")
    return data


def tile(sheet: np.ndarray, section: int, column: int, row: int = 0) -> np.ndarray:
    """The image at a place, if each section has one row."""
    top = 2 * _LINE + section * (2 * _LINE + 2 * _GAP + _SIDE) + _LINE + _GAP + row * (_SIDE + _LINE + _GAP)
    left = _GAP + column * (_SIDE + _GAP)
    return sheet[top : top + _SIDE, left : left + _SIDE]


def test_each_class_is_shown_as_it_is_and_as_it_is_trained_with() -> None:
    data = phantoms(augmentation=Augmentation(rotation=0, vertical_flip=False))
    sheet = np.asarray(draw_sheet(data, "site-2"))
    dataset = data.dataset(["site-2"], "train")
    images = np.stack([dataset[row][0].permute(1, 2, 0).numpy() for row in range(len(dataset))])
    mirrored = 0
    for section in range(4):
        for column in range(COLUMNS):
            shown = tile(sheet, section, column)
            plain = np.flatnonzero((images == shown).all(axis=(1, 2, 3)))
            turned = np.flatnonzero((images[:, :, ::-1] == shown).all(axis=(1, 2, 3)))
            found = plain if section % 2 == 0 else np.union1d(plain, turned)
            assert (dataset.labels[found] == section // 2).all()
            assert len(found) == 1
            mirrored += len(turned)
    assert 0 < mirrored < 2 * COLUMNS


def test_all_images_can_be_shown() -> None:
    data = phantoms(augmentation=None)
    data.augmentation = None
    dataset = data.dataset(["site-1"], "train")
    sheet = draw_sheet(data, "site-1", images=1000)
    rows = sum(-(-count // COLUMNS) for count in np.bincount(dataset.labels))
    assert sheet.height == 2 * _LINE + 2 * (_LINE + _GAP) + rows * (_SIDE + _LINE + _GAP) + _GAP
    healthy = np.flatnonzero(dataset.labels == 0)
    last = tile(np.asarray(sheet), 0, (len(healthy) - 1) % COLUMNS, (len(healthy) - 1) // COLUMNS)
    assert (last == dataset[int(healthy[-1])][0].permute(1, 2, 0).numpy()).all()


def test_degraded_images_are_shown_degraded() -> None:
    sharp, poor = draw_sheet(phantoms(), "site-1"), draw_sheet(phantoms(degrade={"site-1": 8}), "site-1")
    assert np.abs(np.asarray(sharp).astype(int) - np.asarray(poor)).mean() > 0.1


class Many(PhantomDataModule):
    class_names = tuple(f"class {number}" for number in range(30))


@pytest.mark.parametrize("kind", [PhantomDataModule, Many])
def test_a_class_without_images_and_many_classes_are_no_trouble(kind: type[InstitutionDataModule]) -> None:
    data = kind(sites=1, patients=20, size=32, allow_one_class=True)  # type: ignore[call-arg]
    data.setup("prepare")
    assert draw_sheet(data, "site-1").height < 4000


def test_a_name_of_two_lines_is_drawn_in_one() -> None:
    data = phantoms()
    data.class_names = ("well\nand good", "ill")
    data.table["image"] = "a\nb\tc"
    assert draw_sheet(data, "site-1").size == draw_sheet(phantoms(), "site-1").size
