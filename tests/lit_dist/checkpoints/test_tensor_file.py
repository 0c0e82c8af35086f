import errno
import hashlib
import json
import os
import pickle
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
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from disk import largest_file
from lit_dist.checkpoints import state_tree
from lit_dist.checkpoints.tensor_file import DTYPES, MAX_HEADER, MAX_ITEMS, is_ours, read, write
from lit_dist.utils.errors import InputError

ZEROS = "0" * 64
START = '{"__metadata__":{"sha256":"' + ZEROS + '","text":""}'
F32 = '"dtype":"F32","shape":[1]'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.ckpt"


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        assert content(found[name]) == content(tensor), name


def content(tensor: Tensor) -> bytes:
    return bytes(tensor.detach().clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8).tolist())


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
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        try:
            yield memory
        finally:
            memory.python = tracemalloc.get_traced_memory()[1] - before


@pytest.fixture
def _traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


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
    with pytest.raises(InputError, match="is no checkpoint of lit_dist"):
        read(path)
    safetensors.torch.save_file({"a": torch.ones(2)}, path, {"sha256": ZEROS, "text": ""})
    with pytest.raises(InputError, match=r"damaged|no checkpoint of lit_dist"):
        read(path)


def test_our_own_files_are_told_from_others(path: Path) -> None:
    write(path, {}, "")
    assert is_ours(path)
    path.write_bytes(b"")
    assert not is_ours(path)


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("payload-ran"),))


def save_zip(value: Any, path: Path) -> None:
    torch.save(value, path)


def save_legacy(value: Any, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def save_pickle(value: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(value))


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_pickle])
@pytest.mark.parametrize("value", [{"a": torch.ones(2)}, {"state_dict": Payload()}], ids=["tensors", "payload"])
def test_a_pickle_is_refused_and_not_run(path: Path, save: Callable[[Any, Path], None], value: Any) -> None:
    save(value, path)
    with pytest.raises(InputError, match=r"is a pickle, and reading one can run any program.*SafetensorsCheckpointIO"):
        read(path)
    assert not Path("payload-ran").exists()


def entry(dtype: str = "F32", shape: str = "[1]", offsets: str = "[0,4]") -> str:
    return f'{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}'


def named(**entries: str) -> str:
    return START + "".join(f',"{name}":{value}' for name, value in entries.items()) + "}"


EITHER = "the tensor 'a' has another size|its header is not that of a safetensors file"
SIZE = "the tensor 'b' has another size than its shape says"
HEADER = "its header is not that of a safetensors file"
FOUR = (b"four", b"more")


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
        (named(a=entry(shape="[-1]")), HEADER),
        (named(a=entry(shape="[-1,-1]")), HEADER),
        (named(a=entry(shape="[1.0]")), HEADER),
        (named(a=entry(shape="[true]")), HEADER),
        (named(a=entry(shape='["1"]')), HEADER),
        (named(a=entry(shape="1")), HEADER),
        (named(a=entry(shape="null")), HEADER),
        (named(a=entry(shape=f"[{2**64}]")), EITHER),
        (named(a=entry(shape=f"[{'9' * 4000}]")), EITHER),
        (named(a=entry(shape=f"[{'9' * 5000}]")), HEADER),
        (named(a=entry(offsets=f"[0,{'9' * 5000}]")), HEADER),
        (named(a=entry(offsets=f"[{2**64},{2**64 + 4}]")), EITHER),
        (named(a=entry(offsets="[0]")), HEADER),
        (named(a=entry(offsets="[0,4,8]")), HEADER),
        (named(a=entry(offsets="[0,NaN]")), HEADER),
        (named(a=entry(offsets="null")), HEADER),
        (named(a=entry("F4")), HEADER),
        (named(a=entry("f32")), HEADER),
        (named(a=entry("F8_E8M0")), HEADER),
        (named(a=entry().replace('"F32"', "null")), HEADER),
        (named(a=entry().replace('"F32"', "[]")), HEADER),
        (named(a='{"dtype":"F32","shape":[1]}'), HEADER),
        (named(a=entry().replace("{", '{"more":1,')), HEADER),
        (named(a="null"), HEADER),
        (named(a="[]"), HEADER),
        (named(a='"text"'), HEADER),
        (named(a=entry()) + "}", HEADER),
        (named(a=entry())[:-1], HEADER),
        (named(a="[" * 100_000 + "]" * 100_000), HEADER),
        (named(a='{"a":' * 100_000 + "1" + "}" * 100_000), HEADER),
        (START.replace(',"text":""', "") + "}", HEADER),
    ],
)
def test_a_header_that_does_not_fit_is_refused(path: Path, header: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^{path} is damaged: .*({message})"):
        read(forge(path, header, *FOUR))


@pytest.mark.parametrize("text", ["null", "1", "[]", "{}"])
def test_a_text_that_is_none_is_refused(path: Path, text: str) -> None:
    with pytest.raises(InputError, match="is damaged"):
        read(forge(path, START.replace('""', text) + "}"))


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param({"a": entry(offsets="[0,1e999]")}, id="infinite offset"),
        pytest.param({"a": entry(offsets="[Infinity,4]")}, id="infinity"),
        pytest.param({"a": entry(shape=f"[0,{2**70}]", offsets="[0,0]")}, id="huge side of an empty tensor"),
        pytest.param({"a": entry(shape=f"[0,{2**62},{2**62}]", offsets="[0,0]")}, id="huge sides of an empty tensor"),
    ],
)
def test_numbers_without_end_are_refused(path: Path, entries: dict[str, str]) -> None:
    with pytest.raises(InputError, match="is damaged"):
        read(forge(path, named(**entries), b""))


