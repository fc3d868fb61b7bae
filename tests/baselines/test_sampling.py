"""How often classes are drawn, and how much their losses count: settings of every method."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import runs

from grasp_bench import seeds
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.baselines.lora import Lora
from grasp_bench.contracts.task import Split
from grasp_bench.data.order import DataOrder
from grasp_bench.errors import Skip, UserError
from grasp_bench.processes import ALONE, Processes
from grasp_bench.run.encoded import KnownPrompts, Pixels
from grasp_bench.run.options import Options
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.plan import Plan, plan
from grasp_bench.run.training.batches import Batches

CPU = torch.device("cpu")
COUNTS = np.array([600, 200, 50, 10])


def planned(*settings: str, method: str = "lora", **changes) -> Plan:
    return plan(method=method, task="digits-lt", budget="smoke", method_settings=settings, **changes)


def drawn_shares(*settings: str) -> np.ndarray:
    """How often each class is seen in the long run."""
    labels = np.repeat(np.arange(len(COUNTS)), COUNTS)
    weights = planned(*settings).method.sample_weights(COUNTS)
    order = DataOrder("digits-lt", 0, len(labels), 500, None if weights is None else weights[labels])
    seen = labels[np.concatenate([order(step) for step in range(86)])]  # 50 epochs
    return np.bincount(seen, minlength=len(COUNTS)) / len(seen)


@pytest.mark.parametrize(("sampling", "power"), [("natural", 1), ("sqrt", 0.5), ("balanced", 0)])
def test_classes_are_seen_as_often_as_was_asked(sampling, power) -> None:
    expected = COUNTS**power / (COUNTS**power).sum()
    assert drawn_shares(f"sampling={sampling}") == pytest.approx(expected, abs=0.02)


def test_a_class_without_images_is_no_hindrance() -> None:
    counts = np.array([9, 0, 4])
    method = planned("sampling=balanced", "weighting=effective-number").method
    assert np.isfinite(method.sample_weights(counts)).all()
    weights = method.loss_weights(counts)
    assert np.isfinite(weights).all()
    assert (weights[[0, 2]]).mean() == pytest.approx(1)  # each is half of what is drawn


@pytest.mark.parametrize("method", ["vanilla-ft", "lora", "moe", "grasp", "shared-adapter"])
def test_defaults_enter_neither_identity_nor_name(method) -> None:
    spelled_out = planned("sampling=natural", "weighting=none", method=method)
    assert planned(method=method).spec == spelled_out.spec
    assert not {"sampling", "weighting", "effective_number_beta"} & spelled_out.spec.method.settings.keys()
    changed = planned("sampling=sqrt", method=method)
    assert changed.spec.id != spelled_out.spec.id
    assert changed.label == f"{method}~sampling=sqrt"
    assert spelled_out.method.sample_weights(COUNTS) is spelled_out.method.loss_weights(COUNTS) is None


@pytest.mark.parametrize(("settings", "sampling"), [((), "natural"), (("sampling=balanced",), "balanced")])
def test_a_record_says_how_classes_were_drawn_also_where_that_is_the_default(
    settings, sampling, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(Lora, "supports", lambda self, backbone, task: Skip("for the test"))
    assert runs.finish(tmp_path, planned(*settings)).sampling == sampling


def test_a_beta_that_does_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"effective_number_beta=0\.9 does nothing with weighting=none"):
        planned("effective_number_beta=0.9")


@pytest.mark.parametrize("sampling", ["natural", "sqrt", "balanced"])
@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999])
def test_weights_have_a_mean_of_1_over_what_is_drawn(sampling, beta) -> None:
    asked = (f"sampling={sampling}", "weighting=effective-number", f"effective_number_beta={beta}")
    weights = planned(*asked).method.loss_weights(COUNTS)
    drawn = COUNTS ** {"natural": 1, "sqrt": 0.5, "balanced": 0}[sampling]
    assert (weights * drawn).sum() / drawn.sum() == pytest.approx(1)


def test_weights_go_from_none_to_the_inverse_of_the_count() -> None:
    def weights(beta: float) -> np.ndarray:
        found = planned("weighting=effective-number", f"effective_number_beta={beta}").method.loss_weights(COUNTS)
        assert found is not None
        return found

    assert weights(0) == pytest.approx(np.ones(4))
    nearly = weights(0.99999999)
    assert nearly / nearly[0] == pytest.approx(COUNTS[0] / COUNTS, rel=1e-4)
    between = weights(0.999)
    assert between[0] / between[3] == pytest.approx((1 - 0.999**10) / (1 - 0.999**600))


@pytest.fixture(scope="module")
def backbone() -> TinySD3:
    return TinySD3.load()


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> Split:
    task, folder = planned().task, tmp_path_factory.mktemp("digits")
    task.prepare(folder, runs.Listener())
    return task.open(folder, (1, 8, 8)).train


def batches(backbone: TinySD3, split: Split, chosen: Plan, processes: Processes = ALONE) -> Batches:
    counts = np.bincount(split.labels, minlength=10)
    return Batches(
        chosen.spec,
        split,
        backbone,
        Pixels(split, backbone),
        KnownPrompts(["", *split.prompts], backbone),
        CPU,
        chosen.method.sample_weights(counts),
        processes,
        chosen.method.loss_weights(counts),
    )


def test_methods_with_the_same_sampling_see_the_same_samples(backbone, split) -> None:
    balanced = [batches(backbone, split, planned("sampling=balanced", method=name)) for name in ("lora", "moe")]
    natural = batches(backbone, split, planned())
    for step in (0, 40):
        assert balanced[0](step).digest == balanced[1](step).digest != natural(step).digest


def test_a_sample_has_the_weight_of_its_class(backbone, split) -> None:
    chosen = planned("weighting=effective-number")
    expected = chosen.method.loss_weights(np.bincount(split.labels, minlength=10))
    batch = batches(backbone, split, chosen)(3)
    assert batch.weights.numpy() == pytest.approx(expected[batch.condition.labels.numpy()], rel=1e-6)
    assert torch.equal(torch.cat([part.weights for part in batch.split(2)]), batch.weights)
    assert batches(backbone, split, planned())(3).weights is None


def test_every_process_and_part_draws_its_rows_of_the_step(backbone, split) -> None:
    def make(count: int, generator: torch.Generator) -> torch.Tensor:
        return torch.rand(count, 2, generator=generator)

    chosen = planned()
    whole = batches(backbone, split, chosen)(5)
    expected = whole.draw(make)
    assert torch.equal(whole.draw(make), expected)
    shares = [batches(backbone, split, chosen, Processes(index, 2))(5) for index in (0, 1)]
    assert torch.equal(torch.cat([share.draw(make) for share in shares]), expected)
    parts = [part for share in shares for half in share.split(2) for part in half.split(2)]
    assert len(parts) == 8
    assert torch.equal(torch.cat([part.draw(make) for part in parts]), expected)
    assert not torch.equal(batches(backbone, split, chosen)(6).draw(make), expected)


def trained(folder: Path, *settings: str, **task: str) -> tuple[list[float], list[dict[str, float]]]:
    """The loss and the groups' losses of four steps."""
    chosen = planned(*settings, task_settings=[f"{name}={value}" for name, value in task.items()])
    budget = chosen.spec.budget.model_copy(update={"steps": 4})
    chosen = dataclasses.replace(chosen, spec=chosen.spec.model_copy(update={"budget": budget}))
    options = Options(folder / "results", folder / "work", "cpu", log_every=1)
    rows = runs.log_rows(Pipeline(chosen, options, CPU, runs.Listener()).trained / "train.jsonl")
    return [row["loss"] for row in rows], [row["group_loss"] for row in rows]


def test_a_run_is_trained_on_weighted_losses_and_logs_those_of_groups_unweighted(tmp_path) -> None:
    plain, plain_groups = trained(tmp_path)
    weighted, weighted_groups = trained(tmp_path, "weighting=effective-number")
    assert weighted[0] != pytest.approx(plain[0], rel=1e-3)
    assert weighted_groups[0] == pytest.approx(plain_groups[0])  # before the first step nothing differs
    even, _ = trained(tmp_path, "weighting=effective-number", "effective_number_beta=0")
    assert even == pytest.approx(plain, rel=1e-5)


def test_the_init_stream_is_apart_from_sampling(backbone) -> None:
    states = []
    for settings in ((), ("sampling=balanced",)):
        chosen, fresh = planned(*settings), TinySD3.load()
        chosen.method.attach(fresh, chosen.task, seeds.generator("init", "lora"))
        states.append(chosen.method.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
