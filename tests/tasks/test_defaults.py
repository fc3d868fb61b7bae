"""What the tasks of official downloads do where nothing is said: backbone, extractors, weights of classifiers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from helpers import runs
from helpers.datasets import make_ilsvrc, make_mimic, make_nih
from helpers.extractors import make_dino, make_inception
from helpers.records import framed, metric, record
from helpers.tiny_sana import save_sana
from safetensors.torch import save_file
from typer.testing import CliRunner

from grasp_bench.cli import app
from grasp_bench.contracts.record import read_record
from grasp_bench.data.root import VARIABLE as DATA
from grasp_bench.errors import UserError
from grasp_bench.extractors.inception import FILES
from grasp_bench.results import formats
from grasp_bench.results.leaderboard import leaderboards
from grasp_bench.results.options import Options
from grasp_bench.results.site.view import conditions
from grasp_bench.results.tables import build, sections
from grasp_bench.run.pipeline import stage_inputs
from grasp_bench.run.plan import Plan, plan
from grasp_bench.run.resolve import caution
from grasp_bench.tasks.imagenet_lt import ImageNetLT
from grasp_bench.tasks.mimic_lt import MimicLT
from grasp_bench.tasks.nih_lt import NihLT, NihLTGen
from grasp_bench.weights import VARIABLE, timm_file

OFFICIAL = {"mimic-lt": MimicLT, "nih-lt-gen": NihLTGen, "nih-lt": NihLT, "imagenet-lt": ImageNetLT}
SHOWS = "32×32, pretrained on drawings: shows that the code runs"  # noqa: RUF001 # as it is written
SANA = "Efficient-Large-Model/Sana_600M_512px_diffusers"
DENSENET, TAG = "densenet121", "ra_in1k"


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small trees of the official shape, and no weights of the user's own."""
    root = tmp_path / "data"
    make_mimic(root / "mimic-lt", per_class=3)
    make_nih(root / "nih-lt-gen")
    make_nih(root / "nih-lt")
    make_ilsvrc(root / "imagenet-lt")
    for task in OFFICIAL.values():
        monkeypatch.setattr(task, "official", False)
    for name, folder in {DATA: root, VARIABLE: tmp_path / "weights", "XDG_CONFIG_HOME": tmp_path / "config"}.items():
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)


def planned(task: str, **changes: object) -> Plan:
    return plan(**{"method": "grasp", "task": task} | changes)


@pytest.mark.parametrize("task", OFFICIAL)
def test_missing_weights_are_told_with_a_way_to_do_without(task: str) -> None:
    with pytest.raises(UserError) as caught:
        planned(task)
    for part in (f"hf download {SANA}", "--allow-download", f"{task} asks for (sana-0.6b)", "--backbone tiny-sd3-32"):
        assert part in str(caught.value)
    with pytest.raises(UserError) as named:
        planned(task, backbone="sana-0.6b")
    assert "tiny-sd3-32" not in str(named.value)


def test_what_the_tasks_ask_for() -> None:
    asked = {name: (task.backbone, task.resolution, task.extractors) for name, task in OFFICIAL.items()}
    xrays = ("sana-0.6b", 512, ("inception", "hf:microsoft/rad-dino"))
    assert asked == {
        "mimic-lt": xrays,
        "nih-lt-gen": xrays,
        "nih-lt": ("sana-0.6b", 512, ("inception",)),
        "imagenet-lt": ("sana-0.6b", 512, ("inception", "dinov2")),
    }


@pytest.mark.parametrize(
    ("task", "backbone", "said"),
    [
        ("mimic-lt", "tiny-sd3-32", SHOWS),
        ("imagenet-lt", "tiny-sd3-32", SHOWS),
        ("mimic-lt", "tiny-sd3", SHOWS.replace("32", "8").replace("drawings", "glyphs")),
        ("digits-lt", "tiny-sd3", ""),
        ("digits-lt", "tiny-sd3-32", ""),
    ],
)
def test_a_small_backbone_where_a_real_one_is_asked_for(task: str, backbone: str, said: str) -> None:
    chosen = planned(task, backbone=backbone)
    assert caution(chosen.backbone, chosen.task) == said


