"""EarlyAnswers: what sites have answered before it is their turn in the order of visits."""

import hashlib
from pathlib import Path

from lit_dist.checkpoints import state_tree
from lit_dist.checkpoints.baton import fingerprint, read_checkpoint, write_checkpoint
from lit_dist.federation.wire import Tree
from lit_dist.utils.errors import InputError


class EarlyAnswers:
    """Keeps answers as files until their visits are due, so that a run that is killed does not ask for them again.

    Args:
        folder: Of the run alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "early_answers"
        self._silent: set[str] = set()

    def keep(self, question: Tree, answer: Tree | None) -> None:
        """Keep the answer to a question; None notes that there was none, as long as this process lives."""
        key = _key(question)
        if answer is None:
            self._silent.add(key)
        else:
            write_checkpoint({"question": key, "answer": answer}, self._path(question), finite=False)

    def has(self, question: Tree) -> bool:
        """Whether a question was asked; also where there was no answer."""
        key = _key(question)
        return key in self._silent or self._read(question).get("question") == key

    def look(self, question: Tree) -> Tree | None:
        """The answer to a question that was asked, if there was one."""
        return None if _key(question) in self._silent else self._read(question)["answer"]

    def take(self, question: Tree) -> Tree | None:
        """The answer to a question that was asked, if there was one. Those of earlier visits are let go of."""
        path = self._path(question)
        for older in self.folder.glob("*.answer"):
            if older.name < path.name:
                older.unlink()
        key = _key(question)
        if key in self._silent:
            self._silent.discard(key)
            return None
        return self._read(question)["answer"]  # type: ignore[no-any-return]

    def forget(self, question: Tree) -> None:
        """Let go of an answer that is refused."""
        self._path(question).unlink(missing_ok=True)

    def _read(self, question: Tree) -> Tree:
        path = self._path(question)
        try:
            return read_checkpoint(path, finite=False) if path.exists() else {}
        except InputError:  # the site is asked again
            return {}

    def clear(self) -> None:
        """Let go of all, when the run has ended."""
        for path in self.folder.glob("*.answer"):
            path.unlink()
        if self.folder.exists():
            self.folder.rmdir()

    def _path(self, question: Tree) -> Path:
        return self.folder / f"visit_{question['visit']:06d}.answer"


def _key(question: Tree) -> str:
    """Tells a question from any other."""
    text, tensors = state_tree.encode(question)
    return hashlib.sha256(f"{text}{fingerprint(tensors)[0]}".encode()).hexdigest()
