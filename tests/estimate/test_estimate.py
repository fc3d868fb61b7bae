"""From what steps take to what fits, how long it lasts and what it costs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from device.tiny import save
from typer.testing import CliRunner

from grasp_bench.cli import app
from grasp_bench.errors import UserError
from grasp_bench.estimate import cost, memory, sweep, table, text
from grasp_bench.estimate.depth import extrapolated
from grasp_bench.estimate.devices import DEVICES, GIB, Device, parse_device
from grasp_bench.estimate.errors import SkippedError
from grasp_bench.estimate.estimate import Estimate, estimate, total
from grasp_bench.estimate.parts import attached
from grasp_bench.estimate.simulate import SimulatedGpu
from grasp_bench.estimate.subject import Subject, choose

H100 = DEVICES["h100-80gb"]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save("pixart", tmp_path_factory.mktemp("pixart"))


@pytest.fixture(scope="module")
def subject(backbone: str) -> Subject:
    return choose("grasp", "digits-lt", backbone, method_settings=["rank=16"])


@pytest.fixture(scope="module")
def found(subject: Subject) -> Estimate:
    return estimate(subject, H100, both=True)


@pytest.mark.slow
def test_the_parts_of_a_step_are_as_large_as_fit(found: Estimate) -> None:
    budget = found.subject.budget
    assert found.fits
    assert (found.training.micro_batch, found.training.accumulate) == (budget.batch_size, 1)
    room = found.measured.passes.peak(8) + found.measured.step.optimizer
    small = Device("small", (room / 0.95 + 0.6 * GIB / 0.95) / GIB, 100, 100)
    assert small.usable == pytest.approx(room)

    def way(memory_of: float, *tried: int) -> memory.Training:
        measured = found.measured
        return memory.training(measured, measured.passes, budget.batch_size, tried, Device("one", memory_of, 1, 1))

    halved = way(small.memory * 1.0001, 1, 2, 4, 8, 16)
    assert (halved.micro_batch, halved.accumulate) == (8, 8)
    assert way(small.memory * 1.0001, 1).micro_batch == 0
    assert way(0.6, 1, 2, 64).micro_batch == 0


def test_what_options_of_a_run_say_is_estimated(subject: Subject, found: Estimate) -> None:
    asked = estimate(subject, H100, manner=memory.Manner(4, True, processes=2, images_at_once=3))
    assert asked.way.checkpointing
    assert (asked.way.accumulate, asked.way.micro_batch) == (4, found.subject.budget.batch_size // 8)
    assert asked.sampling.images == 3
    copied = asked.measured.step.gradients  # of what processes exchange
    assert asked.way.exchanged == copied > 0
    alone = estimate(subject, H100, manner=memory.Manner(8, True))
    assert alone.way.micro_batch == asked.way.micro_batch
    assert asked.way.peak == alone.way.peak + copied


def test_processes_and_parts_that_cannot_share_a_step_are_refused(subject: Subject) -> None:
    for manner in (memory.Manner(processes=3), memory.Manner(5), memory.Manner(32, processes=4)):
        with pytest.raises(UserError, match="cannot be shared evenly"):
            estimate(subject, H100, manner=manner)


def test_checkpointing_takes_another_forward_pass_and_is_left_out_where_there_is_memory(found: Estimate) -> None:
    assert found.checkpointed is not None
    assert found.checkpointed.passes.flops == pytest.approx(1.5 * found.training.passes.flops, rel=0.1)
    assert found.way is found.training


def test_a_method_whose_batch_stays_whole_says_so_where_it_does_not_fit(backbone: str) -> None:
    subject = choose("moe", "digits-lt", backbone)
    narrow = Device("narrow", 0.63, 100, 100)
    found = estimate(subject, narrow)
    assert not found.way.micro_batch
    reason = subject.method.needs_whole_batch
    assert reason
    assert f"NOT fitting: a step's images are worked on together, since {reason}; --accumulate N" in text.short(found)
    assert ", which stay together)" in table.row(found)[5]
    parted = estimate(subject, narrow, manner=memory.Manner(64))
    assert parted.way.accumulate == 64
    assert "together" not in text.short(parted)


def test_a_run_fits_where_its_encoders_do_too(found: Estimate) -> None:
    """They are on the GPU by themselves before training; the tiny pipeline names no text encoder."""
    assert found.encoding == {"images": found.measured.coding.encode.peak, "prompts": 0}
    parameters = 10 * 2**30
    shapes = replace(found.measured.shapes, encoders=parameters)
    large = replace(found, measured=replace(found.measured, shapes=shapes))
    assert large.fits
    assert ", 40.0 GiB to encode prompts, " in text.short(large)
    small = replace(large, device=DEVICES["a100-40gb"])
    assert not small.fits
    assert replace(found, device=small.device).fits
    assert ", 40.0 GiB to encode prompts (NOT fitting), " in text.short(small)
    written = small.to_json()
    assert (written["fits"], written["text_encoders"]) == (False, 4 * parameters)


def test_the_parts_of_the_peak_are_its_sum(found: Estimate) -> None:
    way = found.training
    assert way.peak == way.weights + way.optimizer + way.exchanged + way.activations
    assert way.exchanged == 0
    sampling = found.sampling
    held = sampling.weights + sampling.autoencoder
    assert sampling.peak == held + max(sampling.activations, sampling.decoding)


def test_stages_follow_from_the_budget(found: Estimate) -> None:
    budget, measured = found.subject.budget, found.measured
    stages = {stage.name: stage for stage in found.stages}
    assert stages["train"].flops == pytest.approx(budget.steps * budget.batch_size * measured.passes.flops)
    evaluations = 10 * budget.images_per_class * 2 * budget.num_inference_steps  # cfg has two a step
    sampling = measured.sampling
    assert stages["generate"].flops == pytest.approx(evaluations * sampling.taken.flops / sampling.evaluations)
    assert found.hours == pytest.approx(sum(stage.hours for stage in found.stages))
    quick = cost.stages(found.subject, measured, found.way, Device("quick", 80, 1e9, 1e9), 0.4)
    assert sum(stage.hours for stage in quick) < 1e-3 * found.hours


@pytest.mark.slow
def test_what_a_method_would_study_is_presumed_and_its_time_is_counted(backbone: str) -> None:
    """Prior's images of ten classes and lora-attn's search of two layers; the step of prior is two plain ones."""

    def of(method: str, *settings: str) -> tuple[Estimate, float, str]:
        found = estimate(choose(method, "digits-lt", backbone, method_settings=settings), H100)
        sampling = found.measured.sampling
        (study,) = [stage for stage in found.stages if stage.name == "study"]
        assert [stage.name for stage in found.stages][1:4] == ["prompts", "study", "train"]
        return found, study.flops * sampling.evaluations / sampling.taken.flops, study.shared

    plain = estimate(choose("vanilla-ft", "digits-lt", backbone), H100)
    prior, images, shared = of("prior")
    assert images == pytest.approx(10 * 16 * 20 * 2)
    assert prior.measured.passes.flops == pytest.approx(2 * plain.measured.passes.flops)
    assert prior.measured.step.parameters == plain.measured.step.parameters
    study = next(stage.hours for stage in prior.stages if stage.name == "study")
    alone = replace(prior, stages=[stage for stage in prior.stages if stage.shared == shared])
    assert total([(alone, "0"), (alone, "0"), (alone, "1")]).hours == pytest.approx(2 * study)
    assert of("prior", "prior_scale=1", "prior_images=4")[1] == pytest.approx(10 * 4 * 20)
    _, layers, _ = of("lora-attn")
    assert layers == pytest.approx(4 * 4 * (2 + 2 + 1 + 1))
    assert of("prior", "on=lora-attn")[1] == pytest.approx(images + layers)
    without = estimate(choose("prior", "digits-lt", backbone, method_settings=["prior_weight=0"]), H100)
    assert [stage.name for stage in without.stages] == [stage.name for stage in plain.stages]


def test_time_is_that_of_products_or_of_memory() -> None:
    device = Device("round", 80, 100, 1000)
    assert device.seconds(100e12, 0, "bfloat16", 0.5) == 2
    assert device.seconds(100e12, 0, "float32", 0.5) == 4
    assert device.seconds(100e12, 3e12, "bfloat16", 0.5) == 3


def test_a_classifier_of_another_recipe_is_measured_and_counted_by_itself(
    subject: Subject, found: Estimate, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = subject.sampled.classifier
    monkeypatch.setattr(type(subject.sampled), "classifier", replace(recipe, batch_size=4 * recipe.batch_size))
    other = estimate(subject, H100)
    assert other.classifier > 2 * found.classifier
    real = next(stage for stage in other.stages if stage.name == "classify-real")
    alone = replace(other, stages=(real,))
    assert total([(found, "0"), (alone, "0")]).hours == pytest.approx(found.hours + real.hours)


def test_the_disk_holds_what_stages_leave(found: Estimate) -> None:
    images = sum(info.train_count for info in found.subject.task.classes())
    assert found.disk["latents"] == images * 4 * 16 * 16 * 4
    assert found.disk["images"] == 10 * found.subject.budget.images_per_class * 3 * 128 * 128
    assert found.disk["checkpoints"] == 2 * 12 * found.measured.step.parameters


def test_what_runs_share_is_counted_once(found: Estimate) -> None:
    hours = {stage.name: stage.hours for stage in found.stages}
    assert total([(found, "0")]).hours == pytest.approx(found.hours)
    once = hours["latents"] + hours["prompts"]
    assert total([(found, "0"), (found, "1")]).hours == pytest.approx(2 * found.hours - once)
    again = once + hours["train"] + hours["classify-real"]  # as of another guidance
    assert total([(found, "0"), (found, "0")]).hours == pytest.approx(2 * found.hours - again)
    assert total([(found, "0")]).money(2) == pytest.approx(2 * found.hours)


def test_a_training_is_shared_with_the_task_whose_classifiers_its_images_teach(found: Estimate) -> None:
    own, lent = (
        {stage.name: stage.shared for stage in cost.stages(choose("grasp", task), found.measured, found.way, H100, 0.4)}
        for task in ("mimic-lt", "nih-lt")
    )
    same = {name for name in own if own[name] and own[name] == lent[name]}
    assert same == {"latents", "prompts", "train"}
    assert own["classify-real"]
    assert lent["classify-real"]


def test_prompts_of_reports_and_of_label_sets_are_as_many_as_there_may_be(found: Estimate) -> None:
    named = choose("lora", "mimic-lt").task
    reports = choose("lora", "mimic-lt", task_settings=["prompts=report"])
    assert named.most_prompts() == 20
    assert reports.task.most_prompts() == 20 + 87_493
    assert choose("lora", "nih-lt-multi").task.most_prompts() == 1 + 15 + 2**15
    shapes = replace(found.measured.shapes, encoded=True, prompt=1000, encoders=10**6)
    measured = replace(found.measured, shapes=shapes)

    def taken(subject: Subject) -> tuple[float, float]:
        stages = cost.stages(subject, measured, found.way, H100, 0.4)
        flops = next(stage.flops for stage in stages if stage.name == "prompts")
        return cost.disk(subject, measured)["prompts"], flops

    few, many = taken(replace(reports, plan=choose("lora", "mimic-lt").plan)), taken(reports)
    assert few[0] == 1000 * 20
    assert many[0] == 1000 * (20 + 87_493)
    assert many[1] / few[1] == pytest.approx(many[0] / few[0])


def test_an_image_of_several_labels_is_counted_once(found: Estimate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRASP_BENCH_DATA", raising=False)
    for task, images in {"nih-lt-multi": 75_708, "cxr-lt": 264_849}.items():
        subject = choose("lora", task)
        assert subject.task.train_images() == images
        kept = cost.disk(subject, replace(found.measured, shapes=replace(found.measured.shapes, encoded=True)))
        assert kept["latents"] == images * 4 * 16 * 16 * 4
        assert kept["pixels"] == images * 3 * 224 * 224
        classes = len(subject.task.classes())
        assert subject.task.most_prompts() == 1 + classes + min(images, 2**classes)


@pytest.mark.parametrize("text", ["h100", "1,2", "80,989,fast", "80,0,1"])
def test_a_gpu_that_is_not_known_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--gpu"):
        parse_device(text)
    assert parse_device("24,165,1008") == Device("24,165,1008", 24, 165, 1008)


@pytest.mark.parametrize(("task", "classes", "images"), [("mimic-lt", 19, 87_493), ("nih-lt-gen", 20, 68_058)])
def test_tasks_need_no_data(task: str, classes: int, images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRASP_BENCH_DATA", raising=False)
    infos = choose("grasp", task).task.classes()
    assert (len(infos), sum(info.train_count for info in infos)) == (classes, images)


def test_a_task_whose_classes_come_with_its_data_goes_by_its_published_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRASP_BENCH_DATA", raising=False)
    infos = choose("grasp", "imagenet-lt").task.classes()
    assert len(infos) == 1000
    assert sum(info.train_count for info in infos) == pytest.approx(115_846, rel=0.005)
    assert [sum(info.group == group for info in infos) for group in ("head", "medium", "tail")] == [385, 479, 136]


def test_a_task_with_a_generator_is_trained_on_that() -> None:
    chosen = choose("grasp", "nih-lt")
    assert (len(chosen.task.classes()), len(chosen.sampled.classes())) == (19, 13)


@pytest.mark.parametrize(
    ("backbone", "evaluations", "rate"),
    [("sd3.5-medium", 2 * 40, 1e-4), ("flux-dev", 28, 1e-4), ("sana-0.6b", 2 * 20, 1e-4)],
)
def test_a_run_is_estimated_as_the_recipe_of_its_backbone_says(backbone: str, evaluations: int, rate: float) -> None:
    chosen = choose("grasp", "mimic-lt", backbone)
    guidance, budget = chosen.guidance, chosen.spec.budget
    assert guidance.evaluations(guidance.steps(budget)) == evaluations
    assert budget.precision == "bfloat16"
    assert chosen.method.config.learning_rate == rate


def test_samples_are_of_as_many_groups_as_possible(subject: Subject) -> None:
    infos = subject.task.classes()
    assert {infos[label].group for label in subject.mixed(3)} == {"head", "medium", "tail"}
    assert len(subject.mixed(25)) == 25


# The command


def run(*words: str) -> tuple[int, str, BaseException | None]:
    shown = CliRunner().invoke(app, ["estimate", *words])
    return shown.exit_code, shown.output, shown.exception


def test_a_run_is_estimated_on_one_screen(backbone: str, tmp_path: Path) -> None:
    words = ("-m", "grasp", "-t", "digits-lt", "--backbone", backbone, "--rate", "2.5")
    code, shown, error = run(*words, "--json", str(tmp_path / "found.json"))
    assert code == 0, error
    for part in ("trainable parameters", "activations at the peak", "classify-real", "checkpoints", "per GPU-hour"):
        assert part in shown
    written = json.loads((tmp_path / "found.json").read_text())
    assert written["money"] == pytest.approx(2.5 * written["hours"])
    assert written["training"]["micro_batch"] == 64
    assert written["resolution"] == 128


def test_a_sweep_is_estimated_with_its_price(backbone: str, tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(f'methods = ["grasp"]\ntasks = ["digits-lt"]\nseeds = [0, 1]\nbackbones = ["{backbone}"]\n')
    code, shown, error = run(str(file), "--rate", "2", "--json", str(tmp_path / "found.json"))
    assert code == 0, error
    assert "2 runs" in shown
    written = json.loads((tmp_path / "found.json").read_text())
    assert written["runs"] == 2
    assert written["money"] == pytest.approx(2 * written["gpu_hours"])
    assert written["estimates"][0]["seeds"] == ["0", "1"]


def test_a_cell_without_an_estimate_is_named_and_the_others_are_estimated(backbone: str, tmp_path: Path) -> None:
    file, written = tmp_path / "sweep.toml", tmp_path / "found.json"
    file.write_text(
        f'methods = ["grasp", "lora"]\ntasks = ["digits-lt"]\nseeds = [0, 1]\nbackbones = ["{backbone}"]\n'
        'guidances = ["cfg", "distilled"]\n[set.grasp]\npartition = ["text"]\n'
    )
    code, shown, error = run(str(file), "--json", str(written))
    assert code == 0, error
    lines = [" ".join(line.split()) for line in shown.splitlines() if line.startswith("no estimate: ")]
    assert [line.split()[2] for line in lines] == ["grasp", "grasp", "lora"]
    assert ["before it is attached" in line for line in lines] == [True, False, False]
    assert ["learns before it guides" in line for line in lines] == [False, True, True]
    found = json.loads(written.read_text())
    assert [each["method"] for each in found["estimates"]] == ["lora"]
    assert found["runs"] == 2
    assert list(found["left_out"].values()) == [2, 2, 2]
    short = run(str(file), "--short")[1]
    assert len(short.splitlines()) == 1
    assert "; 6 runs without an estimate come on top" in short


def test_a_sweep_of_which_no_run_has_an_estimate_says_why(backbone: str, tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(
        f'methods = ["grasp"]\ntasks = ["digits-lt"]\nseeds = [0]\nbackbones = ["{backbone}"]\n'
        '[set.grasp]\npartition = ["text"]\n'
    )
    _, _, error = run(str(file))
    assert isinstance(error, UserError)
    assert "no run has an estimate. grasp partition=text on digits-lt" in str(error)


def test_a_sweep_is_estimated_at_its_resolution_and_as_its_options_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, sana = tmp_path / "sweep.toml", save("sana", tmp_path)
    file.write_text(
        f'methods = ["grasp"]\ntasks = ["digits-lt"]\nseeds = [0]\nbackbones = ["{sana}"]\nresolution = 256\n'
        "[options]\nprocesses = 4\naccumulate = 8\nbatch_size = 4\ngradient_checkpointing = true\n"
    )
    asked: list[tuple[int | None, memory.Manner]] = []

    def keep(each: Subject, *_: object, manner: memory.Manner) -> Estimate:
        asked.append((each.resolution, manner))
        raise SkippedError("what is asked is enough")

    monkeypatch.setattr(sweep, "estimate", keep)
    sweep.estimate_sweep(file, H100, 0.4, None)
    sweep.estimate_sweep(file, H100, 0.4, 512)
    file.write_text(f"{file.read_text()}shard = true\n")
    with pytest.raises(UserError, match=r"\[options\] shard: the weights are sharded"):
        sweep.estimate_sweep(file, H100, 0.4, None)
    manner = memory.Manner(8, True, processes=4, images_at_once=4)
    assert asked == [(256, manner), (512, manner)]


def test_a_table_has_a_row_for_each(backbone: str) -> None:
    words = ("--table", "-t", "digits-lt", "-m", "grasp", "-m", "lora", "--backbone", backbone, "--resolution", "128")
    code, shown, error = run(*words)
    assert code == 0, error
    assert [line.split("|")[3].strip() for line in shown.splitlines()] == ["method", "---", "grasp", "lora"]


def test_what_a_study_decides_is_counted_by_what_is_presumed_of_it_and_else_not() -> None:
    plain, meaning = "rank 11: 43,648", {"≈": "by what estimates presume", "by its study": "not counted"}
    for words, cell, mark in (
        (("prior", "--set", "on=lora"), f"≈ {plain}", "≈"),
        (("lora-attn", "--set", "rank=11"), f"≈ {plain}", "≈"),
        (("grasp", "--set", "partition=text"), "by its study", "by its study"),
        (("lora", "--set", "rank=11"), plain, ""),
    ):
        code, shown, error = run("--parameters", "-m", *words, "--backbone", "tiny-sd3")
        assert code == 0, error
        assert f"| {words[0]} {words[2]} | {cell} |" in shown
        assert [each for each, said in meaning.items() if f"{each}: {said}" in shown] == [mark] * bool(mark)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-t", "digits-lt"), "--method and --task"),
        (("-m", "grasp", "-m", "lora", "-t", "digits-lt"), "--method is given 2 times"),
        (("sweep.toml", "-m", "grasp"), "--method: no effect with a sweep's file. Leave it out."),
        (("--table", "--rate", "2", "--set", "rank=4"), "--rate and --set: no effect with --table. Leave them out."),
        (("--table", "--parameters"), "--table: no effect with --parameters"),
        (("--parameters", "--set", "rank=4"), "--set rank=4: of which method?"),
        (("-m", "grasp", "-t", "digits-lt", "--gpu", "h101-80gb"), "Did you mean 'h100-80gb'"),
        (("-m", "grasp", "-t", "digits-lt", "--set", "partition=text"), "before it is attached"),
        (("-m", "grasp", "-t", "digits-lt", "--guidance", "distilled"), "learns before it guides"),
        (("-m", "grasp", "-t", "digits-lt", "--resolution", "64"), "makes images of 8 pixels"),
    ],
)
def test_mistakes_are_said(words: tuple[str, ...], message: str) -> None:
    code, _, error = run(*words)
    assert code != 0
    assert isinstance(error, UserError)
    assert message in str(error)


def test_help_loads_neither_torch_nor_pandas() -> None:
    code = (
        "import sys\nfrom grasp_bench.cli import app\n"
        "try: app(['estimate', '--help'])\n"
        "except SystemExit: print([name for name in ('torch', 'pandas') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.endswith("[]\n")


@pytest.mark.slow
def test_a_size_that_follows_from_a_number_of_parameters_is_that_of_the_full_depth() -> None:
    """Extrapolation attaches methods to a few blocks, where the same number gives a larger rank."""
    subject = choose("lora", "digits-lt", "sana-0.6b")

    def counted(each: Subject) -> list[int]:
        with SimulatedGpu():
            _, method = attached(each)
            return [sum(parameter.numel() for parameter in method.parameters().values())]

    assert extrapolated(counted, subject) == [16 * 28 * 8 * (1152 + 1152)]
