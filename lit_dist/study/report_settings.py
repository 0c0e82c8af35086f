"""What a study's report is set to, which changes no run."""

from dataclasses import dataclass

from lit_dist.utils.errors import InputError


@dataclass(frozen=True)
class ReportSettings:
    """How the threshold of the report's sensitivity and specificity is chosen, on validation records.

    Without either, it is the one with the greatest sum of both (Youden's index).

    Attributes:
        sensitivity: The sensitivity that it shall reach on the validation records, such as 0.9 for a screening.
        specificity: The specificity that it shall reach there.
    """

    sensitivity: float | None = None
    specificity: float | None = None

    def __post_init__(self) -> None:
        """Check what the types do not say."""
        for name in ("sensitivity", "specificity"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise InputError(f"report.{name}={value} is not above 0 and at most 1")
        if self.sensitivity is not None and self.specificity is not None:
            raise InputError("report sets sensitivity and specificity, but one threshold has one of them: set one")

    def __str__(self) -> str:
        """How the threshold is chosen, as it stands after "chosen"."""
        for name in ("sensitivity", "specificity"):
            value = getattr(self, name)
            if value is not None:
                return f"for a {name} of {value:g} on the validation records"
        return "by Youden's index on the validation records"
