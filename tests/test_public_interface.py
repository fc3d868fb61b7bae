"""What `import grasp_bench` offers, and what it does not load before it is asked for."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import grasp_bench
from grasp_bench import UserError

LIGHT = ("Budget", "Method", "Metric", "Settings", "Task", "Tuned", "UserError", "run")
"""Names that modules of plugins import at their top, so that `grasp-bench list` stays quick."""


def printed(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_loads_nothing_heavy():
    heavy = ("torch", "pandas", "pydantic", "numpy", "rich", "matplotlib")
    assert printed(f"import sys, grasp_bench; print([name for name in {heavy} if name in sys.modules])") == "[]"


def test_contracts_load_no_torch():
    names = ", ".join(name for name in LIGHT if name in grasp_bench.__all__)
    code = f"import sys; from grasp_bench import {names}; print([m for m in ('torch', 'pandas') if m in sys.modules])"
    assert printed(code) == "[]"


@pytest.mark.parametrize("name", grasp_bench.__all__)
def test_every_name_is_there_and_documented(name: str):
    found = getattr(grasp_bench, name)
    assert name in dir(grasp_bench)
    if name != "__version__":
        assert inspect.getdoc(found)


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(grasp_bench.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.name: node.module for node in block.body for alias in node.names}
    assert typed == {name: f"grasp_bench.{module}" for name, module in grasp_bench._HOME.items()}


def test_other_names_are_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'walk'"):
        _ = grasp_bench.walk


def test_run_stays_the_function_when_the_package_of_that_name_is_imported():
    importlib.import_module("grasp_bench.run.plan")
    assert inspect.isfunction(grasp_bench.run)


def test_run_refuses_as_the_command_line_does(tmp_path):
    with pytest.raises(UserError, match="unknown method 'graps'"):
        grasp_bench.run("graps", "digits-lt", results=tmp_path)
    with pytest.raises(UserError, match="batch_size"):
        grasp_bench.run("lora", "digits-lt", method_settings={"batch_size": 3}, results=tmp_path)


@pytest.mark.slow
def test_run_gives_the_record_that_it_writes(tmp_path):
    asked = {"results": tmp_path / "results", "work_dir": tmp_path / "work", "budget": "smoke", "quiet": True}
    record = grasp_bench.run("lora", "digits-lt", seed=1, method_settings={"rank": 4}, **asked)
    assert record.status == "finished"
    assert record.spec.method.settings["rank"] == 4
    (path,) = (tmp_path / "results").rglob("record.json")
    assert grasp_bench.RunRecord.model_validate_json(path.read_text()) == record


def test_the_page_of_the_interface_has_every_name():
    page = (Path(__file__).parents[1] / "docs" / "api.md").read_text().split()
    named = {word.rpartition(".")[2] for word in page if word.startswith("grasp_bench.")}
    assert named == set(grasp_bench.__all__) - {"__version__"}
