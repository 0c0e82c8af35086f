"""Engine: what carries questions to the sites and their answers back; all that a federation needs of one."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from lit_dist.federation.wire import Message
from lit_dist.utils.errors import InputError


class NoAnswerError(InputError):
    """Some sites did not answer; the run can be resumed when they are there again.

    Args:
        message: What happened.
        silent: The sites that did not answer.
        answers: What the others answered.
        over: Whether the engine itself has come to its end, and carries no further question.
    """

    def __init__(
        self, message: str, silent: Sequence[str] = (), answers: Mapping[str, Message] | None = None, over: bool = False
    ) -> None:
        super().__init__(message)
        self.silent = list(silent)
        self.answers = dict(answers or {})
        self.over = over


class Engine(Protocol):
    """Carries questions and answers.

    One that has an attribute ``at_once``, which is true, is asked by several threads at the same time.
    """

    def ask(self, question: str, content: Message, sites: Sequence[str]) -> dict[str, Message]:
        """Ask some sites a question, all at once, and wait for every answer.

        Args:
            question: Its name.
            content: What belongs to it.
            sites: The names of the sites.

        Returns:
            The answers by site.

        Raises:
            NoAnswerError: If a site does not answer.
        """
        ...
