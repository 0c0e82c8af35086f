"""What an object holds under names of its own."""

from typing import Any


def own_attributes(value: Any) -> dict[str, Any]:
    """The attributes of an object by name, also those in the slots of its classes."""
    slots = [vars(kind).get("__slots__", ()) for kind in type(value).__mro__]
    names = [name for each in slots for name in ([each] if isinstance(each, str) else each)]
    in_slots = {name: getattr(value, name) for name in names if not name.startswith("__") and hasattr(value, name)}
    return {**getattr(value, "__dict__", {}), **in_slots}
