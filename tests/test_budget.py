"""A page or a site that is too heavy is named with its size."""

from pathlib import Path

from ci.budget import PAGE_BYTES, SITE_BYTES, excess


def test_a_heavy_chapter_and_a_heavy_site_are_named(tmp_path: Path) -> None:
    chapters = tmp_path / "chapters"
    chapters.mkdir()
    (chapters / "light.html").write_bytes(bytes(PAGE_BYTES))
    (tmp_path / "atlas.html").write_bytes(bytes(PAGE_BYTES + 1))  # no chapter
    assert list(excess(tmp_path)) == []
    (chapters / "heavy.html").write_bytes(bytes(PAGE_BYTES + 1))
    assert list(excess(tmp_path)) == [
        "chapters/heavy.html has 400,001 bytes, at most 400,000 may be"
    ]
    (chapters / "heavy.html").unlink()
    (tmp_path / "explorer.svg").write_bytes(bytes(SITE_BYTES - 2 * PAGE_BYTES - 1))
    assert list(excess(tmp_path)) == []
    (tmp_path / "one").write_bytes(b"1")
    assert list(excess(tmp_path)) == ["the site has 35,000,001 bytes, at most 35,000,000 may be"]
