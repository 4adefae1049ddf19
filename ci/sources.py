"""Coverage: every numbered statement of the sources is claimed, shown, planned or left out."""

from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ci import evidence

Sources = dict[str, Any]

_SOURCE_KEYS = {"title", "key", "items"}
_FATES = ("planned", "claims", "figures", "because")
_ITEM_KEYS = {"what", "errata", *_FATES}
_ERRATUM_KEYS = {"prints", "ours", "decided_by"}


class Erratum(NamedTuple):
    """What a source prints, what we hold instead, and the claim that decides ('': none yet)."""

    source: str
    item: str
    what: str
    place: int
    prints: str
    ours: str
    decided_by: str


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which the second of two equal keys is an error, not a silent replacement."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def load(path: Path) -> Sources:
    """Read ``sources.yml``; raises ValueError when it is no mapping or repeats a key."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds {content!r}, not sources by name")
    return content


def audit(
    sources: Sources, claims: set[str], figures: set[str], toc_chapters: set[str]
) -> list[str]:
    """Every hole in the coverage, in words: items without a fate or with an impossible one.

    ``claims``, ``figures``: ids and labels that exist; ``toc_chapters``: names of the chapters
    in the book, to which nothing can be ``planned`` any more.
    """
    problems = []
    for name, source in sources.items():
        for place, text in _audit_source(source, claims, figures, toc_chapters):
            problems.append(f"sources.yml: {name}{place} {text}")
    return problems


def _audit_source(
    source: Any, claims: set[str], figures: set[str], chapters: set[str]
) -> Iterator[tuple[str, str]]:
    for text in _malformed_source(source):
        yield "", text
    items = source.get("items") if isinstance(source, dict) else None
    for name, item in items.items() if isinstance(items, dict) else ():
        broken = list(_malformed_item(item))
        for text in broken or _dangling(item, claims, figures, chapters):
            yield f" / {name}", text


def _malformed_source(source: Any) -> Iterator[str]:
    if not isinstance(source, dict):
        yield f"is {source!r}, not a source"
        return
    for key in ("title", "key"):
        if not _is_line(source.get(key)):
            yield f"needs a {key}"
    for key in sorted(map(str, source.keys() - _SOURCE_KEYS)):
        yield f"has the unknown entry {key!r}"
    if not isinstance(source.get("items"), dict) or not source["items"]:
        yield "lists no items"


def _malformed_item(item: Any) -> Iterator[str]:
    if not isinstance(item, dict):
        yield f"is {item!r}, not an item"
        return
    for key in sorted(map(str, item.keys() - _ITEM_KEYS)):
        yield f"has the unknown entry {key!r}"
    if not _is_line(item.get("what")):
        yield "does not say what it is"
    fates = [key for key in _FATES if key in item]
    if not fates:
        yield "is a hole: no claims, figures, plan or reason"
    elif len(fates) > 1 and fates != ["claims", "figures"]:
        yield f"has {' and '.join(fates)}; one of them is enough"
    for key in ("claims", "figures"):
        names = item.get(key, ["-"])
        if not isinstance(names, list) or not names or not all(map(_is_line, names)):
            yield f"has {key} that are no list of names"
    for key in ("planned", "because"):
        if key in item and not _is_line(item[key]):
            yield f"has an empty {key!r}, or one longer than a line"
    errata = item.get("errata", [])
    for erratum in errata if isinstance(errata, list) else [errata]:
        yield from _malformed_erratum(erratum)


def _malformed_erratum(erratum: Any) -> Iterator[str]:
    if not isinstance(erratum, dict):
        yield f"has the erratum {erratum!r}"
        return
    for key in sorted(map(str, erratum.keys() - _ERRATUM_KEYS)):
        yield f"has an erratum with the unknown entry {key!r}"
    for key, what in (("prints", "the source prints"), ("ours", "we hold instead")):
        if not isinstance(erratum.get(key), str) or not erratum[key].strip():
            yield f"has an erratum that does not say what {what}"


def _dangling(
    item: Mapping[str, Any], claims: set[str], figures: set[str], chapters: set[str]
) -> Iterator[str]:
    for key, known in (("claims", claims), ("figures", figures)):
        for name in item.get(key, []):
            if name not in known:
                text = f"names {name!r}, which is not among the {key} of the book"
                yield text + evidence.meant(name, known)
    if item.get("planned") in chapters:
        yield f"is a hole: planned for {item['planned']}, which is in the book"
    for erratum in item.get("errata", []):
        if "decided_by" in erratum and erratum["decided_by"] not in claims:
            name = erratum["decided_by"]
            text = f"has an erratum decided by {name!r}, which is no claim"
            yield text + evidence.meant(str(name), claims)


def _is_line(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\n" not in value.strip()


def readable(sources: Sources) -> Sources:
    """The sources without the entries that ``audit`` cannot read, so that the rest shows."""
    return {
        name: {
            **source,
            "items": {k: v for k, v in source["items"].items() if not list(_malformed_item(v))},
        }
        for name, source in sources.items()
        if not list(_malformed_source(source))
    }


def errata(sources: Sources) -> list[Erratum]:
    """All errata that hang on items of readable sources, in their order."""
    return [
        Erratum(
            name, item_name, item["what"], place, e["prints"], e["ours"], e.get("decided_by", "")
        )
        for name, source in sources.items()
        for item_name, item in source["items"].items()
        for place, e in enumerate(item.get("errata", []))
    ]


def coverage(items: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """How many items of a source are claimed or shown, planned, and left out."""
    return {
        "covered": sum("claims" in item or "figures" in item for item in items.values()),
        "planned": sum("planned" in item for item in items.values()),
        "left out": sum("because" in item for item in items.values()),
    }
