"""What the benchmarks share: ways to do the same work, run in turns, each in a process of its own, and their record."""

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "torchvision", "lightning")

Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Way:
    """A way to do the work.

    Attributes:
        name: What the table calls it.
        command: The words of its process; the last line that it prints is an object of JSON, with what it found.
        environment: What its environment has besides this process's.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


def in_turns(ways: Sequence[Way], repeats: int) -> dict[str, list[Facts]]:
    """Do the work in each way, one after another, so many times.

    Returns:
        By the ways' names what each run printed, and its ``whole`` (seconds of its process), ``cpu`` (seconds of all
        its processes), ``memory`` (greatest sum of its processes' shares of memory, megabytes) and ``owned`` (the same
        without files, such as libraries, of which a share depends on what else runs on the machine).
    """
    found: dict[str, list[Facts]] = {way.name: [] for way in ways}
    for turn in range(repeats):
        for way in ways:
            found[way.name].append(measure(way))
            print(f"{turn + 1}/{repeats} {way.name}: {found[way.name][-1]}", file=sys.stderr, flush=True)
    return found


def measure(way: Way) -> Facts:
    """Do the work once."""
    # More threads than cores of one's own disturb each other.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", **way.environment}
    paths = [str(ROOT), str(ROOT / "benchmarks"), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    start = time.perf_counter()
    with subprocess.Popen(
        way.command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        watch = Watch(process.pid)
        watch.start()
        output, errors = process.communicate()
        whole = time.perf_counter() - start
        watch.end.set()
        watch.join()
    if process.returncode:
        raise SystemExit(f"{way.name} failed:\n{errors[-3000:]}")
    own: Facts = json.loads(output.strip().splitlines()[-1])
    found = {"whole": whole, "cpu": sum(watch.cpu.values()), "memory": watch.memory / 1e6, "owned": watch.owned / 1e6}
    return {**own, **found}


class Watch(threading.Thread):
    """Looks at a process and all below it until it is told to end.

    Attributes:
        memory: The greatest sum of their shares of memory, bytes.
        owned: The same without pages of files.
        cpu: The seconds of the processor that each has had, by its id.
        end: Tells it to end.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.memory, self.owned, self.end = pid, 0, 0, threading.Event()
        self.cpu: dict[int, float] = {}

    def run(self) -> None:
        """Look ten times a second."""
        while not self.end.wait(0.1):
            shares = owned = 0
            try:
                family = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
            for process in family:
                try:
                    share = _shares(process.pid)  # pages that several share are counted once
                    shares += share["Pss"]
                    owned += share["Pss_Anon"] + share["Pss_Shmem"]
                    times = process.cpu_times()
                    self.cpu[process.pid] = times.user + times.system
                except (psutil.NoSuchProcess, OSError, KeyError):
                    continue
            self.memory, self.owned = max(self.memory, shares), max(self.owned, owned)


def _shares(pid: int) -> dict[str, int]:
    """A process's shares of memory in bytes, by the kernel's names."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: 1024 * int(size.split()[0]) for name, _, size in (line.partition(":") for line in lines)}


# -- what is written down ----------------------------------------------------------------------------------------------


def ratios(found: Mapping[str, Sequence[Facts]], name: str, base: str, fact: str) -> list[float]:
    """A fact of each run of one way, relative to that of the base in the same turn."""
    return [run[fact] / other[fact] for run, other in zip(found[name], found[base], strict=True)]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, with the least and the greatest value."""
    if min(values) == max(values):
        return f"{values[0]:.{digits}f}"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def median(found: Sequence[Facts], fact: str) -> float:
    """The median of a fact over the runs."""
    return float(statistics.median(run[fact] for run in found))


def machine() -> Facts:
    """What the numbers were measured on."""
    model = platform.processor() or "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory": f"{psutil.virtual_memory().total / 1e9:.0f} GB",
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def write(name: str, found: object, rows: Sequence[Sequence[str]], before: Facts, note: str = "") -> None:
    """Write a benchmark's record: its JSON file, and its table in ``docs/performance.md``.

    Args:
        name: The benchmark; the page has the lines ``<!-- name -->`` and ``<!-- end of name -->``.
        found: All that was measured.
        rows: The table; the first row is its head.
        before: The machine, as it was before the benchmark.
        note: What the reader is told below the table.
    """
    # Where an interpreter lies here is of no use elsewhere.
    command = " ".join(["python", *(os.path.basename(word) if os.path.isabs(word) else word for word in sys.argv)])
    RESULTS.mkdir(exist_ok=True)
    record = {"command": command, "machine": before, "found": found}
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    head, *rest = [f"| {' | '.join(row)} |" for row in rows]
    table = "\n".join([head, "|---" * len(rows[0]) + "|", *rest])
    told = ", ".join(f"{key} {value}" for key, value in before.items())
    text = f"\n`{command}` ({told}):\n\n{table}\n" + (f"\n{note}\n" if note else "")
    page = PAGE.read_text()
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    if begin not in page or end not in page:
        raise SystemExit(f"{PAGE} has no lines {begin.strip()} and {end.strip()}")
    before_it, after_it = page.partition(begin)[0], page.partition(end)[2]
    PAGE.write_text(f"{before_it}{begin}{text}\n{end}{after_it}")
    print(table)
