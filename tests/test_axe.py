"""axe-core is the pinned one, and what it says becomes lines; `test_browse` plants the faults."""

from pathlib import Path

import pytest

from ci import axe


def test_another_script_is_refused(tmp_path: Path) -> None:
    (tmp_path / f"axe-{axe.VERSION}.min.js").write_text("window.axe = {}")
    with pytest.raises(axe.AxeError, match="not the pinned one"):
        axe.ensure(tmp_path)


def test_a_rule_is_a_line() -> None:
    nodes = [{"target": "p", "why": "Fix:\n  it"}, {"target": "b", "why": "Fix it"}]
    lines = axe.judge("on a desk", [{"id": "rule", "help": "Do so", "nodes": nodes}])
    assert lines == ["rule, on a desk: Do so, at p, and 1 more (Fix: it)"]
