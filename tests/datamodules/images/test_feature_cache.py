"""FeatureCache: vectors are computed once, and what a killed process or a bad disk leaves is never used."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lit_dist.datamodules.images.feature_cache import FeatureCache
from lit_dist.utils.errors import InputError

DIGESTS = [bytes([number]) * 32 for number in range(5)]


def cache(folder: Path, **settings: str) -> FeatureCache:
    return FeatureCache(folder / "features", {"weights": "a", **settings})


class Computed:
    """Computes the place of an image as its vector, up to a number of them, and counts them."""

    def __init__(self, most: int = 99) -> None:
        self.places: list[int] = []
        self.most = most

    def __call__(self, places: Sequence[int]) -> Iterator[Tensor]:
        for place in places:
            if len(self.places) == self.most:
                raise KeyboardInterrupt
            self.places.append(place)
            yield torch.tensor([float(place), 1.0])


EXPECTED = torch.tensor([[float(number), 1.0] for number in range(5)])


def test_each_image_is_computed_once_whoever_asks(tmp_path: Path) -> None:
    first, second = Computed(), Computed()
    assert torch.equal(cache(tmp_path).build([DIGESTS[0], *DIGESTS[:3]], first), EXPECTED[[1, 1, 2, 3]])
    assert torch.equal(cache(tmp_path).build(DIGESTS, second)[3:], EXPECTED[3:])
    assert (first.places, second.places) == ([1, 2, 3], [3, 4])
    found = cache(tmp_path).find([DIGESTS[4], DIGESTS[1]])
    assert found is not None
    assert torch.equal(found, EXPECTED[[4, 2]])


def test_other_weights_have_vectors_of_their_own(tmp_path: Path) -> None:
    cache(tmp_path).build(DIGESTS, Computed())
    assert cache(tmp_path, weights="b").find(DIGESTS) is None
    cache(tmp_path).path.rename(cache(tmp_path, weights="b").path)
    assert cache(tmp_path, weights="b").find(DIGESTS) is None, "also where a file has the other's name"


@pytest.mark.parametrize("saved_every", [0.0, 99.0])
def test_a_computation_that_is_cut_short_is_taken_up_from_what_was_saved(
    tmp_path: Path, saved_every: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lit_dist.datamodules.images.feature_cache._SAVE_EVERY", saved_every)
    with pytest.raises(KeyboardInterrupt):
        cache(tmp_path).build(DIGESTS, Computed(most=3))
    assert cache(tmp_path).find(DIGESTS) is None
    rest = Computed()
    assert torch.equal(cache(tmp_path).build(DIGESTS, rest), EXPECTED)
    assert rest.places == ([3, 4] if saved_every == 0 else [0, 1, 2, 3, 4])


@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied", "another file", "a pickle"])
def test_a_damaged_file_is_computed_again(tmp_path: Path, damage: str) -> None:
    path = cache(tmp_path).path
    cache(tmp_path).build(DIGESTS, Computed())
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    contents = {"flipped": bytes(content), "cut": bytes(content[:-8]), "emptied": b"", "another file": b"x" * 999}
    path.write_bytes(contents.get(damage, b"\x80\x04."))
    assert cache(tmp_path).find(DIGESTS) is None
    again = Computed()
    assert torch.equal(cache(tmp_path).build(DIGESTS, again), EXPECTED)
    assert len(again.places) == 5


def test_only_the_owner_can_look_into_the_folder_and_one_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    cache(tmp_path).build(DIGESTS, Computed())
    assert (tmp_path / "features").stat().st_mode & 0o077 == 0
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another folder with cache_dir"):
        FeatureCache(tmp_path / "file" / "features", {}).build(DIGESTS, Computed())
