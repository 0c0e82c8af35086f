import gc

import pytest

from lit_dist.datamodules.label_table import collector_paused


def test_python_searches_again_after_the_block_also_after_an_error() -> None:
    def fails() -> None:
        with collector_paused():
            assert not gc.isenabled()
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert gc.isenabled()


def test_who_has_switched_it_off_keeps_it_off() -> None:
    gc.disable()
    try:
        with collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
