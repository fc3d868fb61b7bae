import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from grasp_bench.plugins import KINDS

BROKEN = "grasp_bench.methods", "broken", "no_such_module:Method"
HEAVY = ("torch", "diffusers", "transformers", "pandas", "scipy", "sklearn")


def grasp_bench(*arguments: str, path: Path | None = None, columns: int = 100) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, with ``path`` among the places that plugins come from."""
    environment = os.environ | {"COLUMNS": str(columns), "NO_COLOR": "1"}
    if path:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(path), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-c", "from grasp_bench.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def plugin(folder: Path, group: str, name: str, value: str) -> None:
    """What installing a package with one entry point leaves behind."""
    info = folder / "other-package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")


def flat(text: str) -> str:
    return " ".join(text.split())


COMMANDS = (
    *("list", "show", "new", "check", "run", "tune", "sweep", "status", "report", "diagnose", "sample", "export"),
    *("compare", "reproduce", "submit", "verify", "evaluate", "data export"),
)


@pytest.mark.parametrize("command", [(), *(tuple(name.split()) for name in COMMANDS)], ids=" ".join)
def test_help_has_an_example_on_its_own_line(command):
    shown = grasp_bench(*command, "--help")
    assert shown.returncode == 0
    lines = [line.strip() for line in shown.stdout.splitlines()]
    after = lines[next(i for i, line in enumerate(lines) if line in ("Example:", "Examples:")) :]
    assert any(line.startswith(" ".join(["grasp-bench", *command])) for line in after)


@pytest.mark.parametrize(
    "command", [("--help",), ("list",), ("report", "--help"), ("run", "--help"), ("show", "mimic-lt")], ids=" ".join
)
def test_nothing_heavy_is_imported(command):
    code = (
        f"import sys; from grasp_bench.cli import main; sys.argv = ['grasp-bench', *{command!r}]\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        f"found = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_version():
    assert grasp_bench("--version").stdout.startswith("grasp-bench ")


def test_list_names_everything_built_in():
    shown = grasp_bench("list")
    assert shown.returncode == 0
    assert shown.stderr == ""
    for name in ("vanilla-ft", "lora", "moe", "grasp", "shared-adapter", "digits-lt", "tiny-sd3", "cfg", "digits-cnn"):
        assert f"{name} " in shown.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_list_of_one_kind(kind):
    titles = [line.strip() for line in grasp_bench("list", kind).stdout.splitlines() if line.strip() in KINDS]
    assert titles == [kind]


def test_list_of_no_kind():
    shown = grasp_bench("list", "dragons")
    assert shown.returncode == 2
    assert shown.stderr.startswith("error: 'dragons'")
    assert "extractors" in shown.stderr


def test_a_broken_plugin_is_one_warning(tmp_path):
    plugin(tmp_path, *BROKEN)
    shown = grasp_bench("list", path=tmp_path)
    assert shown.returncode == 0
    assert shown.stderr.startswith("warning: method 'broken' of other-package")
    assert shown.stderr.count("\n") == 1
    assert "grasp " in shown.stdout


def test_showing_a_broken_plugin_is_an_error(tmp_path):
    plugin(tmp_path, *BROKEN)
    shown = grasp_bench("show", "broken", path=tmp_path)
    assert shown.returncode == 2
    assert "ModuleNotFoundError" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_clashing_plugin_is_a_warning_and_the_built_in_one_stays(tmp_path):
    plugin(tmp_path, "grasp_bench.guidance", "cfg", "grasp_bench.guidances.cfg:NoGuidance")
    shown = grasp_bench("list", "guidance", path=tmp_path)
    assert shown.returncode == 0
    assert "guidance 'cfg' of other-package" in shown.stderr
    assert "Classifier-free" in shown.stdout


def test_show_a_method_tells_its_settings_and_paper():
    shown = flat(grasp_bench("show", "grasp").stdout)
    assert "arXiv 2512.01675" in shown
    assert "learning_rate (float, default" in shown
    assert "> 0, ≤ 1" in shown
    assert "weight_decay" in shown


def test_paragraphs_are_broken_by_the_terminal_alone_and_formulas_stay_on_their_lines():
    narrow, wide = (grasp_bench("show", "attribute", columns=columns).stdout for columns in (60, 400))
    assert flat(narrow) == flat(wide)
    first, *others = wide.split("\n\n")[0].splitlines()
    assert first == "guidance attribute"
    assert len(others) == 1  # the first paragraph
    assert "D_k,    m = strength · (1" in wide


def test_show_a_method_tells_what_is_searched():
    rate = "searched by `grasp-bench tune`: learning_rate from 0.0001 to 0.1 (in its logarithm)"
    assert f"{rate} settings" in flat(grasp_bench("show", "grasp").stdout)
    assert f"{rate}, tau from 0.1 to 10 (in its logarithm)" in flat(grasp_bench("show", "cbdm").stdout)


def test_show_a_task_tells_its_budgets_and_classes():
    shown = flat(grasp_bench("show", "digits-lt").stdout)
    assert "default backbone: tiny-sd3" in shown
    assert "num_inference_steps" in shown
    assert "a handwritten digit nine" in shown
    assert "tail 4 " in shown


def test_show_a_task_tells_what_its_backbones_make_of_it():
    shown = flat(grasp_bench("show", "mimic-lt", columns=250).stdout)
    assert "with sana-0.6b at 512 pixels (default): bfloat16, 20 sampling steps, guidance scale 4.5" in shown
    assert "with sd3.5-medium at 512 pixels (second track): bfloat16, 40 sampling steps, guidance scale" in shown
    assert "precision (float32 or bfloat16, default bfloat16 with sana-0.6b)" in shown
    table = json.loads(grasp_bench("show", "mimic-lt", "--json").stdout)[0]
    assert table["backbone"] == "sana-0.6b"
    assert table["budgets"]["precision"]["values"]["standard"] == "bfloat16"
    steps = table["budgets"]["num_inference_steps"]["values"]
    assert (steps["standard"], steps["lite"]) == (20, 20)
    small = flat(grasp_bench("show", "digits-lt").stdout)
    assert "second track" not in small
    assert "pixels (default)" not in small


def test_show_a_backbone_guidance_and_extractor():
    assert "image shape: (1, 8, 8)" in grasp_bench("show", "tiny-sd3").stdout
    assert "guidance_scale" in grasp_bench("show", "cfg").stdout
    assert "settings: none" in grasp_bench("show", "none").stdout
    assert "version:" in grasp_bench("show", "digits-cnn").stdout


def test_show_of_an_unknown_name_suggests_one():
    shown = grasp_bench("show", "gras")
    assert shown.returncode == 2
    assert shown.stdout == ""
    assert "Did you mean 'grasp'?" in shown.stderr
    assert "digits-lt" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_short_name_is_listed_and_shown_as_what_it_stands_for():
    assert "short for sd3:stabilityai/stable-diffusion-3.5-medium" in flat(grasp_bench("list", "backbones").stdout)
    shown = grasp_bench("show", "sd3.5-medium").stdout
    assert shown.startswith("sd3.5-medium is short for sd3:stabilityai/stable-diffusion-3.5-medium")
    assert "backbone sd3" in shown
