"""How heavy a site may be for those who read it."""

from collections.abc import Iterator
from pathlib import Path

PAGE_BYTES, SITE_BYTES = 400_000, 35_000_000  # the most of a chapter's page, of all files


def excess(site: Path) -> Iterator[str]:
    """A line for each chapter above `PAGE_BYTES`, and one for a site above `SITE_BYTES`."""
    sizes = {path: path.stat().st_size for path in sorted(site.rglob("*")) if path.is_file()}
    for path, size in sizes.items():
        if path.suffix == ".html" and path.parent == site / "chapters" and size > PAGE_BYTES:
            yield f"{path.relative_to(site)} has {size:,} bytes, at most {PAGE_BYTES:,} may be"
    total = sum(sizes.values())
    if total > SITE_BYTES:
        yield f"the site has {total:,} bytes, at most {SITE_BYTES:,} may be"
