"""The ledger: one JSON line a visit, which says who trained what, and with which weights it began and ended."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """The record of one visit.

    Attributes:
        run: The run's id; several runs may write to one file.
        visit: The visit's number, from 0.
        cycle: The round over all sites that the visit belongs to, from 0.
        site: The site's name.
        images: The number of images that were trained on, counted each time that they were drawn.
        steps: The number of optimizer steps.
        sha256_in: The fingerprint of the weights and buffers that came in.
        sha256_out: The fingerprint of the weights and buffers that went out.
        bytes: The size of the weights and buffers, in bytes.
        seconds: The wall-clock time of the visit, in seconds.
    """

    run: str
    visit: int
    cycle: int
    site: str
    images: int
    steps: int
    sha256_in: str
    sha256_out: str
    bytes: int
    seconds: float


class Ledger:
    """A file of entries that only grows.

    Args:
        path: The file; it and its folder are made at the first entry.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, entry: Entry) -> None:
        """Add a line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(entry)) + "\n")

    def entries(self) -> list[Entry]:
        """Read all lines.

        Raises:
            ValueError: If a line is not an entry.
        """
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return [self._parse(number, line) for number, line in enumerate(lines, start=1)]

    def _parse(self, number: int, line: str) -> Entry:
        try:
            return Entry(**json.loads(line))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.path}, line {number} is not a ledger entry: {error}") from None
