"""Estimation: one line of the ledger, which says of which sites' sums a part of the weights was computed."""

from dataclasses import dataclass
from typing import ClassVar

from lit_dist.provenance.line import ESTIMATED, FIRST, Line


@dataclass(frozen=True, slots=True)
class Estimated:
    """What left each site so that a part of the weights could be computed, by site in their order.

    Attributes:
        what: The class of the module's part.
        sites: The names of the sites.
        records: How many training records the sums are of.
        parents: The SHA-256 of the sums, by the rule by which weights are hashed.
        sizes: Their bytes.
        sums: The names of the sums.
        seconds: How long it took, in seconds.
    """

    what: str
    sites: list[str]
    records: list[int]
    parents: list[str]
    sizes: list[int]
    sums: list[str]
    seconds: float


@dataclass(frozen=True, slots=True)
class Estimation(Line):
    """The record of an estimation: a part of the weights, computed before the first visit from sums of all sites.

    Attributes:
        run: The run's id.
        kind: ``"estimation"``.
        what: The class of the module's part, such as ``"TablePreparation"``.
        sites: The sites that took part, in their order.
        records: How many training records each site's sums are of.
        parents: The SHA-256 of what left each site.
        sizes: How many bytes that was.
        sums: The names of the sums that left it.
        sha256_out: The fingerprint of the weights and buffers after it, with which the first visit begins.
        seconds: The wall-clock time that it took, in seconds.
        settings: The SHA-256 of the settings that decide what a visit does.
        versions: The versions of the programs, and the number of threads.
        previous: The hash of the line before.
    """

    run: str
    kind: str
    what: str
    sites: list[str]
    records: list[int]
    parents: list[str]
    sizes: list[int]
    sums: list[str]
    sha256_out: str
    seconds: float
    settings: str
    versions: dict[str, str]
    previous: str = FIRST

    facts: ClassVar[tuple[str, ...]] = ("run", "what", "sites", "records", "parents", "sums", "sha256_out")

    @property
    def name(self) -> str:
        """The estimation, as text."""
        return f"the estimation of {self.what}"

    def check(self) -> None:
        """Raise ``ValueError`` for values that no run writes."""
        if self.kind != ESTIMATED:
            raise ValueError("it is not an estimation that a run writes")
        if not 0 < len(self.sites) == len(self.records) == len(self.parents) == len(self.sizes):
            raise ValueError("its sites, records, parents and sizes are not as many")
        if len(set(self.sites)) < len(self.sites):
            raise ValueError("it names a site twice")
