"""The wings of the house: imports run down the list in CONTRIBUTING.md, so there is no circle between them."""

import ast
import functools
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import lit_dist

ROOT = Path(__file__).parents[2]
FOLDERS = {"lit_dist": "lit_dist", "callbacks": "lit_dist.callbacks", "datamodules": "lit_dist.datamodules"}

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {
    "rocrate": "lit_dist/crate/pack.py",
    "matplotlib": "lit_dist/report/",
    "captum": "lit_dist/export/grad_cam.py",
    "pydicom": "datamodules/mammography/dicom.py",
    **dict.fromkeys(("nvflare", "psutil"), "lit_dist/federation/flare/"),
}
"""Where each package of an extra may be imported."""
IMPORTED_AS = {
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "typing-extensions": "typing_extensions",
}


def wings() -> dict[str, int]:
    """The height of each wing by the list in CONTRIBUTING.md; those on one line do not import each other."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    listed = re.search(r"^```wings\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert listed, "CONTRIBUTING.md has no list of the wings"
    lines = [re.match(r"(\w+(?:, \w+)*)  +\S", line) for line in listed[1].splitlines()]
    return {name: -number for number, line in enumerate(lines) if line for name in line[1].split(", ")}


def wing_of(module: str) -> str:
    """The wing of a module; of what lies beside the wings, such as ``lit_dist`` itself, nothing."""
    parts = module.split(".")
    if len(parts) == 2 and (home := lit_dist._HOMES.get(parts[1])):
        parts = ["lit_dist", *home.split(".")]
    return parts[1] if len(parts) > 1 and parts[1] in wings() else ""


def modules() -> Iterator[tuple[str, Path]]:
    """The modules of the source folders, each once."""
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            inner = path.relative_to(ROOT / folder).with_suffix("")
            if not any((ROOT / folder / each).is_symlink() for each in inner.parents):
                yield ".".join([package, *inner.parts]).removesuffix(".__init__"), path


def imports(text: str) -> Iterator[tuple[int, str]]:
    """What a module imports of lit_dist, at its beginning, within functions, and for its types, by line."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name) for name in found if name.partition(".")[0] == "lit_dist")


def upward(height: dict[str, int]) -> list[str]:
    """The imports that do not run down."""
    found = []
    for module, path in modules():
        here = wing_of(module)
        for line, name in imports(path.read_text()) if here else ():
            there = wing_of(name)
            beside = not there and name.partition(".")[2] in ("classifier", "errors")
            if beside or (there and there != here and height[there] >= height[here]):
                found.append(f"{path.relative_to(ROOT)}:{line}: {here} imports {name}")
    return found


def third_parties(text: str) -> Iterator[tuple[str, int]]:
    """The packages that a module imports, with the lines; not those for types alone."""
    nodes = list(ast.walk(ast.parse(text)))
    blocks = [node.body for node in nodes if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    for_types = [node for block in blocks for node in block]
    for node in nodes:
        if isinstance(node, ast.Import) and node not in for_types:
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node not in for_types:
            yield str(node.module).partition(".")[0], node.lineno


@functools.cache
def imported_packages() -> list[tuple[str, str, int]]:
    """Each file, what it imports of others, and in which line."""
    return [
        (str(path.relative_to(ROOT)), package, line)
        for _, path in modules()
        for package, line in third_parties(path.read_text())
    ]


def out_of_place(places: dict[str, str]) -> list[str]:
    """Where packages of an extra are imported that a module may be without."""
    found = imported_packages()
    return [f"{path}:{line}: {name}" for path, name, line in found if not path.startswith(places.get(name, ""))]


def test_the_packages_of_an_extra_are_imported_in_one_place() -> None:
    assert not out_of_place(EXTRAS)
    assert all(out_of_place({**EXTRAS, package: "lit_dist/cli"}) for package in EXTRAS)


def test_every_dependency_is_used_and_no_other() -> None:
    names = {re.split(r"[\[<>=]", each)[0] for each in PROJECT["dependencies"]}
    imported = {name for _, name, _ in imported_packages()}
    own = {*sys.stdlib_module_names, *EXTRAS, "lit_dist", "timm"}  # a message says how timm comes
    assert {IMPORTED_AS.get(name, name) for name in names} == (imported - own) | {"wandb"}  # which Lightning imports


def test_imports_run_down_the_list_of_wings() -> None:
    found = upward(wings())
    assert not found, "\n".join(found)


def test_every_package_is_a_wing_of_the_list_and_every_wing_is_there() -> None:
    packages = {path.parent.name for path in (ROOT / "lit_dist").glob("*/__init__.py")} - {"configs"}
    assert packages == set(wings())


def test_an_import_that_runs_up_is_noticed() -> None:
    assert any("callbacks" in line for line in upward({**wings(), "callbacks": -99}))
    assert list(imports("def f():\n    import lit_dist.cli.main\n")) == [(2, "lit_dist.cli.main")]
    assert wing_of("lit_dist.ImageClassifier") == "models"
