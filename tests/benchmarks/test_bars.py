"""Bars for what a user would feel, as ratios of the processor's time with wide margins."""

import json
import sys
from pathlib import Path

import pytest

import growth
import harness
import program
from harness import Facts, Way

BENCHMARKS = Path(growth.__file__).parent
pytestmark = pytest.mark.slow


def measure(path: Path, *words: str) -> Facts:
    """As the harness does, but for the imports, in a process that begins with them."""
    process = program.start([str(path), *words], Path("output"), Path("errors"))
    assert process.pid is not None
    watch = harness.Watch(process.pid)
    watch.start()
    process.join()
    watch.end.set()
    watch.join()
    assert process.exitcode == 0, Path("errors").read_text()
    own: Facts = json.loads(Path("output").read_text().splitlines()[-1])
    return {**own, "cpu": sum(watch.cpu.values()), "owned": watch.owned}


def test_a_visit_costs_the_same_with_many_sites_and_after_many_visits() -> None:
    few, many = (measure(Path(growth.__file__), "--only", str(sites), "120") for sites in (4, 120))
    assert many["visit"] < 2 * few["visit"]
    assert many["owned"] < 1.3 * few["owned"]
    assert few["quarters"][-1] < 2 * few["quarters"][0]


def test_transfers_cost_little_beside_plain_lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIT_DIST_IMAGES", "32")
    plain, ours = (measure(BENCHMARKS / "programs" / f"{name}.py") for name in ("plain_lightning", "by_lit_dist"))
    assert ours["sha256"] == plain["sha256"]
    assert ours["cpu"] < 2 * plain["cpu"]
    assert ours["owned"] < 1.4 * plain["owned"]  # that of the plain one alone varies by a fifth


# -- the harness -------------------------------------------------------------------------------------------------------


def test_the_harness_reads_what_a_way_prints_and_what_it_takes() -> None:
    program = "x = bytearray(200_000_000)\nimport time\ntime.sleep(0.5)\nprint('noise')\nprint('{\"found\": 1}')"
    found = harness.measure(Way("memory", [sys.executable, "-c", program]))
    assert found["found"] == 1
    assert 200 < found["owned"] < found["memory"] < 300
    assert found["whole"] > 0.5
    with pytest.raises(SystemExit, match=r"(?s)broken failed:.*ZeroDivisionError"):
        harness.measure(Way("broken", [sys.executable, "-c", "1 / 0"]))


def test_the_harness_writes_the_table_between_its_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- a -->\nold\n<!-- end of a -->\nafter\n")
    monkeypatch.setattr(harness, "PAGE", page)
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(sys, "argv", ["benchmarks/a.py", "--with", sys.executable])
    found = {"loop": [{"fit": 1.0}, {"fit": 2.0}], "ours": [{"fit": 1.5}, {"fit": 2.0}]}
    shown = harness.spread(harness.ratios(found, "ours", "loop", "fit"))
    harness.write("a", found, [["", "time"], ["ours", shown]], {"cores": 2})
    text = page.read_text()
    assert text.startswith("before\n<!-- a -->\n")
    assert text.endswith("<!-- end of a -->\nafter\n")
    assert "| ours | 1.25 (1.00 to 1.50) |" in text
    assert f"`python benchmarks/a.py --with {Path(sys.executable).name}` (cores 2)" in text
    assert "old" not in text
    assert json.loads((tmp_path / "results" / "a.json").read_text())["found"] == found
