"""Third-party plugins: packages that `grasp-bench new` starts, as users install them, and plugins that are broken."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from grasp_bench import plugins, templates
from grasp_bench.errors import UserError
from grasp_bench.run.plan import plan

THIRD_PARTY = Path(__file__).parent / "third_party"
GUIDANCE, METHODS, TASKS, EXTRACTORS, METRICS = (
    f"grasp_bench.{kind}" for kind in ("guidance", "methods", "tasks", "extractors", "metrics")
)
BROKEN = {
    "missing-import": (
        METHODS,
        "missing_import:Anything",
        ["No module named 'no_such_package'", "missing_import.py, line 3"],
    ),
    "exits": (METHODS, "exits:Anything", ["SystemExit: usage: exits.py FILE", "exits.py, line 5"]),
    "no-module": (METHODS, "nowhere_to_be_found:Anything", ["No module named 'nowhere_to_be_found'"]),
    "misspelt": (METHODS, "broken:Suond", ["AttributeError", "'Suond'"]),
    "whole-module": (METHODS, "broken", ["is no class", "MODULE:CLASS"]),
    "function": (METHODS, "broken:function", ["is no class", "MODULE:CLASS"]),
    "no-method": (
        METHODS,
        "broken:NoMethod",
        ["no subclass of grasp_bench.contracts.method.Method", "derive it from that class"],
    ),
    "wrong-group": (METHODS, "broken:SoundGuidance", ["it is a Guidance", "register it under grasp_bench.guidance"]),
    "too-few": (
        METHODS,
        "broken:AttachWithoutParameters",
        ["attach takes (self), expected (self, backbone, task, generator)"],
    ),
    "too-many": (METHODS, "broken:AttachWithTooMany", ["takes (self, backbone, task, generator, device), expected"]),
    "renamed": (
        METHODS,
        "broken:RenamedParameter",
        ["losses takes (self, batch, output), expected (self, batch, pred"],
    ),
    "no-detach": (METHODS, "broken:NoDetach", ["does not define detach(self)"]),
    "numbered": (METHODS, "broken:NumberedVersion", ["NumberedVersion.version is 1, expected text"]),
    "no-paper": (METHODS, "broken:NoPaper", ["does not declare paper"]),
    "no-function": (METHODS, "broken:LossesIsNoFunction", ["losses is 3, expected a function losses(self, batch"]),
    "own-init": (METHODS, "broken:OwnInit", ["__init__ takes (self), expected (self, config)"]),
    "sets-budget": (
        METHODS,
        "broken:SetsTheBudget",
        ["batch_size, steps, num_inference_steps, images_per_class", "the same for all", "Leave them out"],
    ),
    "sets-task": (METHODS, "broken:SetsTheTask", ["extractor, horizontal_flip, seed", "no method may set"]),
    "no-default": (METHODS, "broken:NoDefault", ["Demanding gives no default for width"]),
    "foreign": (
        METHODS,
        "broken:ForeignSettings",
        ["expected a subclass of grasp_bench.contracts.method.MethodSettings"],
    ),
    "sets-sampler": (GUIDANCE, "broken:SetsTheSampler", ["num_inference_steps", "no guidance may set"]),
    "no-step": (GUIDANCE, "broken:PredictsWithoutStep", ["predict takes (self, model, latents), expected"]),
    "no-classes": (TASKS, "broken:NoClasses", ["does not define classes(self)"]),
    "no-value": (METRICS, "broken:NoValue", ["does not define value"]),
    "sideways": (METRICS, "broken:Sideways", ["direction is 'up', expected 'lower' or 'higher'"]),
    "misnamed": (METRICS, "broken:Misnamed", ["name is 'other', expected the entry point's 'misnamed'"]),
    "no-load": (
        EXTRACTORS,
        "broken:OneImageAtATime",
        ["does not define build", "does not define load", "features takes (self)"],
    ),
}
"""Name → group and value of its entry point, and what the message must say."""
KIND = {group: group.removeprefix("grasp_bench.") for group, _, _ in BROKEN.values()}


def declare(site: Path, package: str, *points: tuple[str, str, str]) -> None:
    """What installing ``package`` with entry points (group, name, value) leaves behind."""
    info = site / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("".join(f"[{group}]\n{name} = {value}\n" for group, name, value in points))


def forget() -> None:
    """Look for plugins again."""
    for cached in (plugins._claims, plugins._check):
        cached.cache_clear()
    for path in THIRD_PARTY.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages, whose modules are those of ``third_party/``."""
    folder = tmp_path / "site"
    shutil.copytree(THIRD_PARTY, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.syspath_prepend(folder)
    forget()
    yield folder
    forget()


def listed(kind: str) -> tuple[set[str], list[str]]:
    """Names of the plugins that can be used, and the warnings of listing them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return set(plugins.available(kind)), [str(each.message) for each in caught]


def refusal(kind: str, name: str) -> str:
    """What `grasp-bench run` says of a plugin that it is asked to use."""
    asked = {"method": "lora", "task": "digits-lt"}
    if kind == "extractors":
        asked["task_settings"] = [f"extractor={name}"]
    elif kind == "metrics":  # every run has all of them, and none is asked for
        with pytest.raises(UserError) as caught:
            plugins.load(kind, name)
        return str(caught.value)
    else:
        asked[plugins.SINGULAR[kind]] = name
    with pytest.raises(UserError) as caught:
        plan(**asked)
    return str(caught.value)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_a_warning_when_listed_and_an_error_when_used(name: str, site: Path) -> None:
    group, value, words = BROKEN[name]
    kind = KIND[group]
    built_in = set(plugins.entries(kind))
    declare(site, "others", (group, name, value))
    forget()
    names, messages = listed(kind)
    assert names == built_in
    assert messages == [refusal(kind, name)]
    (message,) = messages
    for part in (
        f"{plugins.SINGULAR[kind]} '{name}' of others ({value})",
        "pip uninstall others",
        *words,
    ):
        assert part in message


def test_a_module_that_python_cannot_read(site: Path) -> None:
    (site / "unfinished.py").write_text("class Method(:\n")
    declare(site, "others", (METHODS, "unfinished", "unfinished:Method"))
    forget()
    assert "SyntaxError: invalid syntax (unfinished.py, line 1)" in refusal("methods", "unfinished")


def test_a_sound_plugin_is_used(site: Path) -> None:
    declare(site, "others", (METHODS, "sound", "broken:Sound"))
    forget()
    names, messages = listed("methods")
    assert "sound" in names
    assert not messages
    assert type(plan(method="sound", task="digits-lt").method).__name__ == "Sound"


def unnamed(info: Path) -> None:
    (info / "METADATA").unlink()


def nameless(info: Path) -> None:
    (info / "METADATA").write_text("Metadata-Version: 2.1\n")


def no_text(info: Path) -> None:
    (info / "METADATA").write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize("damage", [unnamed, nameless, no_text])
def test_a_package_whose_metadata_are_damaged_takes_nothing_down(site: Path, damage: Callable[[Path], None]) -> None:
    declare(site, "sound", ("grasp_bench.methods", "sound", "broken:Sound"))
    declare(site, "odd", ("grasp_bench.methods", "odd", "broken:Sound"))
    damage(site / "odd-1.0.dist-info")
    names, said = listed("methods")
    assert {"grasp", "sound", "odd"} <= names
    assert said == []


def test_a_package_whose_entry_points_cannot_be_read_takes_nothing_down(site: Path) -> None:
    declare(site, "sound", ("grasp_bench.methods", "sound", "broken:Sound"))
    declare(site, "odd", ("grasp_bench.methods", "odd", "broken:Sound"))
    (site / "odd-1.0.dist-info" / "entry_points.txt").write_bytes(b"[grasp_bench.methods]\nodd = \xff\xfe\n")
    names, said = listed("methods")
    assert {"grasp", "sound"} <= names
    assert any("broken and passed over" in each for each in said)


def test_a_built_in_name_cannot_be_taken(site: Path) -> None:
    declare(site, "others", (METHODS, "grasp", "broken:Sound"))
    forget()
    names, messages = listed("methods")
    assert "grasp" in names
    assert messages == [refusal("methods", "grasp")]
    for part in (
        "of others (broken:Sound)",
        "taken by grasp-bench (grasp_bench.baselines.grasp:Grasp)",
        "Rename it",
    ):
        assert part in messages[0]
    assert plan(method="lora", task="digits-lt")  # others are not touched


def test_two_packages_of_one_name(site: Path) -> None:
    declare(site, "beta", (METHODS, "twin", "broken:Sound"))
    declare(site, "alpha", (METHODS, "twin", "broken:OwnInit"), (METHODS, "single", "broken:Sound"))
    forget()
    message = refusal("methods", "twin")
    assert "'twin' of beta (broken:Sound)" in message
    assert "taken by alpha (broken:OwnInit)" in message
    assert "pip uninstall beta" in message
    assert plan(method="single", task="digits-lt")


def test_one_class_under_one_name_twice_is_no_clash(site: Path) -> None:
    for package in ("alpha", "beta"):
        declare(site, package, (METHODS, "same", "broken:Sound"))
    forget()
    assert listed("methods")[1] == []
    assert plan(method="same", task="digits-lt")


def grasp_bench(*arguments: str, folder: Path, python: str = sys.executable, **environment: str):
    """Run the command in ``folder``, as a user does."""
    return subprocess.run(
        [python, "-m", "grasp_bench", *arguments],
        cwd=folder,
        env=os.environ | {"NO_COLOR": "1", "COLUMNS": "200"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_survives_all_of_them_and_says_one_thing(site: Path, tmp_path: Path) -> None:
    points = [(group, name, value) for name, (group, value, _) in BROKEN.items()]
    declare(site, "others", *points, (METHODS, "lora", "broken:Sound"))
    shown = grasp_bench("list", folder=tmp_path, PYTHONPATH=str(site))
    assert shown.returncode == 0, shown.stderr
    said = shown.stderr.splitlines()
    assert all(line.startswith("warning: ") for line in said)
    of_ours = [line for line in said if "of grasp-bench" in line]
    assert ["method 'cm'" in line for line in of_ours] == [True]  # it trains lora, a name that two packages claim
    assert len(said) == len(points) + 2
    names = [line.partition(" ")[0] for line in shown.stdout.splitlines()]
    assert "vanilla-ft" in names
    assert "sets-budget" not in names
    for name in ("sets-budget", "lora"):
        run = grasp_bench("run", "-m", name, "-t", "digits-lt", folder=tmp_path, PYTHONPATH=str(site))
        assert run.returncode == 2
        assert run.stderr.startswith(f"error: method '{name}' of others")
        assert run.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"site"}


PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
APART = ["--no-deps", "--no-index"]
UNSOUND = {
    "imports-too-much": ("missing_import:Anything", "No module named 'no_such_package'"),
    "oft": ("broken:Sound", "the name is taken by grasp-bench"),
    "takes-too-little": ("broken:AttachWithoutParameters", "attach takes (self), expected (self, backbone, task, gen"),
}
"""Methods of one package that cannot be used: name → class, and what is said of it."""


def build(wheels: Path, *packages: Path) -> list[Path]:
    """The wheels of some packages, built as their authors would."""
    subprocess.run([*PIP, "wheel", *APART, "--no-build-isolation", "--wheel-dir", wheels, *packages], check=True)
    built = list(wheels.glob("*.whl"))
    assert len(built) == len(packages)
    return built


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a package of every kind, and the Python of an environment into which their wheels are installed.

    The environment sees what this one has, grasp-bench among it, and is otherwise empty.
    """
    for needed in ("pip", "setuptools"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not here, and nothing is downloaded")
    folder = tmp_path_factory.mktemp("third_party")
    packages = [templates.write_package(kind, f"my-{kind}", folder) for kind in plugins.BY_SINGULAR]
    python = folder / "environment" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", python.parents[1]], check=True)
    purelib = sysconfig.get_path("purelib")
    (own,) = python.parents[1].glob("lib/python*/site-packages")
    (own / "seen.pth").write_text(f"import site; site.addsitedir({purelib!r})\n")
    subprocess.run([*PIP, "--python", python, "install", *APART, *build(folder / "wheels", *packages)], check=True)
    return folder, str(python)


@pytest.fixture
def unsound(fresh: tuple[Path, str], tmp_path: Path) -> Iterator[str]:
    """The Python of the same environment, as long as a package is installed there of which little can be used."""
    _, python = fresh
    package = tmp_path / "unsound"
    shutil.copytree(THIRD_PARTY, package, ignore=shutil.ignore_patterns("__pycache__"))
    points = [f'{name} = "{value}"' for name, (value, _) in UNSOUND.items()]
    modules = [path.stem for path in package.glob("*.py")]
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        f'[project]\nname = "unsound"\nversion = "1.0"\n[project.entry-points."{METHODS}"]\n'
        + "\n".join([*points, 'meddling = "meddling:MeetsHalfway"'])
        + f"\n[tool.setuptools]\npy-modules = {modules}\n"
    )
    subprocess.run([*PIP, "--python", python, "install", *APART, *build(tmp_path / "wheels", package)], check=True)
    yield python
    subprocess.run([*PIP, "--python", python, "uninstall", "--yes", "unsound"], check=True)


@pytest.mark.slow
def test_new_packages_are_installed_and_listed(fresh: tuple[Path, str]) -> None:
    folder, python = fresh
    shown = grasp_bench("list", folder=folder, python=python)
    assert (shown.returncode, shown.stderr) == (0, "")
    here = grasp_bench("list", folder=folder).stdout
    for kind in plugins.BY_SINGULAR:
        assert f"\nmy-{kind} " in shown.stdout
        assert f"\nmy-{kind} " not in here  # so it came with the environment
    assert "rank" in grasp_bench("show", "my-method", folder=folder, python=python).stdout


def own_tests(package: Path, python: str, *arguments: str, **environment: str) -> str:
    """What pytest says of the tests of a package."""
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, "tests"]
    return subprocess.run(
        command, cwd=package, env=os.environ | environment, capture_output=True, text=True, check=False
    ).stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["guidance", "task", "extractor", "metric", "backbone"])
