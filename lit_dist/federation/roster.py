"""Roster: the sites of a run, who of them answers, and what becomes of the run where one does not."""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Literal

from lightning.pytorch.utilities import rank_zero_warn

from lit_dist.federation.engine import Engine, NoAnswerError
from lit_dist.federation.validate_answer import check_greeting, check_settings, compare, refused
from lit_dist.federation.wire import SMALL, TEXT, Message, Tree, pack, size, unpack
from lit_dist.provenance.run_settings import versions
from lit_dist.utils.atomic_write import replacing
from lit_dist.utils.errors import InputError
from lit_dist.utils.plain_bounds import said

Absent = Literal["retry", "skip"]
Weights = Literal["images", "equal"]

GREETINGS = "sites.json"
_AT_ONCE = 16  # questions, each of which has the weights
_WITH_WEIGHTS = ("train", "fit")
_OTHERS = {"estimate": TEXT}  # bytes


class Roster:
    """Asks the sites.

    Args:
        engine: Carries questions and answers.
        sites: The names of the sites, in the order of the run.
        absent: What happens where a site does not answer: ``"retry"`` ends the run, to be resumed when the site is
            there again; ``"skip"`` continues without it. It is then asked again when a visit there is due.
        weights: What a site counts in values of all sites together: its ``"images"``, or ``"equal"``.

    Attributes:
        missing: The sites that did not answer when they were asked last.
        greetings: What each site has said of itself.
        settings: The SHA-256 of the settings on which the sites agree.
    """

    def __init__(
        self, engine: Engine, sites: Sequence[str], absent: Absent = "retry", weights: Weights = "images"
    ) -> None:
        self.engine = engine
        self.sites = list(sites)
        self.absent = absent
        self.weights = weights
        self.missing: list[str] = []
        self.greetings: dict[str, Tree] = {}
        self.settings = ""

    @property
    def there(self) -> list[str]:
        """The sites that answer, as far as is known."""
        return [site for site in self.sites if site not in self.missing]

    def ask(self, question: str, content: Tree, site: str | None = None) -> dict[str, Tree]:
        """Ask a question.

        Args:
            question: Its name.
            content: What belongs to it.
            site: The only site to ask, also if it is missing; None asks all that are there.

        Returns:
            The answers by site, in the order of the run; without those that are missing.

        Raises:
            NoAnswerError: If a site does not answer, and the run is not to continue without it; or if none does.
            InputError: If a site refuses, or its answer cannot be read.
        """
        asked = self.there if site is None else [site]
        message = pack(content)
        try:
            found = self.engine.ask(question, message, asked)
        except NoAnswerError as error:
            if self.absent != "skip" or error.over:
                raise
            found = error.answers
            self.missing += [site for site in error.silent if site not in self.missing]
            silent = ", ".join(map(repr, error.silent))
            rank_zero_warn(f"site {silent} gave no answer to {question!r}; the run continues without it")
        self.missing = [each for each in self.missing if each not in found]
        if not self.there:
            raise NoAnswerError("no site answers any more; resume with --resume when they are there again", self.sites)
        # Weights, and an optimizer's state of twice their size, if that is carried.
        most = 4 * size(message) + TEXT if question in _WITH_WEIGHTS else _OTHERS.get(question, SMALL)
        del message
        return {each: _read(each, found.pop(each), most) for each in asked if each in found}

    def ask_each(
        self,
        question: str,
        contents: Mapping[str, Tree],
        received: Callable[[str, Tree | None], Mapping[str, Tree] | None],
    ) -> None:
        """Ask some sites, each a question of its own; at the same time, if the engine can.

        Args:
            question: Its name.
            contents: What belongs to it, by site.
            received: Called with each answer as it comes; with None for a site that is missing. What it gives is asked,
                too, of sites that have none of these questions to answer.

        Raises:
            NoAnswerError: If a site does not answer, and the run is not to continue without it.
            InputError: If a site refuses, or its answer cannot be read; all that was asked has been received then.
        """
        if not getattr(self.engine, "at_once", False):
            waiting = dict(contents)
            while waiting:
                site = next(iter(waiting))
                waiting |= received(site, self.ask(question, waiting.pop(site), site).get(site)) or {}
            return
        problems: list[InputError] = []
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            asked = {pool.submit(self.ask, question, content, site): site for site, content in contents.items()}
            while asked:
                for future in wait(asked, return_when=FIRST_COMPLETED).done:
                    site = asked.pop(future)
                    try:
                        more = received(site, future.result().get(site)) or {}
                    except InputError as error:
                        problems.append(error)
                        continue
                    for each, content in more.items() if not problems else ():
                        asked[pool.submit(self.ask, question, content, each)] = each
        if problems:
            raise problems[0]

    def greet(self, folder: Path) -> dict[str, Tree]:
        """Ask how many images and batches there are at each site, and for the versions of the programs.

        Args:
            folder: The run's folder, which has the answer of a site that is missing now.

        Raises:
            InputError: If a site is missing that has never been there, or an answer is refused.
        """
        found = self.ask("greet", {})
        for site, answer in found.items():
            check_greeting(site, answer)
        path = folder / GREETINGS
        known: dict[str, Tree] = json.loads(path.read_text()) if self.missing and path.exists() else {}
        for site in self.missing:
            if site not in known:
                raise NoAnswerError(f"site {site!r} gives no answer, and a run begins with all its sites", [site])
        self.greetings = {site: found.get(site) or known[site] for site in self.sites}
        sizes = {site: greeting.get("batch_size") for site, greeting in self.greetings.items()}
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{site}: {size}" for site, size in sizes.items())
            rank_zero_warn(f"the sites' batch sizes differ ({told}): agree on one, unless that is meant")
        return self.greetings

    def agree(self, content: Tree) -> None:
        """Raise ``InputError`` if the programs or the settings of those that were greeted differ.

        Args:
            content: What the sites need to tell their settings.
        """
        found = self.ask("settings", content)
        for site, answer in found.items():
            check_settings(site, answer)
        programs = {site: {**self.greetings[site]["versions"], **settings} for site, settings in found.items()}
        # The server's trainer has hardware of its own, so that these would differ.
        first = next(iter(programs.values()))
        server = {
            **versions(),
            **{name: first[name] for name in ("processes", "features", "settings") if name in first},
        }
        compare({**programs, "server": server})
        self.settings = first["settings"]

    def keep(self, folder: Path) -> None:
        """Keep in the run's folder what the sites said of themselves."""
        with replacing(folder / GREETINGS) as file:
            file.write(json.dumps(self.greetings).encode())


def _read(site: str, answer: Message, most: int) -> Tree:
    if size(answer) > most:
        raise refused(site, f"it has {size(answer)} bytes; {most} are the most")
    try:
        tree = unpack(answer)
    except InputError as error:
        raise refused(site, error) from None
    if "refused" in tree:
        raise InputError(f"site {site!r} refuses: {said(tree['refused']) or 'it gives no reason (look at its log)'}")
    return tree
