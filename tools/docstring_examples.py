"""An extension of Griffe: a docstring's ``Example:`` is read as ``Examples:``, the only name it knows for doctests."""

from typing import Any

from griffe import Extension, Object


class DocstringExamples(Extension):
    """Doctests are shown as code."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Rename the section of an object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
