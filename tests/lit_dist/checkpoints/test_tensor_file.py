import errno
import hashlib
import json
import os
import random
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from pickles import PICKLES, RAN, Payload
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from disk import largest_file
from lit_dist.checkpoints import state_tree
from lit_dist.checkpoints.tensor_file import DTYPES, MAX_HEADER, MAX_ITEMS, is_ours, read, write
from lit_dist.utils.errors import InputError

ZEROS = "0" * 64
START = '{"__metadata__":{"sha256":"' + ZEROS + '","text":""}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.ckpt"


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        assert content(found[name]) == content(tensor), name


def content(tensor: Tensor) -> bytes:
    return bytes(
        tensor.detach()
        .resolve_conj()
        .clone(memory_format=torch.contiguous_format)
        .reshape(-1)
        .view(torch.uint8)
        .tolist()
    )


def forge(path: Path, header: str, *parts: bytes) -> Path:
    """Write a file with a right SHA-256 over whatever it holds, as someone with bad intentions can."""
    encoded = header.encode()
    digest = hashlib.sha256(encoded + b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
    encoded = encoded.replace(ZEROS.encode(), digest.encode(), 1)
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + b"".join(parts))
    return path


class Memory:
    """Bytes of tensors made with torch.empty, as read makes them, and the peak of all else that Python allocated."""

    tensors = 0
    python = 0

    @property
    def total(self) -> int:
        return self.tensors + self.python


@contextmanager
def measured() -> Iterator[Memory]:
    memory, empty, lock = Memory(), torch.empty, threading.Lock()

    def counted(*args: Any, **kwargs: Any) -> Tensor:
        tensor = empty(*args, **kwargs)
        with lock:
            memory.tensors += tensor.nbytes
        return tensor

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", counted)
        tracemalloc.start()
        try:
            yield memory
        finally:
            memory.python = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()


def refused(path: Path, message: str, most: int) -> None:
    """The file is refused, and its reading takes little memory."""
    with measured() as memory, pytest.raises(InputError, match=message):
        read(path)
    assert memory.total < most


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_every_dtype_comes_back_with_every_bit(path: Path, dtype: torch.dtype) -> None:
    bits = torch.arange(256, dtype=torch.uint8).flip(0).repeat(2)
    tensor = (bits % 2).bool() if dtype == torch.bool else bits.view(dtype)
    write(path, {"a": tensor.reshape(2, -1)}, "text")
    found, text = read(path)
    assert text == "text"
    assert_same(found, {"a": tensor.reshape(2, -1)})


def test_tensors_of_any_layout_come_back(path: Path) -> None:
    grid = torch.randn(4, 6, 2, 2)
    weight = nn.Parameter(torch.randn(3, 3))
    tensors = {
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 3),
        "empty too": torch.empty(2**40, 0, dtype=torch.int64),
        "transposed": grid[:, :, 0, 0].T,
        "sliced": grid[1::2, ::3],
        "channels last": grid.to(memory_format=torch.channels_last),
        "expanded": torch.ones(1).expand(3, 2),
        "imaginary": torch.randn(3, dtype=torch.complex64).conj().imag,
        "parameter": weight,
        "tied": weight,
        "tied in part": weight[0],
        "conjugate": torch.tensor([1 + 2j], dtype=torch.complex64).conj(),
        "one value of a strided view": torch.arange(4.0)[1::4],
        "one value of a matrix": torch.arange(4.0).reshape(2, 2)[:1, 1:].T,
        "one byte": torch.tensor([True]),
        "unaligned": torch.randn(3, dtype=torch.float64),
        "": torch.ones(1),
        'name "with" \\ every/thing\n\0 ä 漢 😀': torch.ones(1),
    }
    write(path, tensors, 'text "with" \\ every/thing\n\0 ä 漢 😀')
    found, text = read(path)
    assert text == 'text "with" \\ every/thing\n\0 ä 漢 😀'
    assert_same(found, tensors)
    assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in found.values())