@pytest.mark.parametrize(
    ("header", "parts"),
    [
        (START + f',"a":{entry()},"a":{entry()}}}', (b"four",)),
        (START + f',"a":{entry("I64", "[0]", "[0,0]")},"a":{entry()}}}', (b"four",)),
        (START + ',"__metadata__":{"text":"another"}}', ()),
        (START.replace('""', '"","text":"another"') + "}", ()),
    ],
)
def test_names_that_stand_twice_are_refused(path: Path, header: str, parts: tuple[bytes, ...]) -> None:
    with pytest.raises(InputError, match="is damaged"):
        read(forge(path, header, *parts))


def test_names_that_stand_twice_and_have_their_own_bytes_are_refused(path: Path) -> None:
    header = START + f',"a":{entry()},"a":{entry(offsets="[4,8]")}}}'
    with pytest.raises(InputError, match=EITHER):
        read(forge(path, header, *FOUR))


def test_a_digest_that_belongs_to_other_tensors_is_refused(path: Path) -> None:
    forge(path, named(a=entry(), b=entry(offsets="[4,8]")), *reversed(FOUR))
    path.write_bytes(path.read_bytes()[: -len(b"".join(FOUR))] + b"".join(FOUR))
    with pytest.raises(InputError, match="its contents do not match the SHA-256 in it; take an older checkpoint"):
        read(path)


@pytest.mark.parametrize("length", [0, 26, 27, 40, -9, -8, -2, -1])
def test_a_file_cut_short_is_refused(path: Path, length: int) -> None:
    write(path, {"a": torch.ones(2)}, "text")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match=r"is damaged|is no checkpoint of lit_dist \(nor a whole one cut short\)"):
        read(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none cannot be read: No such file"):
        read(tmp_path / "none")
    with pytest.raises(InputError, match="is a folder, not a file"):
        read(tmp_path)


@pytest.mark.usefixtures("_traced")
def test_reading_takes_the_memory_of_the_tensors_once(path: Path) -> None:
    write(path, {"a": torch.ones(2**20), "b": torch.ones(2**18, 2)}, "")
    with measured() as memory:
        read(path)
    assert memory.tensors == 6 * 2**20
    assert memory.python < 100_000


@pytest.mark.usefixtures("_traced")
@pytest.mark.parametrize("length", [9, MAX_HEADER + 1, 2**40, 2**63, 2**64 - 1])
def test_an_absurd_length_of_the_header_is_refused_without_reading_it(path: Path, length: int) -> None:
    forge(path, named(a=entry()), b"four")
    raw = path.read_bytes()
    path.write_bytes(length.to_bytes(8, "little") + raw[8:])
    with measured() as memory, pytest.raises(InputError, match="is damaged"):
        read(path)
    assert memory.total < 50_000


@pytest.mark.usefixtures("_traced")
def test_a_header_larger_than_any_is_refused_though_the_file_has_it(path: Path) -> None:
    forge(path, named(a=entry()), b"four")
    with path.open("r+b") as file:
        file.write((MAX_HEADER + 1).to_bytes(8, "little"))
        file.truncate(2 * MAX_HEADER)  # a hole, which takes no space
    with measured() as memory, pytest.raises(InputError, match="it says that its header has 67,108,865 bytes, and the"):
        read(path)
    assert memory.total < 50_000


@pytest.mark.usefixtures("_traced")
@pytest.mark.parametrize("bomb", ["[],", "{},", "1,", '"",', "[[],[]],"])
def test_a_header_of_too_many_parts_is_refused_before_it_is_parsed(path: Path, bomb: str) -> None:
    forge(path, START + ',"a":[' + bomb * (MAX_ITEMS + 1) + "0]}")
    size = path.stat().st_size
    with measured() as memory, pytest.raises(InputError, match="was not read: its header has more parts than any"):
        read(path)
    assert memory.total < size + 50_000


@pytest.mark.usefixtures("_traced")
def test_deeply_nested_json_takes_little_memory(path: Path) -> None:
    forge(path, named(a="[" * (MAX_ITEMS - 10)))
    with measured() as memory, pytest.raises(InputError, match=HEADER):
        read(path)
    assert memory.total < 4 * path.stat().st_size


@pytest.mark.usefixtures("_traced")
def test_a_header_that_speaks_of_more_than_the_file_has_allocates_nothing(path: Path) -> None:
    forge(path, named(a=entry(shape=f"[{2**40}]", offsets=f"[0,{2**42}]")), b"four")
    with measured() as memory, pytest.raises(InputError, match="its header speaks of 4,398,046,511,104"):
        read(path)
    assert memory.total < 50_000


def sparse() -> Tensor:
    return torch.ones(2, 2).to_sparse()


def compressed() -> Tensor:
    return torch.ones(2, 2).to_sparse_csr()


def quantized() -> Tensor:
    return torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.quint8)


