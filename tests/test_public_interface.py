"""What `import grasp_bench` offers, and what it does not load before it is asked for."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
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


def test_score_gives_the_rows_that_the_command_line_prints(tmp_path):
    import numpy as np
    from typer.testing import CliRunner

    from grasp_bench.cli import app

    draw, files = np.random.default_rng(0), {}
    labels, groups = np.repeat(["crow", "wren"], [40, 20]), {"head": ["crow"], "tail": ["wren"]}
    for name in ("real", "generated"):
        features = draw.normal(size=(60, 3))
        files[name] = tmp_path / f"{name}.npz"
        np.savez(files[name], features=features, labels=labels)
    scores = grasp_bench.score(files["real"], files["generated"], groups=groups, metrics=["fd"])
    assert set(scores["group"]) == {"head", "tail", "all", "crow", "wren"}
    (tmp_path / "groups.csv").write_text("class,group\ncrow,head\nwren,tail\n")
    words = [*map(str, files.values()), "--groups", str(tmp_path / "groups.csv"), "--metrics", "fd", "--json"]
    assert CliRunner().invoke(app, ["score", *words, str(tmp_path / "out.json")]).exit_code == 0
    found = scores[(scores["group"] == "all") & (scores["scope"] == "group")].iloc[0]
    assert found["metric"] == "fd"
    assert found["low"] <= found["value"] <= found["high"]
    assert set(scores["unit"]) == {"equal-count draw"}, "the ends are no interval of the value"
    assert f'"value": {found["value"]}' in (tmp_path / "out.json").read_text()
    arrays = [np.load(path)["features"] for path in files.values()]
    same = grasp_bench.score(*arrays, real_labels=labels, generated_labels=labels, groups=groups, metrics=["fd"])
    assert same.equals(scores)


def test_score_refuses_labels_of_one_set_and_unknown_classes():
    import numpy as np

    features = np.zeros((4, 2))
    with pytest.raises(UserError, match="others have none"):
        grasp_bench.score(features, features, real_labels=list("aabb"))
    with pytest.raises(UserError, match="no image is of class 'c'"):
        grasp_bench.score(
            features, features, real_labels=list("aabb"), generated_labels=list("aabb"), groups={"tail": ["c"]}
        )
    with pytest.raises(UserError, match="3 labels for 4 images"):
        grasp_bench.score(features, features, real_labels=list("aab"))


@pytest.mark.parametrize(
    "wrong",
    [{"draws": 10**30}, {"k": 10**30}, {"k": 0}, {"n": -1}, {"n": 2**63}, {"seed": -1}, {"seed": 2**63}, {"k": 1.5}],
    ids=str,
)
def test_numbers_of_score_are_bounded(wrong):
    features = np.random.default_rng(0).normal(size=(8, 2))
    with pytest.raises(UserError, match=f"{next(iter(wrong))}: expected a whole number from"):
        grasp_bench.score(features, features, **wrong)


@pytest.mark.parametrize(
    ("groups", "told"), [({"g": []}, "g: holds no class"), ({"all": ["a"]}, 'no group may be called "all"')]
)
def test_groups_of_score_are_those_of_the_command_line(groups, told):
    features, labels = np.random.default_rng(0).normal(size=(8, 2)), ["a"] * 8
    with pytest.raises(UserError, match=told):
        grasp_bench.score(features, features, real_labels=labels, generated_labels=labels, groups=groups)


@pytest.mark.parametrize(
    "wrong", [{"seed": -1}, {"seed": 2**63}, {"batch_size": 0}, {"batch_size": 10**30}, {"accumulate": 0}]
)
def test_numbers_of_run_are_bounded(wrong, tmp_path):
    with pytest.raises(UserError, match=f"{next(iter(wrong))}: expected a whole number from"):
        grasp_bench.run("lora", "digits-lt", budget="smoke", results=tmp_path / "r", work_dir=tmp_path / "w", **wrong)
    with pytest.raises(UserError, match="seed: expected a whole number from"):
        grasp_bench.evaluate(tmp_path, "digits-lt", "x", seed=2**63, results=tmp_path / "r", work_dir=tmp_path / "w")
    assert not list(tmp_path.iterdir())
