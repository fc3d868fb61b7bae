import shlex
import shutil
from pathlib import Path

import pytest
import torch
from helpers import runs
from PIL import Image
from typer.testing import CliRunner

from grasp_bench.baselines.grasp import Grasp
from grasp_bench.cli import app
from grasp_bench.contracts.record import RunRecord
from grasp_bench.errors import UserError
from grasp_bench.export.restore import command, finished_record, plan_of, trained_weights
from grasp_bench.run import runner
from grasp_bench.run.environment import describe
from grasp_bench.run.pipeline import protocol, stage_inputs, stage_keys
from grasp_bench.run.plan import Plan
from grasp_bench.run.plan import plan as plan_from_names


def record_of(plan: Plan, **changes) -> RunRecord:
    """The record of a finished run, without its scores."""
    return RunRecord(
        **{
            "run_id": plan.spec.id,
            "spec": plan.spec,
            "task_label": plan.task_label,
            "label": plan.label,
            "changed": plan.changed,
            "backbone_label": plan.backbone.name,
            "default_backbone": plan.default_backbone,
            "default_guidance": plan.default_guidance,
            "status": "finished",
            "started": "now",
            "finished": "now",
            "environment": describe(torch.device("cpu")),
            "protocol": protocol(plan),
            "stages": stage_keys(plan),
            "weights": "0" * 64,
        }
        | changes
    )


CHANGED = {
    "seed": 3,
    "method_settings": ["rank=4", "null_route=base"],
    "guidance_settings": ["guidance_scale=1.5"],
    "task_settings": ["class_order=8217465930", "ema_decay=0.9"],
}


@pytest.mark.parametrize("changes", [{}, CHANGED, {"guidance": "none", "budget": "standard"}])
def test_a_record_gives_the_plan_that_it_tells_of(changes):
    asked = runs.small(**changes)
    found = plan_of(record_of(asked))
    assert found.spec == asked.spec
    assert stage_inputs(found) == stage_inputs(asked)
    assert (found.label, found.task_label) == (asked.label, asked.task_label)
    assert found.method.config == asked.method.config
    assert found.task.classes() == asked.task.classes()


@pytest.mark.parametrize("name", ["mimic-lt", "nih-lt"])
def test_classes_that_the_task_knows_need_no_data(tmp_path, monkeypatch, name):
    for each in (name, "mimic-lt"):
        (tmp_path / "data" / each).mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("GRASP_BENCH_DATA", str(tmp_path / "data"))
    settings = {"task_settings": ["ema_decay=0.99"], "method_settings": ["rank=2"], "backbone": "tiny-sd3-32"}
    record = record_of(plan_from_names(method="grasp", task=name, **settings))
    monkeypatch.setenv("GRASP_BENCH_DATA", str(tmp_path / "gone"))
    found = plan_of(record)
    assert stage_keys(found) == record.stages
    assert found.trained_on.spec.task.name == "mimic-lt"
    assert len(found.trained_on.task.classes()) == 19


def test_a_task_that_a_file_describes_is_named_again(tmp_path):
    for number in range(24):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (number, 0, 0)).save(path)
    file = tmp_path / "letters.toml"
    file.write_text("tail_below = 5\n")
    record = record_of(plan_from_names(method="grasp", task=str(file), budget="smoke"))
    assert plan_of(record, file).spec == record.spec
    assert "--task FILE.toml" in command(plan_of(record, file), tmp_path)
    with pytest.raises(UserError, match=r"task letters, which a TOML file describes\. Name it: --task FILE\.toml"):
        plan_of(record)
    told = {"method": "grasp", "task": str(file), "budget": "smoke", "task_settings": ["duplicates=drop"]}
    given = record_of(plan_from_names(**told))
    with pytest.raises(UserError, match=r"duplicates is its default here, but the run was made with 'drop'\. .* file"):
        plan_of(given, file)
    file.write_text("tail_below = 4\n")
    with pytest.raises(UserError, match="tail_below is 4 here, but the run was made with 5"):
        plan_of(record, file)
    file.write_text('name = "other"\n')
    with pytest.raises(UserError, match="it is called other, but the run is of task letters"):
        plan_of(record, file)


def test_a_file_for_a_task_that_needs_none(tmp_path):
    with pytest.raises(UserError, match="which no file describes"):
        plan_of(record_of(runs.small()), tmp_path / "task.toml")
    with pytest.raises(UserError, match="digits-lt reads no download"):
        plan_of(record_of(runs.small()), data_root=tmp_path)


def test_what_is_not_as_it_was_is_named(monkeypatch):
    record = record_of(runs.small())
    with monkeypatch.context() as patch:
        patch.setattr(Grasp, "version", "99")
        with pytest.raises(UserError, match="method grasp is of version 99 here, the run was made with"):
            plan_of(record)
    with monkeypatch.context() as patch:
        patch.setattr("grasp_bench.tasks.digits_lt.DigitsLT.version", "99")
        with pytest.raises(UserError, match="task digits-lt is of version 99 here"):
            plan_of(record)
    with monkeypatch.context() as patch:
        patch.setattr("grasp_bench.backbones.tiny_sd3.TinySD3.revision", "abc")
        with pytest.raises(UserError, match="tiny-sd3 is of revision abc, the run was made with"):
            plan_of(record)
    with pytest.raises(UserError, match="its stage train is not the one of this version"):
        plan_of(record.model_copy(update={"stages": record.stages | {"train": "0" * 64}}))


def test_a_run_that_did_not_finish_has_nothing_to_export(tmp_path):
    path = tmp_path / "record.json"
    record = record_of(runs.small(), status="cancelled", reason="interrupted")
    path.write_text(record.model_dump_json())
    with pytest.raises(UserError, match=r"this run is cancelled \('interrupted'\)"):
        finished_record(tmp_path)
    with pytest.raises(UserError, match=r"there is no such record\. Name a run's folder"):
        finished_record(tmp_path / "nowhere")


def test_weights_that_are_gone_or_changed(grasp, tmp_path):
    (path,) = (grasp / "results").rglob("record.json")
    _, record = finished_record(path)
    plan = plan_of(record)
    with pytest.raises(UserError, match="not there any more") as error:
        trained_weights(plan, record, tmp_path)
    words = "grasp-bench run --method grasp --task digits-lt --seed 2 --guidance cfg --budget smoke "
    assert words in str(error.value)
    assert "--guidance-set guidance_scale=3.0" in str(error.value)
    shutil.copytree(grasp / "work", tmp_path / "work")
    weights = trained_weights(plan, record, tmp_path / "work")
    runs.flip_a_byte(weights)
    with pytest.raises(UserError, match="not the weights that the record tells of"):
        trained_weights(plan, record, tmp_path / "work")


def test_the_command_makes_the_same_run(tmp_path, monkeypatch):
    """As the command line reads it, up to the point where the work would start."""
    record = record_of(runs.small(**CHANGED))
    asked = []

    def instead(plan, options, progress, foretell):
        asked.append((plan, options))
        raise UserError("far enough")

    monkeypatch.setattr(runner, "run", instead)
    words = command(plan_of(record), Path("work folder"))
    CliRunner().invoke(app, shlex.split(words)[1:])
    ((plan, options),) = asked
    assert plan.spec == record.spec
    assert options.work_dir == Path("work folder")
    assert options.results != Path("results")  # where the finished record would be taken for the run