def test_tensors_that_were_tied_are_apart(path: Path) -> None:
    tensor = torch.ones(2)
    write(path, {"a": tensor, "b": tensor}, "")
    found, _ = read(path)
    found["a"].zero_()
    assert found["b"].tolist() == [1, 1]


def test_a_file_without_tensors_holds_its_text(path: Path) -> None:
    write(path, {}, "only a text")
    assert read(path) == ({}, "only a text")


def test_a_tensor_of_more_than_one_piece_comes_back(path: Path) -> None:
    tensors = {"a": torch.randn(2**19 + 3), "b": torch.arange(2**18)}
    write(path, tensors, "")
    assert_same(read(path)[0], tensors)


def test_tensors_that_are_not_wanted_have_shapes_and_no_values(path: Path) -> None:
    write(path, {"a": torch.ones(2, 3, dtype=torch.float16)}, "text")
    found, text = read(path, with_tensors=False)
    assert (found["a"].device.type, found["a"].shape, found["a"].dtype) == ("meta", (2, 3), torch.float16)
    assert text == "text"


def test_tensors_that_are_not_wanted_are_checked_all_the_same(path: Path) -> None:
    write(path, {"a": torch.ones(2, 3)}, "text")
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(InputError, match="do not match the SHA-256"):
        read(path, with_tensors=False)


@pytest.mark.parametrize("length", range(8))
def test_the_digest_is_the_one_that_the_docstring_describes(path: Path, length: int) -> None:
    write(path, {"a": torch.arange(3.0), "b": torch.ones(2, dtype=torch.int8)}, "x" * length)
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    assert end % 8 == 0
    header = raw[8:end]
    found = json.loads(header)["__metadata__"]["sha256"]
    parts = [hashlib.sha256(part).digest() for part in (raw[end : end + 12], raw[end + 12 :])]
    assert found == hashlib.sha256(header.replace(found.encode(), ZEROS.encode()) + b"".join(parts)).hexdigest()


def test_the_same_contents_make_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, {"x": torch.arange(300_000.0), "y": torch.ones(1)}, "text")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_other_programs_read_the_file_as_safetensors(path: Path, dtype: torch.dtype) -> None:
    tensors = {"a": torch.tensor([[1, 0, 1]]).to(dtype), "b": torch.tensor(1).to(dtype), "c": torch.empty(0).to(dtype)}
    write(path, tensors, "text")
    found = safetensors.torch.load_file(path)
    assert_same({name: found[name] for name in tensors}, tensors)
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata()["text"] == "text"


def test_a_file_that_safetensors_wrote_is_refused(path: Path) -> None:
    safetensors.torch.save_file({"a": torch.ones(2)}, path)
    assert not is_ours(path)
    with pytest.raises(InputError, match="is not a file that lit_dist wrote"):
        read(path)
    safetensors.torch.save_file({"a": torch.ones(2)}, path, {"sha256": ZEROS, "text": ""})
    with pytest.raises(InputError, match=r"damaged|not a file that lit_dist wrote"):
        read(path)


def test_our_own_files_are_told_from_others(path: Path) -> None:
    write(path, {}, "")
    assert is_ours(path)
    path.write_bytes(b"")
    assert not is_ours(path)


@pytest.mark.parametrize("kind", PICKLES)
@pytest.mark.parametrize("value", [{"a": torch.ones(2)}, {"state_dict": Payload()}], ids=["tensors", "payload"])
def test_a_pickle_is_refused_and_not_run(path: Path, kind: str, value: Any) -> None:
    PICKLES[kind](value, path)
    said = (
        "not a file that lit_dist wrote"
        if kind == "text"
        else "is a pickle, and reading one can.*SafetensorsCheckpointIO"
    )
    with pytest.raises(InputError, match=said):
        read(path)
    assert not RAN.exists()


def entry(dtype: str = "F32", shape: str = "[1]", offsets: str = "[0,4]") -> str:
    return f'{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}'


def named(**entries: str) -> str:
    return START + "".join(f',"{name}":{value}' for name, value in entries.items()) + "}"


