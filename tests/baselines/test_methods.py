"""What is particular to each method."""

import pytest
import torch
from helpers import runs
from helpers.attaching import attached, forward, sample, train

from grasp_bench.adapters.residual import BASE_ONLY, RoutedAdapter
from grasp_bench.contracts.method import Condition
from grasp_bench.contracts.scope import current_scope
from grasp_bench.errors import UserError
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.plan import plan


def served_by(name: str, *settings: str) -> list[int]:
    """The clusters of two samples of the rarest class, the second with its prompt dropped, and one of the commonest."""
    backbone, method, found = attached(name, *settings)
    dropped = torch.tensor([False, True, False])
    counts = [info.train_count for info in found.task.classes()]
    rarest, commonest = counts.index(min(counts)), counts.index(max(counts))
    condition = Condition(
        torch.tensor([rarest, rarest, commonest]), dropped, backbone.encode_prompts([""] * 3), torch.zeros(3)
    )
    with method.condition(condition):
        route = current_scope()
    clusters = [0, 0, 0]
    for cluster, start, stop in route.segments:
        for position in route.order[start:stop].tolist():
            clusters[position] = cluster
    return clusters


def test_grasp_wraps_every_feed_forward_and_nothing_else() -> None:
    backbone, _, _ = attached("grasp")
    wrapped = [name for name, module in backbone.transformer.named_modules() if isinstance(module, RoutedAdapter)]
    blocks = [f"transformer_blocks.{i}.{stream}" for i in range(4) for stream in ("ff", "ff_context")]
    assert wrapped == blocks[:-1]  # the last block has no feed-forward on the prompt's side


@pytest.mark.parametrize(("name", "on"), [("vanilla-ft", None), ("cbdm", "vanilla-ft")])
def test_in_a_run_full_fine_tuning_keeps_no_copy_of_the_pretrained_weights(tmp_path, name, on) -> None:
    pipeline = Pipeline(runs.small(name), runs.options(tmp_path), torch.device("cpu"), runs.Listener())
    pipeline.attach()
    method = pipeline.plan.method.beneath if on else pipeline.plan.method
    assert method.base == {}
    with pytest.raises(RuntimeError, match="no copy of the pretrained weights"):
        method.detach()


def test_a_dropped_prompt_has_an_adapter_of_its_own_unless_asked_otherwise() -> None:
    assert served_by("grasp") == [2, 3, 0]
    assert served_by("grasp", "null_route=same") == [2, 2, 0]
    assert served_by("grasp", "null_route=base") == [2, BASE_ONLY, 0]
    assert served_by("grasp", "null_route=null") == [2, 3, 0]


def test_the_shared_adapter_has_one_cluster_and_the_size_of_grasp() -> None:
    assert served_by("shared-adapter") == [0, 0, 0]
    sizes = []
    for name in ("grasp", "shared-adapter"):
        _, method, _ = attached(name)
        sizes.append(sum(parameter.numel() for parameter in method.parameters().values()))
    assert sizes[0] == sizes[1]


def test_adapters_are_of_about_equal_size_by_default() -> None:
    sizes = {}
    for name in ("grasp", "lora", "moe", "shared-adapter"):
        _, method, _ = attached(name)
        sizes[name] = sum(parameter.numel() for parameter in method.parameters().values())
    assert max(sizes.values()) < 1.1 * min(sizes.values()), sizes


def test_grasp_saves_its_cluster_map() -> None:
    _, method, found = attached("grasp")
    saved = method.artifacts()["partition.json"]
    assert saved["clusters"] == ["head", "medium", "tail"]
    assert saved["classes"] == {info.name: found.task.groups.index(info.group) for info in found.task.classes()}


def test_a_cluster_that_was_never_trained_still_gives_the_base_models_output() -> None:
    backbone, method, _ = attached("grasp")
    labels = torch.tensor([0, 1, 2])  # head only
    batch = sample(backbone)
    latents, condition = batch.noisy, batch.condition
    head = Condition(labels, torch.zeros(3, dtype=torch.bool), condition.prompts[:3], condition.timesteps[:3])
    optimizer = torch.optim.AdamW(method.parameters().values(), 1e-2)
    with method.condition(head):
        backbone.predict(latents[:3], head.timesteps, head.prompts).square().mean().backward()
    optimizer.step()
    tail = Condition(torch.tensor([9, 9, 9]), head.dropped, head.prompts, head.timesteps)
    with method.condition(tail):
        served = backbone.predict(latents[:3], tail.timesteps, tail.prompts)
    method.detach()
    assert torch.equal(served, backbone.predict(latents[:3], tail.timesteps, tail.prompts))


def test_lora_targets_every_attention_projection_and_nothing_else() -> None:
    _backbone, method, _ = attached("lora")
    targets = {name.rpartition(".lora_")[0] for name in method.parameters()}
    assert len(targets) == 4 * 8 - 1  # the last block has no output projection on the prompt's side
    assert all(".attn." in name for name in targets)


def test_vanilla_trains_every_weight() -> None:
    backbone, method, _ = attached("vanilla-ft")
    assert sum(p.numel() for p in method.parameters().values()) == sum(
        p.numel() for p in backbone.transformer.parameters()
    )


def test_moe_reports_usage_by_group_that_sums_to_one_and_forgets_it() -> None:
    backbone, method, _ = attached("moe")
    train(backbone, method, steps=1)
    usage = method.diagnostics()["expert_usage"]
    assert list(usage) == ["head", "medium", "tail"]
    for shares in usage.values():
        assert len(shares) == 4
        assert sum(shares) == pytest.approx(1.0)
    assert sum(map(sum, method.diagnostics()["expert_usage"].values())) == 0


def test_moe_balance_weight_scales_the_auxiliary_loss() -> None:
    losses = []
    for weight in (0.0, 0.01, 0.02):
        backbone, method, _ = attached("moe", f"balance_weight={weight}")
        prediction = forward(backbone, method)
        losses.append(method.auxiliary_loss(sample(backbone), prediction).item())
    assert losses[0] == 0
    assert losses[1] >= 0.01  # the balance of a layer is at least about 1
    assert losses[2] == pytest.approx(2 * losses[1])


def test_more_choices_than_experts_is_refused() -> None:
    with pytest.raises(UserError, match="top_k"):
        plan(method="moe", task="digits-lt", method_settings=["experts=2", "top_k=3"])
