import json
import os
import re
import shutil
from pathlib import Path

import peft
import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from helpers.tiny_pipelines import save_sd3

import grasp_bench
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.contracts.record import read_record
from grasp_bench.errors import UserError
from grasp_bench.export import write
from grasp_bench.export.restore import finished_record, plan_of
from grasp_bench.io import file_digest, read_tensors

from .conftest import exported


def record_path(folder: Path) -> Path:
    (path,) = (folder / "results").rglob("record.json")
    return path


def inputs() -> dict[str, torch.Tensor]:
    """What an SD3 transformer of the size of tiny-sd3 is called with."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"hidden_states": (2, 1, 8, 8), "encoder_hidden_states": (2, 12, 64), "pooled_projections": (2, 64)}
    drawn = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return drawn | {"timestep": torch.tensor([300.0, 800.0])}


@torch.no_grad()
def output(transformer: torch.nn.Module) -> torch.Tensor:
    return transformer(**inputs(), return_dict=False)[0]


def test_it_holds_what_was_trained_and_nothing_else(grasp):
    folder, record = grasp / "exported", read_record(record_path(grasp))
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "grasp_bench.json",
        "samples.png",
        "weights.safetensors",
    }
    assert file_digest(folder / "weights.safetensors") == record.weights
    manifest = json.loads((folder / "grasp_bench.json").read_text())
    assert manifest["run_id"] == record.run_id
    assert manifest["spec"] == record.spec.model_dump(mode="json")
    classes = plan_of(record).task.classes()
    told = [(each["name"], each["group"], each["train_count"]) for each in manifest["classes"]]
    assert told == [(info.name, info.group, info.train_count) for info in classes]
    assert manifest["artifacts"]["partition.json"] == json.loads(
        (record_path(grasp).parent / "partition.json").read_text()
    )


def test_no_path_of_the_machine_leaves_it(grasp, lora):
    for folder in (grasp, lora):
        for path in (folder / "exported").iterdir():
            assert str(folder).encode() not in path.read_bytes(), path


def test_the_card_has_counts_and_the_records_scores(grasp):
    card, record = (grasp / "exported" / "README.md").read_text(), read_record(record_path(grasp))
    front = card.split("---\n")[1]
    for line in ("library_name: grasp-bench", 'base_model: "tiny-sd3"', "license: other", '- "grasp"', '- "digits-lt"'):
        assert line in front.splitlines()
    nine = plan_of(record).task.classes()[9]
    assert f"| 9 | a handwritten digit nine | {nine.group} | {nine.train_count} |" in card
    (fd,) = [each for each in record.scores if (each.metric, each.group, each.scope) == ("fd", "tail", "class mean")]
    assert f"{fd.value:.4g} (n={fd.n}, real {fd.reference:.4g})" in card
    assert "base model" in card
    assert "Do not share" not in card


def test_the_cards_own_lines_of_python_run(grasp, tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", (grasp / "exported" / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(code.replace("FOLDER", str(grasp / "exported")))
    assert (tmp_path / "image.png").exists()


def test_the_card_of_private_data_warns(grasp, tmp_path, monkeypatch):
    monkeypatch.setattr("grasp_bench.tasks.digits_lt.DigitsLT.private", True)
    path, record = finished_record(record_path(grasp))
    plan = plan_of(record)
    write.export(plan, record, grasp / "work", path.parent, tmp_path / "new")
    assert "**Do not share these weights" in (tmp_path / "new" / "README.md").read_text()


def test_a_folder_that_is_not_empty_stays_as_it_is(grasp, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    path, record = finished_record(record_path(grasp))
    plan = plan_of(record)
    with pytest.raises(UserError, match="is there already"):
        write.export(plan, record, grasp / "work", path.parent, tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["mine.txt"]
    (tmp_path / "mine.txt").unlink()
    write.export(plan, record, grasp / "work", path.parent, tmp_path)
    assert (tmp_path / "weights.safetensors").exists()


def test_a_disk_that_fills_up_leaves_nothing(grasp, tmp_path, monkeypatch):
    path, record = finished_record(record_path(grasp))
    plan = plan_of(record)
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 5:
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        write.export(plan, record, grasp / "work", path.parent, tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_lora_loads_with_peft(lora):
    trained = grasp_bench.load(lora / "exported", device="cpu")
    expected = output(trained.transformer)
    assert not torch.equal(expected, output(TinySD3.load().transformer))
    model = peft.PeftModel.from_pretrained(TinySD3.load().transformer, lora / "exported")
    assert torch.equal(output(model), expected)
    config = json.loads((lora / "exported" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 10)


def test_lora_loads_with_diffusers_transformer(lora):
    expected = output(grasp_bench.load(lora / "exported", device="cpu").transformer)
    transformer = TinySD3.load().transformer
    transformer.load_lora_adapter(lora / "exported", weight_name="pytorch_lora_weights.safetensors")
    torch.testing.assert_close(output(transformer), expected)


def test_lora_generates_what_its_run_generated(lora):
    pipeline = grasp_bench.load(lora / "exported", device="cpu")
    (path,) = (lora / "work" / "generate").glob("*/images.safetensors")
    assert torch.equal(pipeline.sample(class_name="9", num_images=8), read_tensors(path)["images"][-8:])


@pytest.mark.slow
def test_lora_of_a_saved_pipeline_loads_with_diffusers(tmp_path):
    saved = save_sd3(tmp_path / "pipeline", tmp_path / "scratch")
    settings = {"method_settings": ["alpha=22", "learning_rate=1e-3"], "task_settings": ["precision=float32"]}
    folder = exported(tmp_path / "run", "lora", backbone=f"sd3:{saved}", **settings)
    fine_tuned = grasp_bench.load(folder / "exported", f"sd3:{saved}", "cpu")
    assert 'backbone="sd3:FOLDER"' in (folder / "exported" / "README.md").read_text()
    for path in (folder / "exported").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path
    pipeline = StableDiffusion3Pipeline.from_pretrained(saved)
    generator = torch.Generator().manual_seed(0)
    shapes = {"hidden_states": (1, 16, 8, 8), "encoder_hidden_states": (1, 9, 64), "pooled_projections": (1, 40)}
    arguments = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}

    @torch.no_grad()
    def predict(transformer):
        return transformer(**arguments, timestep=torch.tensor([500.0]), return_dict=False)[0]

    base = predict(pipeline.transformer)
    pipeline.load_lora_weights(folder / "exported", weight_name="pytorch_lora_weights.safetensors")
    torch.testing.assert_close(predict(pipeline.transformer), predict(fine_tuned.transformer))
    assert not torch.allclose(predict(pipeline.transformer), base)
    moved = shutil.move(saved, tmp_path / "moved")
    with pytest.raises(UserError, match="Name them: --backbone sd3:FOLDER"):
        grasp_bench.load(folder / "exported")
    assert grasp_bench.load(folder / "exported", f"sd3:{moved}", "cpu")