def test_new_packages_pass_their_own_tests(kind: str, fresh: tuple[Path, str]) -> None:
    folder, python = fresh
    said = own_tests(folder / f"my-{kind}", python, "-k", "not smoke-run")  # of which there is a longer one below
    assert " passed" in said
    assert "failed" not in said, said


@pytest.mark.slow
def test_a_new_method_keeps_the_contract_and_a_mistake_in_it_is_found(fresh: tuple[Path, str], tmp_path: Path) -> None:
    folder, python = fresh
    shown = grasp_bench("check", "method", "my-method", folder=tmp_path, python=python)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    edited = tmp_path / "my-method"
    shutil.copytree(folder / "my-method", edited)
    adapter = edited / "src" / "my_method" / "adapter.py"
    adapter.write_text(adapter.read_text().replace("torch.zeros(rank, width)", "torch.ones(rank, width)"))
    said = own_tests(edited, python, "-k", "step-0 and sd3 or declaration", PYTHONPATH=str(edited / "src"))
    assert "1 failed, 1 passed" in said
    assert "test_contract[step-0[tiny-sd3]]" in said


@pytest.mark.slow
def test_of_an_unsound_package_is_told_what_cannot_be_used(unsound: str, tmp_path: Path) -> None:
    shown = grasp_bench("list", folder=tmp_path, python=unsound)
    assert shown.returncode == 0, shown.stderr
    assert len(shown.stderr.splitlines()) == len(UNSOUND)
    for name in ("my-method", "meddling", "lora"):
        assert f"\n{name} " in shown.stdout
    for name, (value, words) in UNSOUND.items():
        said = f"method '{name}' of unsound ({value}) cannot be used: "
        (warning,) = (line for line in shown.stderr.splitlines() if line.startswith(f"warning: {said}"))
        run = grasp_bench("run", "--method", name, "--task", "digits-lt", folder=tmp_path, python=unsound)
        assert run.returncode == 2
        assert run.stderr == f"error: {warning.removeprefix('warning: ')}\n"
        assert run.stdout == ""
        assert words in warning
        assert "pip uninstall unsound" in warning
    assert not list(tmp_path.rglob("record.json"))


