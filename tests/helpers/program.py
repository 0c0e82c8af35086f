"""``lit-dist``, and scripts, in processes that begin at once: each is forked from one that has imported everything.

``python -m lit_dist`` is run by a few tests as it is; the others would mostly wait for its imports.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["lit_dist.study.execute"])


def start(words: list[str], output: Path, errors: Path | None = None, folder: Path | None = None) -> BaseProcess:
    """Start a command in a process group of its own; what it says is added to files.

    Its first word is one of ``lit-dist``, or the path of a script that ends with ``.py``.
    """
    where = (str(folder or Path.cwd()), str(output), str(errors or output))
    process = _processes.Process(target=_be, args=(words, dict(os.environ), *map(os.path.abspath, where)))
    process.start()
    return process


def run(*words: str | Path, timeout: float = 200) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end.

    Raises:
        subprocess.TimeoutExpired: If it takes longer; it is killed then.
    """
    output, errors = Path("output.txt"), Path("errors.txt")
    for path in (output, errors):
        path.write_bytes(b"")
    process = start([str(word) for word in words], output, errors)
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        raise subprocess.TimeoutExpired(words, timeout)
    return subprocess.CompletedProcess(words, process.exitcode, output.read_text(), errors.read_text())


def _be(words: list[str], environment: dict[str, str], folder: str, output: str, errors: str) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for stream, path in ((sys.stdout, output), (sys.stderr, errors)):
        with open(path, "ab") as file:
            os.dup2(file.fileno(), stream.fileno())
    if words[0].endswith(".py"):
        sys.argv = words
        sys.path.insert(0, str(Path(words[0]).parent))
        runpy.run_path(words[0], run_name="__main__")
        return
    # By its name Lightning starts further processes of the same command.
    sys.argv = [str(Path(sys.executable).with_name("lit-dist")), *words]
    from lit_dist.cli.main import main

    main()
