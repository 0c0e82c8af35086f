"""The extras of the installation, which only some work needs, and the sentence where one is missing."""

from importlib.util import find_spec

_PACKAGES = {"report": "matplotlib", "dicom": "pydicom", "crate": "rocrate", "nvflare": "nvflare"}
"""Each extra that a command may need, by the package that tells whether it is installed."""


class MissingExtraError(ImportError):
    """An extra is not installed.

    It is no ``ValueError``, so that it ends the work, and is not taken for a fault of the file that was being read.

    Args:
        extra: The extra.
        what: What needs it, as the beginning of a sentence.
    """

    def __init__(self, extra: str, what: str) -> None:
        super().__init__(f'{what} needs the extra `{extra}`, which is not installed: pip install "lit_dist[{extra}]"')


def has(extra: str, package: str = "") -> bool:
    """Whether an extra is installed, as a package of it tells; nothing of it is imported."""
    return find_spec(package or _PACKAGES[extra]) is not None


def need(extra: str, what: str, package: str = "") -> None:
    """Refuse work that an extra is missing for.

    Args:
        extra: The extra.
        what: What needs it, as the beginning of a sentence.
        package: The package of it that is needed, which an earlier release may not have brought.

    Raises:
        MissingExtraError: If it is not installed.
    """
    if not has(extra, package):
        raise MissingExtraError(extra, what)
