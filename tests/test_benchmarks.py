"""Benchmarks that no other test runs are run here at tiny sizes, without checking their figures."""

import ast
import pkgutil
import sys
from pathlib import Path

import pytest

from tiny_run import write_pictures

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def imported_names(script: Path) -> list[str]:
    """All that a script imports from tunit, such as tunit.demo.PICTURES, also inside of functions."""
    return [
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(script.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tunit"
        for alias in node.names
    ]


@pytest.mark.parametrize("script", sorted(BENCHMARKS.glob("*.py")), ids=lambda script: script.name)
def test_what_benchmarks_import_from_tunit_exists(script):
    """No test runs most of them, so a name that was changed in tunit would be noticed only by their users."""
    for name in imported_names(script):
        pkgutil.resolve_name(name)


@pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="the installed package has no benchmarks")
@pytest.mark.parametrize("auto", [False, True])
def test_domains_can_be_measured_over_time_for_any_preset(tmp_path, monkeypatch, auto):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import domains

    for name in ("a", "b"):
        write_pictures(tmp_path / "pictures" / name)
    tiny = (
        "small,guide_width=4,guide_only_batch_size=4,queue_length=8,neighbours=2,overclusters=4"
        + ",domains=auto" * auto
    )
    found = domains.one_training(tiny, str(tmp_path / "pictures"), seed=0, seconds=0.01)
    assert [look["step"] for look in found["looks"]] == [1, 2, 3, 4, 5]
    assert all(0.5 <= look["accuracy"] <= 1 for look in found["looks"])
    assert len(found["divisions"]["heads"]) == 8
    assert 0.5 <= found["divisions"]["agreed"] <= 1
    summary = domains.summary([{**found, "seed": seed} for seed in range(2)])
    of_preset = summary[f"pictures {tiny}"]
    assert of_preset["seeds"] == 2
    assert of_preset["NMI"] == of_preset["NMI, lowest"] == found["looks"][-1]["NMI"]
    assert of_preset["purity, std"] == 0
    assert (found["looks"][0]["domains"] > 2) == auto  # before the number is found, E has 40 domains
    assert set(domains.trivial_baselines(str(tmp_path / "pictures"))) >= {"pixels", "colours", "outlines"}
