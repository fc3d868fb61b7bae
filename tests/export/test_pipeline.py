import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

import grasp_bench
from grasp_bench.errors import UserError
from grasp_bench.io import read_tensors


@pytest.fixture(scope="module")
def pipeline(grasp):
    return grasp_bench.load(grasp / "exported", device="cpu")


@pytest.fixture(scope="module")
def generated(grasp):
    """What the run's generate stage wrote: (classes, images per class, C, H, W)."""
    (path,) = (grasp / "work" / "generate").glob("*/images.safetensors")
    return read_tensors(path)["images"].reshape(10, 8, 1, 8, 8)


@pytest.mark.parametrize("index", [0, 9])
def test_images_of_a_class_are_those_that_the_run_generated(pipeline, generated, index):
    name = pipeline.manifest.classes[index].name
    assert torch.equal(pipeline.sample(class_name=name, num_images=8), generated[index])


def test_images_do_not_depend_on_how_many_are_made_at_a_time(pipeline, generated):
    name = pipeline.manifest.classes[7].name
    assert torch.equal(pipeline.sample(class_name=name, num_images=5, batch_size=2), generated[7][:5])


def test_a_class_s_own_prompt_names_it(pipeline, generated):
    prompt = pipeline.manifest.classes[4].prompt
    assert torch.equal(pipeline.sample(prompt, num_images=2), generated[4][:2])


def test_it_is_one_of_diffusers_pipelines(pipeline, generated):
    assert isinstance(pipeline, DiffusionPipeline)
    assert set(pipeline.components) == {"transformer", "scheduler"}
    assert pipeline.to("cpu").device == torch.device("cpu")
    images = pipeline(class_name=pipeline.manifest.classes[3].name, num_images=3, seed=2).images
    assert [image.mode for image in images] == ["L"] * 3
    assert np.array_equal(np.stack(images), generated[3][:3, 0].numpy())


def test_the_class_decides_the_route(pipeline):
    head, tail = (
        next(info.name for info in pipeline.manifest.classes if info.group == group) for group in ("head", "tail")
    )
    before = {name: pipeline.sample(class_name=name, num_images=2) for name in (head, tail)}
    cluster = pipeline.manifest.artifacts["partition.json"]["classes"][tail]
    trained = {name: value.clone() for name, value in pipeline.method.state_dict().items()}
    try:
        for name, parameter in pipeline.method.parameters().items():
            if name.endswith(f".{cluster}"):
                parameter.data += 0.5
        assert torch.equal(pipeline.sample(class_name=head, num_images=2), before[head])
        assert not torch.equal(pipeline.sample(class_name=tail, num_images=2), before[tail])
    finally:
        pipeline.method.load_state_dict(trained)


def test_another_guidance_seed_prompt_or_number_of_steps_gives_other_images(pipeline, generated):
    name = pipeline.manifest.classes[0].name
    for changes in (
        {"guidance": "none"},
        {"guidance_settings": {"guidance_scale": 6.5}},
        {"seed": 3},
        {"num_inference_steps": 3},
        {"prompt": "a printed letter A"},
    ):
        assert not torch.equal(pipeline.sample(class_name=name, num_images=8, **changes), generated[0]), changes


def test_at_equal_evaluations_every_guidance_has_its_own_steps(pipeline, generated, monkeypatch):
    manifest, name = pipeline.manifest, pipeline.manifest.classes[0].name
    budget = manifest.spec.budget.model_copy(update={"evaluations": 8})
    unguided = pipeline.sample(class_name=name, guidance="none", num_inference_steps=8)
    spec = manifest.spec.model_copy(update={"budget": budget})
    monkeypatch.setattr(pipeline, "manifest", manifest.model_copy(update={"spec": spec}))
    assert torch.equal(pipeline.sample(class_name=name), generated[0][:4])
    assert torch.equal(pipeline.sample(class_name=name, guidance="none"), unguided)


