"""Values that a chapter's text quotes."""

from typing import Any

__all__ = ["glue"]

UNSEEN = "application/papermill.record/"  # the prefix of what is kept and not shown


def glue(name: str, value: Any, display: bool = True) -> None:
    """Keep a value in a cell's output, where MyST's ``{glue}`name``` finds it.

    The record is the one of `myst_nb.glue`, which a notebook outside the book need not have. With
    ``display=False`` the value is kept only.
    """
    from IPython.core.formatters import format_display_data
    from IPython.display import display as show

    bundle, metadata = format_display_data(value)
    prefix = "" if display else UNSEEN
    metadata["scrapbook"] = {"name": name, "mime_prefix": prefix}
    show({prefix + kind: text for kind, text in bundle.items()}, raw=True, metadata=metadata)
