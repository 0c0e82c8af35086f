"""FedProx: keeps a visit's weights near those that came in."""

from typing_extensions import override

from lit_dist.callbacks.remedies.anchored import Anchored
from lit_dist.utils.setting_checks import check_number


class FedProx(Anchored):
    """Adds ``mu / 2 * ||w - w_in||^2`` to the loss: over the trainable parameters, where ``w_in`` came in.

    With ``mu=0`` a run is what it is without. Source: Li et al., "Federated optimization in heterogeneous networks",
    MLSys 2020, https://arxiv.org/abs/1812.06127, equation 2.

    Args:
        mu: The weight of the term, from 0.

    Raises:
        InputError: If it is negative or not finite.
    """

    def __init__(self, mu: float = 0.01) -> None:
        check_number(0, 1e6, mu=mu)
        self.mu = mu

    @override
    def strength(self, name: str) -> float:
        return self.mu
