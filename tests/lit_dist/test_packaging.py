"""The rules that keep `callbacks/` and `datamodules/` importable as `lit_dist.callbacks` and `lit_dist.datamodules`."""

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = {"lit_dist": "lit_dist", "callbacks": "lit_dist.callbacks", "datamodules": "lit_dist.datamodules"}


def packages() -> dict[str, str]:
    """Every folder with an ``__init__.py`` under the source folders, by the name that it is imported by."""
    found = {"lit_dist.configs": "configs"}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("__init__.py")):
            relative = path.parent.relative_to(ROOT / folder)
            if not any((ROOT / folder / part).is_symlink() for part in [relative, *relative.parents][:-1]):
                found[".".join([package, *relative.parts])] = str(Path(folder) / relative)
    return found


def test_the_project_names_every_package() -> None:
    mapped = PROJECT["tool"]["setuptools"]["package-dir"]
    assert {name: str(Path(folder)) for name, folder in mapped.items()} == packages()
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(packages())


def test_links_make_the_checkout_importable() -> None:
    for name in ("callbacks", "datamodules", "configs"):
        link = ROOT / "lit_dist" / name
        assert link.is_symlink()
        assert link.readlink() == Path("..") / name


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_are_absolute_and_name_no_twin(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path} has a relative import"
                first = (node.module or "").partition(".")[0]
                assert first not in ("callbacks", "datamodules", "configs"), f"{path} imports the twin {node.module}"


def test_an_unknown_name_is_an_attribute_error() -> None:
    import lit_dist

    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = lit_dist.Nothing


@pytest.mark.slow
def test_wheel_and_sdist_hold_the_package_and_its_configurations_and_no_top_level_callbacks(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    tops = {name.split("/")[0] for name in names}
    assert tops == {"lit_dist", f"lit_dist-{PROJECT['project']['version']}.dist-info"}
    expected = {
        f"{package.replace('.', '/')}/{path.name}"
        for package, folder in packages().items()
        for path in (ROOT / folder).glob("*.py")
    }
    configs = {f"lit_dist/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yaml")}
    assert expected | configs | {"lit_dist/py.typed"} <= names
    assert len(configs) >= 4
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as sdist:
        packed = {name.partition("/")[2] for name in sdist.getnames()}
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks" / "README.md"]
    assert {str(page.relative_to(ROOT)) for page in pages} <= packed
    for page in pages:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert str((page.parent / link).resolve().relative_to(ROOT)) in packed, f"{page} links to {link}"


def test_every_dependency_and_ignored_rule_has_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    block = text.split("dependencies = [")[1].split("\n]")[0] + text.split("\nignore = [")[1].split("\n]")[0]
    for line in block.splitlines():
        if line.strip():
            assert "#" in line, f"no reason beside {line}"


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["project"]["version"]
    assert PROJECT["project"]["urls"]["Paper"].endswith(citation["references"][0]["doi"])


def test_the_licence_of_every_dependency_is_named() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    needed = PROJECT["project"]["dependencies"] + extras["report"] + extras["dicom"] + extras["nvflare"]
    names = {re.split(r"[\[<>=]", each)[0] for each in needed}
    told = set(re.findall(r"[\w-]+", (ROOT / "THIRD_PARTY.md").read_text().partition("No collection")[0]))
    assert names <= told, sorted(names - told)


def test_the_workflows_are_read_and_test_what_the_project_allows() -> None:
    texts = {path.name: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").glob("*.yml")}
    versions = texts["ci.yml"]["jobs"]["fast"]["strategy"]["matrix"]["python"]
    least, most = re.findall(r"3\.(\d+)", PROJECT["project"]["requires-python"])
    assert versions == [f"3.{minor}" for minor in range(int(least) + 1, int(most))]
    assert "id-token" in texts["publish.yml"]["jobs"]["publish"]["permissions"]
