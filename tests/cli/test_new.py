import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from grasp_bench import plugins, templates
from grasp_bench.cli import app
from grasp_bench.errors import UserError

ROOT = Path(__file__).parents[2]
KINDS = ("method", "guidance", "task", "extractor", "metric", "backbone")
LONG = "a-very-long-name-of-thirty-ab"
HEAVY = ("torch", "diffusers", "transformers", "pandas", "scipy", "sklearn")


def new(*arguments: str | Path):
    return CliRunner().invoke(app, ["new", *map(str, arguments)])


def mistake(*arguments: str | Path) -> str:
    result = new(*arguments)
    assert isinstance(result.exception, UserError), result.output
    return str(result.exception)


def tool(name: str, *arguments: str | Path) -> None:
    """Run a tool of Python's with this project's settings."""
    pytest.importorskip(name)
    command = [sys.executable, "-m", name, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_has_code_tests_a_readme_and_an_entry_point(kind: str) -> None:
    shown = new(kind, "north-star")
    assert shown.exit_code == 0, shown.exception
    package = Path("north-star")
    files = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    expected = {"pyproject.toml", "README.md", "src/north_star/__init__.py", "tests/test_north_star.py"}
    assert files == expected | ({"src/north_star/adapter.py"} if kind == "method" else set())
    assert not [path for path in package.rglob("*.*") if path.is_file() and "$" in path.read_text()]
    declared = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    assert declared["name"] == "north-star"
    value = declared["entry-points"][f"grasp_bench.{plugins.BY_SINGULAR[kind]}"]["north-star"]
    module, _, name = value.partition(":")
    source = ast.parse((package / "src" / module / "__init__.py").read_text())
    assert name in [node.name for node in source.body if isinstance(node, ast.ClassDef)]
    for command in ("pip install -e north-star", f"grasp-bench check {kind} north-star", "--budget smoke"):
        assert command in shown.output


def test_a_package_goes_where_it_is_told(folder: Path) -> None:
    assert new("method", "far", "--dir", "a/b c").exit_code == 0
    assert "pip install -e 'a/b c/d/far'" in new("guidance", "far", "--dir", "a/b c/d").output
    assert {path.name for path in (folder / "a" / "b c").iterdir()} == {"far", "d"}


@pytest.mark.parametrize(
    "name", ["", "My-Method", "my_method", "x-", "a--b", "1st", "../x", "a b", "é", "a" * 31, "my-method\n"]
)
def test_a_name_that_no_package_can_have(name: str, folder: Path) -> None:
    assert "lower-case letters, digits and single hyphens" in mistake("method", name)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("kind", "name", "why"),
    [
        ("method", "grasp", "grasp-bench has a method of that name"),
        ("guidance", "cfg", "grasp-bench has a guidance of that name"),
        ("task", "class", "keyword of Python"),
        ("task", "json", "module json"),
        ("method", "torch", "module torch"),
        ("extractor", "scikit-learn", "would hide the installed package"),
        ("task", "birds.toml", "`grasp-bench new task --path birds.toml`"),
    ],
)
def test_a_name_that_is_taken(kind: str, name: str, why: str, folder: Path) -> None:
    assert why in mistake(kind, name)
    assert not list(folder.iterdir())


def test_what_is_there_stays(folder: Path) -> None:
    Path("mine").mkdir()
    Path("mine/notes").write_text("keep")
    Path("dangling").symlink_to("nowhere")
    Path("file").write_text("keep")
    for name in ("mine", "dangling", "file"):
        assert "is there already" in mistake("method", name)
    assert Path("mine/notes").read_text() == Path("file").read_text() == "keep"
    assert "cannot be written" in mistake("method", "within", "--dir", "file")
    assert {path.name for path in folder.iterdir()} == {"mine", "dangling", "file"}


def test_a_package_is_written_whole_or_not_at_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        if path.name == "README.md":
            raise UserError("the disk is full")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    monkeypatch.setattr(templates, "write_bytes", full)
    assert mistake("method", "half") == "the disk is full"
    assert not list(folder.iterdir())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["method", "guidance", "task", "extractor", "field", "none", "settings", "path"])
def test_no_class_hides_what_its_module_imports(kind: str, name: str) -> None:
    source = ast.parse(templates.package(kind, name)[f"src/{name}/__init__.py"])
    imported = {alias.name for node in ast.walk(source) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert not imported & {node.name for node in source.body if isinstance(node, ast.ClassDef)}


def test_a_guidance_says_how_many_evaluations_a_step_takes() -> None:
    module: dict[str, object] = {"__name__": "my_rule"}
    exec(templates.package("guidance", "my-rule")["src/my_rule/__init__.py"], module)
    guidance = module["MyRuleGuidance"]
    for scale, steps in ((2.0, 5), (1.0, 10)):
        assert guidance(guidance.Config(guidance_scale=scale)).steps_within(10) == steps


def test_a_task_without_a_name_is_a_file(folder: Path) -> None:
    assert "grasp-bench prepare --task mytask.toml" in new("task").output
    described = tomllib.loads(Path("mytask.toml").read_text())
    assert described["name"] == "mytask"
    assert described["prompt"] == "a photo of {class}"
    assert "is there already" in mistake("task")
    assert new("task", "--path", "sub/My Birds.toml").exit_code == 0
    assert tomllib.loads(Path("sub/My Birds.toml").read_text())["name"] == "my-birds"
    assert "wrote my[x].toml;" in new("task", "--path", "my[x].toml").output
    assert "wrote a[/b].toml;" in new("task", "--path", "a[/b].toml").output


def test_options_that_do_not_go_together(folder: Path) -> None:
    assert "without a name" in mistake("task", "birds", "--path", "birds.toml")
    assert "--path there/mytask.toml" in mistake("task", "--dir", "there")
    assert "`grasp-bench new method my-method`" in mistake("method")
    assert "there is a template of: task, method, guidance, extractor, metric, backbone" in mistake("backbon", "mine")
    assert not list(folder.iterdir())


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from grasp_bench.cli import main; sys.argv = ['grasp-bench', 'new', 'method', 'light']\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        f"found = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    assert Path("light").is_dir()


def test_packages_pass_ruff(folder: Path) -> None:
    for kind in KINDS:
        for name in (f"my-{kind}", "x", LONG):
            templates.write_package(kind, name, folder / kind)
    tool("ruff", "check", "--config", ROOT / "pyproject.toml", folder)
    tool("ruff", "format", "--check", "--config", ROOT / "pyproject.toml", folder)


@pytest.mark.slow
def test_packages_pass_strict_type_checks(folder: Path) -> None:
    packages = [templates.write_package(kind, f"my-{kind}", folder) for kind in KINDS]
    tool("mypy", "--config-file", ROOT / "pyproject.toml", *(package / "src" for package in packages))
