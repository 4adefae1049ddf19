"""The laws of zotk by name: as plain fields for JSON, and back."""

import dataclasses
from typing import Any

from zotk.estimators import guided, laws, masked, matrices
from zotk.estimators.directions import Law
from zotk.estimators.given import fingerprint

__all__ = ["LAWS", "law_from", "plain_law"]

LAWS: dict[str, type[Law]] = {
    name: getattr(room, name) for room in (laws, matrices, masked, guided) for name in room.__all__
}


def plain_law(law: Law) -> dict[str, Any]:
    """Name and options; of tensors their fingerprint. Raises TypeError for a law not of zotk."""
    name = type(law).__name__
    if LAWS.get(name) is not type(law):
        raise TypeError(f"directions is {law!r}; a law of zotk is needed for JSON")
    plain: dict[str, Any] = {"law": name}
    for option in dataclasses.fields(law):  # type: ignore[arg-type]
        value = getattr(law, option.name)
        if isinstance(value, Law):
            plain["inner"] = plain_law(value)  # "law" is the name
        elif option.name in ("mask", "direction"):
            plain[option.name] = {"fingerprint": fingerprint(value)}
        else:
            plain[option.name] = value
    return plain


def law_from(plain: dict[str, Any], given: Law | None = None) -> Law:
    """The law of plain fields; the one that is given, if these are its own.

    Raises ValueError for anything else, and where tensors are needed and no law is given.
    """
    if given is not None:
        if plain_law(given) != plain:
            raise ValueError(f"the record was made with directions {plain}; {given} is given")
        return given
    options = dict(plain)
    name = options.pop("law")
    if name not in LAWS:
        raise ValueError(f"{name!r} is no law of zotk")
    for key, value in options.items():
        if isinstance(value, dict) and "fingerprint" in value:
            raise ValueError(
                f"the record has the {key} of {name} by its fingerprint {value['fingerprint']} "
                "only; give directions=, the law it was made with"
            )
    return LAWS[name](**options)