EITHER = "the tensor 'a' has another size|its header is not that of a safetensors file"
SIZE = "the tensor 'b' has another size than its shape says"
HEADER = "its header is not that of a safetensors file"
FOUR = (b"four", b"more")
NO_SHAPES = ("[-1]", "[-1,-1]", "[1.0]", "[true]", '["1"]', "1", "null", f"[{'9' * 5000}]")
ENDLESS = f"[0,{'9' * 5000}]"
NO_ENTRIES = (
    *('{"dtype":"F32","shape":[1]}', '{"more":1,' + entry()[1:], "null", "[]", '"text"'),
    *("[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000),
)


def test_a_forged_file_that_is_right_is_read(path: Path) -> None:
    found, _ = read(forge(path, named(a=entry(), b=entry(offsets="[4,8]")), *FOUR))
    assert [content(tensor) for tensor in found.values()] == list(FOUR)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (named(a=entry(), b=entry(shape="[2]", offsets="[4,8]")), SIZE),
        (named(a=entry(), b=entry(shape="[]", offsets="[4,6]")), SIZE),
        (named(a=entry(), b=entry("F64", offsets="[4,8]")), SIZE),
        (named(a=entry(), b=entry(offsets="[3,7]")), SIZE),
        (named(a=entry(), b=entry(offsets="[5,9]")), SIZE),
        (named(a=entry(), b=entry(offsets="[0,4]")), SIZE),
        (named(a=entry(offsets="[4,8]"), b=entry()), "the tensor 'a' has another size than its shape says"),
        (named(a=entry(), b=entry(offsets="[4,0]")), SIZE),
        (named(a=entry(offsets="[-4,0]")), EITHER),
        (named(a=entry()), "it has 8 bytes of tensors, and its header speaks of 4"),
        (named(a=entry(shape="[3]", offsets="[0,12]")), "it has 8 bytes of tensors, and its header speaks of 12"),
        *((named(a=entry(shape=f"[{huge}]")), EITHER) for huge in (2**64, "9" * 4000)),
        (named(a=entry(offsets=f"[{2**64},{2**64 + 4}]")), EITHER),
        *((named(a=entry(shape=shape)), HEADER) for shape in NO_SHAPES),
        *((named(a=entry(offsets=offsets)), HEADER) for offsets in ("[0]", "[0,4,8]", "[0,NaN]", ENDLESS, "null")),
        *((named(a=entry(dtype)), HEADER) for dtype in ("F4", "f32", "F8_E8M0")),
        *((named(a=entry().replace('"F32"', dtype)), HEADER) for dtype in ("null", "[]")),
        *((named(a=value), HEADER) for value in NO_ENTRIES),
        (named(a=entry()) + "}", HEADER),
        (named(a=entry())[:-1], HEADER),
        (START.replace(',"text":""', "") + "}", HEADER),
    ],
    ids=lambda text: text[-60:],
)
def test_a_header_that_does_not_fit_is_refused(path: Path, header: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^{path} is damaged: .*({message})"):
        read(forge(path, header, *FOUR))


@pytest.mark.parametrize(
    ("header", "parts"),
    [
        *((START.replace('""', text) + "}", ()) for text in ("null", "1", "[]", "{}", '"","text":"another"')),
        *((named(a=entry(offsets=offsets)), ()) for offsets in ("[0,1e999]", "[Infinity,4]")),
        *((named(a=entry(shape=f"[0,{sides}]", offsets="[0,0]")), ()) for sides in (2**70, f"{2**62},{2**62}")),
        (START + f',"a":{entry()},"a":{entry()}}}', FOUR[:1]),
        (START + f',"a":{entry("I64", "[0]", "[0,0]")},"a":{entry()}}}', FOUR[:1]),
        (START + ',"__metadata__":{"text":"another"}}', ()),
    ],
)
def test_what_is_no_text_no_number_or_stands_twice_is_refused(
    path: Path, header: str, parts: tuple[bytes, ...]
) -> None:
    with pytest.raises(InputError, match="is damaged"):
        read(forge(path, header, *parts))


def test_names_that_stand_twice_and_have_their_own_bytes_are_refused(path: Path) -> None:
    header = START + f',"a":{entry()},"a":{entry(offsets="[4,8]")}}}'
    with pytest.raises(InputError, match=EITHER):
        read(forge(path, header, *FOUR))


def test_a_digest_that_belongs_to_other_tensors_is_refused(path: Path) -> None:
    forge(path, named(a=entry(), b=entry(offsets="[4,8]")), *reversed(FOUR))
    path.write_bytes(path.read_bytes()[: -len(b"".join(FOUR))] + b"".join(FOUR))
    with pytest.raises(InputError, match="its contents do not match the SHA-256 in it; take an older one"):
        read(path)


@pytest.mark.parametrize("length", [0, 26, 27, 40, -9, -8, -2, -1])
def test_a_file_cut_short_is_refused(path: Path, length: int) -> None:
    write(path, {"a": torch.ones(2)}, "text")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match=r"is damaged|is not a file that lit_dist wrote"):
        read(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none cannot be read: No such file"):
        read(tmp_path / "none")
    with pytest.raises(InputError, match="is a folder, not a file"):
        read(tmp_path)


def test_reading_takes_the_memory_of_the_tensors_once(path: Path) -> None:
    write(path, {"a": torch.ones(2**20), "b": torch.ones(2**18, 2)}, "")
    with measured() as memory:
        read(path)
    assert memory.tensors == 6 * 2**20
    assert memory.python < 100_000


@pytest.mark.parametrize("size", [0, 2 * MAX_HEADER])
@pytest.mark.parametrize("length", [9, MAX_HEADER + 1, 2**40, 2**63, 2**64 - 1])
def test_an_absurd_length_of_the_header_is_refused_without_reading_it(path: Path, length: int, size: int) -> None:
    forge(path, named(a=entry()), b"four")
    with path.open("r+b") as file:
        file.write(length.to_bytes(8, "little"))
        file.truncate(size or path.stat().st_size)  # a hole, which takes no space
    refused(path, f"is damaged: it says that its header has {length:,} bytes" if length > 9 else "is damaged", 50_000)


@pytest.mark.parametrize(
    ("header", "message", "most"),
    [
        *(
            (START + ',"a":[' + bomb * (MAX_ITEMS + 1) + "0]}", "was not read: its header has more parts than any", 1)
            for bomb in ("[],", "{},", "1,", '"",', "[[],[]],")
        ),
        (named(a="[" * (MAX_ITEMS - 10)), HEADER, 4),
        (named(a=entry(shape=f"[{2**40}]", offsets=f"[0,{2**42}]")), "its header speaks of 4,398,046,511,104", 1),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_a_header_that_asks_for_much_takes_little_memory(path: Path, header: str, message: str, most: int) -> None:
    forge(path, header, b"four")
    refused(path, message, most * path.stat().st_size + 50_000)


@pytest.mark.filterwarnings("ignore")  # torch warns of what it makes here
@pytest.mark.parametrize(
    "make",
    [
        lambda ones: ones.to_sparse(),
        lambda ones: ones.to_sparse_csr(),
        lambda ones: torch.quantize_per_tensor(ones, 1.0, 0, torch.quint8),
        lambda ones: ones.to(torch.float8_e4m3fnuz),
        lambda ones: ones.to(torch.complex128),
        lambda ones: ones.to("meta"),
    ],
)
def test_tensors_that_safetensors_cannot_hold_are_refused(path: Path, make: Callable[[Tensor], Tensor]) -> None:
    path.write_bytes(b"old")
    with pytest.raises(InputError, match=r"safetensors cannot hold the tensor 'b' \(torch\."):
        write(path, {"a": torch.ones(1), "b": make(torch.ones(2, 2))}, "")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_no_tensor_takes_the_place_of_the_metadata(path: Path) -> None:
    with pytest.raises(InputError, match="__metadata__"):
        write(path, {"__metadata__": torch.ones(1)}, "text")


def test_a_text_that_could_not_be_read_again_is_not_written(path: Path) -> None:
    with pytest.raises(InputError, match="no reader would take"):
        write(path, {}, json.dumps([0] * (MAX_ITEMS + 1)))


def test_a_text_larger_than_a_header_may_be_is_not_written(path: Path) -> None:
    with pytest.raises(InputError, match="come to 67,108,968 bytes, which no reader would take"):
        write(path, {}, "x" * MAX_HEADER)
    assert not path.exists()


def test_a_disk_that_is_full_in_the_middle_of_a_tensor_leaves_the_old_file(path: Path) -> None:
    write(path, {"a": torch.ones(2)}, "old")
    with largest_file(2**21 + 100), pytest.raises(InputError, match="File too large; free some space"):
        write(path, {name: torch.ones(2**17) for name in "abcdefgh"}, "new")
    assert read(path)[1] == "old"
    assert list(path.parent.iterdir()) == [path]


def test_writes_of_a_few_bytes_each_make_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {"a": torch.randn(50), "b": torch.randn(50)}
    write(tmp_path / "a", tensors, "")
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, piece, start: pwrite(file, piece[:7], start))
    write(tmp_path / "b", tensors, "")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_error_of_the_disk_while_reading_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, {"a": torch.ones(2)}, "")

    def fail(*args: Any) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(InputError, match="cannot be read: Input/output error"):
        read(path)


def test_a_file_that_shrinks_while_it_is_read_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, {"a": torch.ones(2)}, "")
    monkeypatch.setattr(os, "preadv", lambda *args: 0)
    with pytest.raises(InputError, match="do not match the SHA-256"):
        read(path)


