"""The address that programs import ``InputError`` from."""

from lit_dist.utils.errors import InputError

__all__ = ["InputError"]
