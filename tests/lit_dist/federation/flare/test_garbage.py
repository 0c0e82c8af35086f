"""What was sent is let go of before the next question, though circles of references hold it."""

import gc
import warnings
import weakref
from collections.abc import Iterator

import pytest

pytest.importorskip("nvflare")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # those of the engine are not ours
    from nvflare.apis.shareable import Shareable

    from lit_dist.federation.flare.engine import FlareExecutor, collect_garbage


class Circle:
    """Holds itself, as FLARE's messages do."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture(autouse=True)
def _left_to_itself() -> Iterator[None]:
    """Python would never look for garbage by itself, as it does not for many visits."""
    gc.disable()
    yield
    gc.unfreeze()
    gc.enable()


def test_garbage_is_gone_at_once() -> None:
    for _ in range(2):
        sent = weakref.ref(Circle())
        assert sent() is not None
        collect_garbage()
        assert sent() is None


def test_a_site_lets_go_of_its_last_answer_before_it_gives_the_next() -> None:
    sent = weakref.ref(Circle())
    executor = FlareExecutor("{}")

    class Site:
        def answer(self, question: str, content: list[bytes]) -> list[bytes]:
            assert sent() is None
            return content

    executor._client = Site()  # type: ignore[assignment]
    assert executor.execute("train", Shareable({"content": [b"1"]}), None, None)["content"] == [b"1"]