def checkpoint() -> dict[str, Any]:
    """A block of a ResNet with what Adam keeps of it, as Lightning would write them."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), BasicBlock(8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    )
    optimizer = torch.optim.Adam(network.parameters())
    for _ in range(2):
        network(torch.randn(2, 3, 8, 8)).pow(2).mean().backward()
        optimizer.step()
    return {"epoch": 3, "state_dict": network.state_dict(), "optimizer_states": [optimizer.state_dict()]}


def damaged(raw: bytes, how: str, rng: random.Random) -> bytes:
    """Change something anywhere in a file, and as often in its header, where more can go wrong."""
    at = rng.randrange(rng.choice([40, 8 + int.from_bytes(raw[:8], "little"), len(raw)]))
    size = rng.choice([1, 4, 8, rng.randrange(1, 200)])
    before, part, after = raw[:at], raw[at : at + size], raw[at + size :]
    later = rng.randrange(len(after) + 1)
    some = [rng.randbytes(1), bytes([rng.choice(b'0123456789e.-[]{}",:')]), b"\0"]
    return {
        "flip": before + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :],
        "cut": before + rng.choice([after, b""]),
        "insert": rng.choice([before + rng.randbytes(size) + part + after, raw + rng.randbytes(size)]),
        "swap": before + after[later : later + size] + after[:later] + part + after[later + size :],
        "replace": before + b"".join(rng.choice(some) for _ in part) + after,
    }[how]


@pytest.mark.parametrize("how", ["flip", "cut", "insert", "swap", "replace"])
def test_no_damage_goes_unnoticed_or_takes_memory(path: Path, how: str) -> None:
    text, tensors = state_tree.encode(checkpoint())
    write(path, tensors, text)
    raw = path.read_bytes()
    with measured() as memory:
        read(path)
    allowed = 2 * len(raw) + 150_000
    assert sum(tensor.nbytes for tensor in tensors.values()) == memory.tensors
    assert memory.total < allowed
    tried = [found for seed in range(200) if (found := damaged(raw, how, random.Random(seed))) != raw]
    assert len(tried) > 150
    for found in tried:
        path.write_bytes(found)
        refused(path, r"damaged|not a file that lit_dist wrote|was not read", allowed)
