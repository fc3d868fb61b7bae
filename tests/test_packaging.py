"""What is built and installed is whole: the wheel has all that the checkout has, and works without it."""

import ast
import configparser
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from grasp_bench import __version__, plugins

ROOT = Path(__file__).parents[1]
SOURCES = ("grasp_bench", "baselines", "tasks", "pyproject.toml", "README.md", "LICENSE")


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", *arguments]
    subprocess.run(command, check=True, env=os.environ | {"PIP_NO_INDEX": "1"})


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("packaging")
    copy = folder / "copy"
    copy.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder / "dist", copy)
    (built,) = (folder / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def site(wheel) -> Path:
    """A folder into which the wheel is installed."""
    pip("install", "--no-deps", "--target", wheel.parents[1] / "site", wheel)
    return wheel.parents[1] / "site"


def python(site: Path, *arguments: str, folder: Path) -> str:
    """What Python prints when run in ``folder``, where ``site`` comes before the checkout."""
    environment = os.environ | {"PYTHONPATH": str(site), "COLUMNS": "200"}
    command = [sys.executable, *arguments]
    shown = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


def test_every_module_and_data_file_is_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    places = {"grasp_bench": "grasp_bench", "baselines": "grasp_bench/baselines", "tasks": "grasp_bench/tasks"}
    for source, place in places.items():
        for path in (ROOT / source).rglob("*.py"):
            assert f"{place}/{path.relative_to(ROOT / source).as_posix()}" in names
    assert {
        "grasp_bench/py.typed",
        "grasp_bench/backbones/weights/tiny-sd3.safetensors",
        "grasp_bench/backbones/weights/tiny-sd3.json",
        "grasp_bench/results/site/static/page.js",
        "grasp_bench/results/site/templates/page.html.j2",
        "grasp_bench/templates/pyproject.toml.txt",
        "grasp_bench/templates/method/__init__.py.txt",
    } <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_nothing_else_is_in_the_wheel(wheel):
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"grasp_bench"}
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if "test" in Path(name).name]


def test_every_kind_of_plugin_is_registered(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
    found = configparser.ConfigParser()
    found.read_string(archive.read(name).decode())
    assert found["console_scripts"]["grasp-bench"] == "grasp_bench.cli:main"
    expected = {
        "methods": {"vanilla-ft", "lora", "moe", "grasp", "shared-adapter"},
        "tasks": {"digits-lt"},
        "backbones": {"tiny-sd3"},
        "guidance": {"none", "cfg"},
        "extractors": {"digits-cnn"},
    }
    for kind, names in expected.items():
        assert names <= set(found[f"grasp_bench.{kind}"])


def test_the_installed_package_is_used_and_lists_everything(site, tmp_path):
    code = (
        "import sys; from grasp_bench import backbones, baselines, tasks\n"
        "from grasp_bench.cli import main; sys.argv = ['grasp-bench', 'list']\n"
        "for module in (backbones, baselines, tasks): print(module.__file__)\n"
        "main()"
    )
    *_, listing = shown = python(site, "-W", "error", "-c", code, folder=tmp_path).split("\n", 3)
    for path in shown[:3]:
        assert Path(path).is_relative_to(site)
    for name in ("shared-adapter", "digits-lt", "tiny-sd3", "cfg", "digits-cnn"):
        assert f"\n{name} " in listing


@pytest.mark.slow
def test_the_installed_weights_load(site, tmp_path):
    code = (
        "from grasp_bench import plugins; backbone = plugins.load('backbones', 'tiny-sd3').load()\n"
        "print(sum(p.numel() for p in backbone.transformer.parameters()))"
    )
    assert int(python(site, "-c", code, folder=tmp_path)) > 400_000


# Parts of a package that is declared, which it re-exports in part only.
PARTS = {"pydantic_core": "pydantic", "markupsafe": "jinja2"}


def imported_modules() -> set[str]:
    """The top-level modules that the package imports, anywhere in it, other than its own and the standard library's."""
    names = set()
    for file in (ROOT / "grasp_bench").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                assert node.module is not None
                names.add(node.module.split(".")[0])
    return names - sys.stdlib_module_names - {"grasp_bench"}


def test_what_the_package_imports_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    declared = {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in project["dependencies"] + extras}
    distributions = importlib.metadata.packages_distributions()
    missing = {
        name
        for name in imported_modules()
        if not declared & {one.lower().replace("_", "-") for one in distributions.get(PARTS.get(name, name), [name])}
    }
    assert missing == set()


def test_the_citation_is_of_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == __version__
    assert cited["license"] == project["license"]
    assert [author["name"] for author in cited["authors"]] == [author["name"] for author in project["authors"]]
    assert cited["title"].startswith(f"{project['name']}: ")


def test_the_readme_says_of_citing_what_the_citation_does():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    (said,) = re.findall(r"^## Cite\n(.*?)(?:^## |\Z)", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert "(CITATION.cff)" in said
    papers = [each["value"].removeprefix("arXiv:") for paper in cited["references"] for each in paper["identifiers"]]
    assert papers == re.findall(r"arXiv (\d{4}\.\d{5})", said)
    assert [paper["url"].rpartition("/")[2] for paper in cited["references"]] == papers
    assert f"arXiv {papers[0]}" in plugins.load("methods", "grasp").paper
    for words in ("GRASP", "the papers of the methods and data that you use"):
        assert words in cited["message"]
        assert words in " ".join(said.split())
    assert f"Licence: {cited['license']}." in said


def test_the_lowest_filelock_has_leases() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (declared,) = (each for each in map(Requirement, project["dependencies"]) if each.name == "filelock")
    assert "3.29.7" not in declared.specifier, "SoftFileLease came with 3.30.0"
    assert "3.30.0" in declared.specifier
