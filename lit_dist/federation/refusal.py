"""Refusal: what a site that takes no part in a run says of its reason, and what stays in its log."""

import logging

from lit_dist.federation.wire import Message, pack
from lit_dist.utils.errors import InputError

UNSAID = "the site's data or settings could not be used; its own log says why"
"""What leaves a site of an error that is no ``Refusal``: its text may have paths in it, or names of patients' files."""

_log = logging.getLogger(__name__)


class Refusal(InputError):
    """A reason that may leave the site: it names nothing but the run's settings, the site's policy, and counts."""


def refusal(error: InputError) -> Message:
    """The answer of a site that takes no part; the whole reason is in the site's log."""
    _log.error("this site takes no part: %s", error, exc_info=error.__cause__)
    return pack({"refused": str(error) if isinstance(error, Refusal) else UNSAID})