def float8_of_another_kind() -> Tensor:
    return torch.ones(2).to(torch.float8_e4m3fnuz)


def wide_complex() -> Tensor:
    return torch.ones(2, dtype=torch.complex128)


@pytest.mark.filterwarnings("ignore")  # torch warns of what it makes here
@pytest.mark.parametrize("make", [sparse, compressed, quantized, float8_of_another_kind, wide_complex])
def test_tensors_that_safetensors_cannot_hold_are_refused(path: Path, make: Callable[[], Tensor]) -> None:
    path.write_bytes(b"old")
    with pytest.raises(InputError, match=r"safetensors cannot hold the tensor 'b' \(torch\."):
        write(path, {"a": torch.ones(1), "b": make()}, "")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_a_tensor_without_values_is_refused(path: Path) -> None:
    with pytest.raises(InputError, match="'a'"):
        write(path, {"a": torch.ones(2, device="meta")}, "")


@pytest.mark.parametrize(
    "tensor",
    [
        pytest.param(torch.tensor([1 + 2j], dtype=torch.complex64).conj(), id="conjugate"),
        pytest.param(torch.tensor([1 + 2j], dtype=torch.complex64).conj().imag, id="negative"),
        pytest.param(torch.arange(4.0)[1::4], id="one value of a strided view"),
        pytest.param(torch.arange(4.0).reshape(2, 2)[:1, 1:].T, id="one value of a matrix"),
    ],
)
def test_a_view_comes_back(path: Path, tensor: Tensor) -> None:
    write(path, {"a": tensor}, "")
    assert torch.equal(read(path)[0]["a"], tensor)


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


Corruption = Callable[[random.Random, bytes], bytes]


def flip(rng: random.Random, raw: bytes) -> bytes:
    at = place(rng, raw)
    return raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :]


def cut(rng: random.Random, raw: bytes) -> bytes:
    start = place(rng, raw)
    return raw[:start] + raw[start + rng.choice([1, 4, 8, rng.randrange(1, 200), len(raw)]) :]


def insert(rng: random.Random, raw: bytes) -> bytes:
    at = rng.choice([place(rng, raw), len(raw)])
    return raw[:at] + rng.randbytes(rng.choice([1, 4, 8, rng.randrange(1, 200)])) + raw[at:]


def swap(rng: random.Random, raw: bytes) -> bytes:
    size = rng.choice([1, 4, 8, 64, 256])
    first, second = sorted(min(place(rng, raw), len(raw) - size) for _ in range(2))
    second = max(second, first + size)
    return b"".join(
        (
            raw[:first],
            raw[second : second + size],
            raw[first + size : second],
            raw[first : first + size],
            raw[second + size :],
        )
    )


def replace(rng: random.Random, raw: bytes) -> bytes:
    at = place(rng, raw)
    end = at + rng.choice([1, 1, 4, 8, rng.randrange(1, 200)])
    new = [rng.randbytes(1), bytes([rng.choice(b'0123456789e.-[]{}",:')]), b"\0"]
    return raw[:at] + b"".join(rng.choice(new) for _ in raw[at:end]) + raw[end:]


def place(rng: random.Random, raw: bytes) -> int:
    """Somewhere in the file, and as often in its header, where more can go wrong."""
    return rng.randrange(rng.choice([40, 8 + int.from_bytes(raw[:8], "little"), len(raw)]))


@pytest.mark.usefixtures("_traced")
@pytest.mark.parametrize("corrupt", [flip, cut, insert, swap, replace])
def test_no_damage_goes_unnoticed_or_takes_memory(path: Path, corrupt: Corruption) -> None:
    text, tensors = state_tree.encode(checkpoint())
    write(path, tensors, text)
    raw = path.read_bytes()
    with measured() as memory:
        read(path)
    allowed = 2 * len(raw) + 150_000
    assert sum(tensor.nbytes for tensor in tensors.values()) == memory.tensors
    assert memory.total < allowed
    tried = 0
    for seed in range(300):
        damaged = corrupt(random.Random(seed), raw)
        if damaged == raw:
            continue
        path.write_bytes(damaged)
        with measured() as memory, pytest.raises(InputError, match=r"damaged|no checkpoint of lit_dist|was not read"):
            read(path)
        assert memory.total < allowed, seed
        tried += 1
    assert tried > 200