@pytest.mark.slow
def test_a_method_that_alters_its_batch_is_found_out(unsound: str, tmp_path: Path) -> None:
    asked = ("check", "method", "meddling", "--json", "found.json")
    shown = grasp_bench(*asked, folder=tmp_path, python=unsound)
    assert shown.returncode == 1, shown.stderr
    assert "Traceback" not in shown.stdout + shown.stderr
    checks = json.loads((tmp_path / "found.json").read_text())["checks"]
    failed = {check["name"]: check["found"] for check in checks if check["status"] == "failed"}
    said = "a training step changed of its batch: "
    assert failed == {
        "data-untouched[tiny-sd3]": f"{said}target",
        "data-untouched[tiny-dit]": f"{said}noise, target",  # which are one tensor there
    }
    assert f"failed: {said}target" in " ".join(shown.stdout.split())


@pytest.mark.slow
def test_new_packages_run_together_and_are_reported(fresh: tuple[Path, str], tmp_path: Path) -> None:
    _, python = fresh
    asked = ("--method", "my-method", "--task", "my-task", "--guidance", "my-guidance", "--budget", "smoke")
    run = grasp_bench("run", *asked, "--task-set", "extractor=my-extractor", folder=tmp_path, python=python)
    assert run.returncode == 0, run.stderr
    (path,) = (tmp_path / "results").rglob("record.json")
    record = json.loads(path.read_text())
    assert record["status"] == "finished"
    assert {record["spec"][part]["name"] for part in ("method", "task", "guidance")} == {
        "my-method",
        "my-task",
        "my-guidance",
    }
    distances = [score for score in record["scores"] if (score["metric"], score["scope"]) == ("fd", "group")]
    assert {metric["group"] for metric in distances} >= {"head", "medium", "tail"}
    progress = grasp_bench("report", folder=tmp_path, python=python)
    assert progress.returncode == 0, progress.stderr
    assert "my-method" in progress.stdout
    assert "my-guidance" in progress.stdout