def test_guidance_settings_that_are_the_runs_change_nothing(pipeline, generated):
    name = pipeline.manifest.classes[0].name
    for changes in ({"guidance": "cfg"}, {"guidance_settings": {"guidance_scale": 3}}):
        assert torch.equal(pipeline.sample(class_name=name, num_images=8, **changes), generated[0])
    conditional = pipeline.sample(class_name=name, guidance="cfg", guidance_settings={"guidance_scale": 1})
    assert torch.equal(conditional, pipeline.sample(class_name=name, guidance="none"))


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({}, ["neither a class nor a prompt", "There are: "]),
        ({"class_name": "77"}, ["unknown class '77'", "Did you mean '7'?", "There are: "]),
        ({"prompt": "a cat"}, ["'a cat' is no class's own prompt", "Name a class", "There are: "]),
        ({"class_name": "7", "num_images": 0}, ["num_images=0"]),
        ({"class_name": "7", "seed": -1}, ["seed=-1"]),
        ({"class_name": "7", "num_inference_steps": 0}, ["num_inference_steps=0"]),
        ({"class_name": "7", "guidance": "cgf"}, ["unknown guidance 'cgf'"]),
        ({"class_name": "7", "guidance": "pag"}, ["guidance pag needs more of the run"]),
        ({"class_name": "7", "guidance_settings": {"scale": 1}}, ["guidance cfg has no setting 'scale'"]),
        ({"class_name": "7", "guidance_settings": {"guidance_scale": -1}}, ["guidance_scale='-1'"]),
    ],
)
def test_mistakes_are_one_message(pipeline, arguments, parts):
    with pytest.raises(UserError) as error:
        pipeline(**arguments)
    for part in parts:
        assert part in str(error.value)


def test_saving_it_says_what_to_do_instead(pipeline, tmp_path):
    with pytest.raises(NotImplementedError, match="grasp-bench export"):
        pipeline.save_pretrained(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


@pytest.fixture
def copy(grasp, tmp_path):
    return shutil.copytree(grasp / "exported", tmp_path / "copy")


def test_damaged_weights_are_refused(copy):
    path = copy / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"weights\.safetensors: its sha256 begins with"):
        grasp_bench.load(copy)


def test_a_folder_without_weights_is_refused(copy):
    (copy / "weights.safetensors").unlink()
    with pytest.raises(UserError, match=r"weights\.safetensors: cannot be read"):
        grasp_bench.load(copy)


def test_a_folder_that_is_no_export_is_refused(tmp_path):
    with pytest.raises(UserError, match="Expected a folder that `grasp-bench export` wrote"):
        grasp_bench.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda spec: spec["backbone"].update(version="0123456789ab"),
            "of revision .*, the run was made with 0123456789ab",
        ),
        (lambda spec: spec["backbone"].update(name="tiny-sd3-32"), "tiny-sd3-32 is of revision"),
        (lambda spec: spec["method"].update(version="0"), "method grasp is of version .* was made with 0"),
        (lambda spec: spec["method"]["settings"].update(rank=0), "settings of method grasp: rank: "),
        (lambda spec: spec["method"]["settings"].update(rank=3), "does not fit method grasp"),
        (lambda spec: spec.update(seed="two"), "not a manifest this version reads: spec.seed"),
    ],
)
def test_what_it_was_made_with_has_to_be_there(copy, change, message):
    path = copy / "grasp_bench.json"
    manifest = json.loads(path.read_text())
    change(manifest["spec"])
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=message):
        grasp_bench.load(copy)


def test_other_routes_than_it_was_trained_with_are_refused(copy):
    path = copy / "grasp_bench.json"
    manifest = json.loads(path.read_text())
    rare = next(each for each in manifest["classes"] if each["group"] == "tail")
    rare["group"] = "head"
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"otherwise than it was trained to \(partition\.json\)"):
        grasp_bench.load(copy)


def test_the_weights_of_another_backbone_are_refused(grasp):
    with pytest.raises(UserError, match="the run is of backbone tiny-sd3, and its weights fit no other"):
        grasp_bench.load(grasp / "exported", backbone="tiny-sd3-32")


def test_a_guidance_that_draws_has_each_image_s_own_stream(pipeline):
    asked = {"class_name": "7", "guidance": "sg-minority", "num_inference_steps": 5, "num_images": 2}
    assert torch.equal(pipeline.sample(**asked), pipeline.sample(**asked, batch_size=1))


def test_images_of_a_tiny_backbone_take_one_thread_and_the_program_as_many_as_before(pipeline, monkeypatch):
    found = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(type(pipeline), "images", lambda *_: found.append(torch.get_num_threads()) or torch.zeros(1))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        pipeline.sample(class_name=pipeline.manifest.classes[0].name, num_images=1)
        assert (found, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)
