"""Parcels come in pieces, are checked byte by byte, and leave nothing behind."""

import os
from typing import Any

import pytest
import torch

from disk import largest_file
from lit_dist import InputError
from lit_dist.federation import wire

TREE: dict[str, Any] = {"weights": {"a": torch.arange(1000.0), "b": torch.zeros(0)}, "step": 3}


def test_a_message_of_many_pieces_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_PIECE", 300)
    pieces = wire.pack(TREE)
    assert {len(piece) for piece in pieces[:-1]} == {300}
    assert wire.size(pieces) > 4000
    tree = wire.unpack(pieces)
    assert torch.equal(tree["weights"]["a"], TREE["weights"]["a"])
    assert tree["step"] == 3
    with pytest.raises(InputError, match="it is damaged: its contents do not match"):
        wire.unpack([*pieces[:5], bytes(300), *pieces[6:]])
    with pytest.raises(InputError, match="it is damaged"):
        wire.unpack(pieces[:-1])


def test_what_a_killed_process_was_packing_is_gone_with_it() -> None:
    with wire._scratch(10) as file:
        assert os.readlink(f"/proc/self/fd/{file.fileno()}").endswith("(deleted)")


def test_a_full_disk_is_an_error_that_says_where() -> None:
    with largest_file(1000), pytest.raises(InputError, match="message could not be written: File too large; free some"):
        wire.pack(TREE)