def test_headings_say_that_it_shows_that_the_code_runs(tmp_path: Path) -> None:
    plain = [record(method, 0, [metric("recall", "tail", 0.5)]) for method in ("lora", "grasp")]
    frame = framed([each.model_copy(update={"caution": SHOWS}) for each in plain])
    (board,) = leaderboards(frame)
    assert SHOWS in conditions(board)
    report = build(frame, Options(), tmp_path)
    (section,) = sections(report)
    assert section.heading.endswith(SHOWS)
    for form in ("table", "markdown", "latex", "csv", "json"):
        assert "shows that the code runs" in " ".join(formats.rendered(report, form).decode().split()), form
    (other,) = leaderboards(framed(plain))
    assert "shows" not in conditions(other)


def test_classifiers_start_from_weights_that_are_there(tmp_path: Path) -> None:
    without = planned("nih-lt-gen", backbone="tiny-sd3-32")
    assert without.recipe.initial is None
    _write_densenet()
    found = planned("nih-lt-gen", backbone="tiny-sd3-32")
    assert found.recipe.initial == TAG
    assert found.task_label == f"nih-lt-gen~network_weights={TAG}"
    assert found.spec.task.settings["network_weights"] == TAG
    assert f"network_weights={TAG}" in found.command()
    named = planned("nih-lt-gen", backbone="tiny-sd3-32", task_settings=[f"network_weights={TAG}"])
    assert named.spec == found.spec
    assert stage_inputs(named) == stage_inputs(found)
    scratch = planned("nih-lt-gen", backbone="tiny-sd3-32", task_settings=["network_weights=scratch"])
    assert scratch.spec == without.spec
    assert scratch.task_label == "nih-lt-gen"
    other = planned("nih-lt-gen", backbone="tiny-sd3-32", task_settings=["network=small-cnn"])
    assert other.recipe.initial is None
    assert ImageNetLT.network_weights is None  # they were trained on what it is tested on


def _write_densenet() -> None:
    path = timm_file(DENSENET, TAG)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    save_file(timm.create_model(DENSENET).state_dict(), path)


@pytest.mark.slow
def test_a_run_of_mimic_goes_all_the_way_by_every_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pipelines and networks are of the real classes with random weights, images of 32 pixels, budgets of few steps."""
    save_sana(tmp_path / SANA)
    weights = tmp_path / "weights"
    make_dino(weights / "microsoft" / "rad-dino")
    make_inception(weights / FILES[0])
    _write_densenet()
    monkeypatch.setattr(MimicLT, "resolution", 32)
    monkeypatch.setattr(MimicLT, "classifier", replace(MimicLT.classifier, resolution=32))
    found = CliRunner().invoke(
        app, ["run", "--method", "grasp", "--task", "mimic-lt", "--budget", "smoke", "--device", "cpu"]
    )
    assert found.exit_code == 0, (found.exception, found.output)
    (path,) = Path("results").rglob("record.json")
    made = read_record(path)
    assert (made.status, made.default_backbone, made.recipe, made.caution) == ("finished", True, "sana-0.6b", "")
    assert made.spec.backbone.name == "sana"
    assert made.spec.budget.precision == "bfloat16"
    labels = {score.label for score in made.scores if score.scope == "group" and score.value is not None}
    assert {"FD(inception)", "FD(rad-dino)", "KD(inception)", "KD(rad-dino)"} <= labels
    assert made.task_label == f"mimic-lt~budget=smoke,network_weights={TAG}"
    assert f"timm:{DENSENET} from ImageNet's weights {TAG}" in found.output
    report = CliRunner().invoke(app, ["report"])
    assert report.exit_code == 0
    assert "FD(rad-dino)" in report.output


@pytest.mark.slow
def test_a_small_backbone_warns_and_is_recorded_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MimicLT, "classifier", replace(MimicLT.classifier, resolution=None))
    chosen = planned(
        "mimic-lt",
        method="lora",
        backbone="tiny-sd3-32",
        budget="smoke",
        task_settings=["extractor=pixels", "network=small-cnn"],
    )
    listener = runs.Listener()
    made = runs.finish(tmp_path, chosen, listener)
    assert made.caution == SHOWS
    assert "warning: task mimic-lt asks for backbone sana-0.6b; this is tiny-sd3-32" in listener.said
