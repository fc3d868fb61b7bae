"""What is done otherwise on a GPU, without one."""

import numpy as np
import pytest
import torch
from helpers import runs

from grasp_bench.contracts.extractor import Extractor, PretrainedExtractor
from grasp_bench.contracts.method import Batch, Condition
from grasp_bench.precision import quick_products
from grasp_bench.processes import sent
from grasp_bench.run.stages import features, generate, train
from grasp_bench.run.stages.features import on_device

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Moving(PretrainedExtractor):
    """Notes where it is moved to."""

    def __init__(self) -> None:
        self.moves = []

    def to(self, device):
        self.moves.append(device)
        return self


def test_an_extractor_is_on_the_device_while_it_is_used():
    extractor = Moving()
    with on_device(extractor, torch.device("cuda:1")) as moved:
        assert moved is extractor
        assert extractor.moves == ["cuda:1"]
    assert extractor.moves == ["cuda:1", "cpu"]
    with pytest.raises(ZeroDivisionError), on_device(extractor, CUDA):
        raise ZeroDivisionError
    assert extractor.moves[-1] == "cpu"


def test_an_extractor_of_a_task_alone_stays_where_it_is():
    extractor = Extractor()
    with on_device(extractor, CUDA) as same:
        assert same is extractor


def test_the_stage_moves_the_extractor_of_the_run(tmp_path):
    from grasp_bench.run.pipeline import Pipeline

    moves = []

    class Brightness(Moving):
        def features(self, images):
            moves.append(list(self.moves))
            return np.stack([np.asarray(image, float).mean((1, 2)) for image in images])

    pipeline = Pipeline(runs.small(), runs.options(tmp_path), CPU, runs.Listener())
    extractor = Brightness()
    features._extract(pipeline, tmp_path, pipeline.data.test, extractor, "features")
    assert moves[0] == ["cpu"]
    assert extractor.moves == ["cpu", "cpu"]


@pytest.mark.parametrize(
    ("precision", "device", "expected"),
    [
        ("float32", CUDA, "high"),
        ("bfloat16", CUDA, "highest"),
        ("float32", CPU, "highest"),
        ("bfloat16", CPU, "highest"),
    ],
)
def test_products_are_quick_where_a_run_is_float32_on_a_gpu(precision, device, expected):
    with quick_products(precision, device):
        assert torch.get_float32_matmul_precision() == expected
    assert torch.get_float32_matmul_precision() == "highest"
    with pytest.raises(ZeroDivisionError), quick_products(precision, device):
        raise ZeroDivisionError
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("stage", [train, generate])
def test_training_and_sampling_ask_for_it(tmp_path, monkeypatch, stage):
    """For the precision and the device of the run."""
    import grasp_bench.precision

    asked = []

    def noted(*given):
        asked.append(given)
        return quick_products(*given)

    monkeypatch.setattr(grasp_bench.precision, "quick_products", noted)
    from grasp_bench.run.pipeline import Pipeline

    _ = Pipeline(runs.small(), runs.options(tmp_path), CPU, runs.Listener()).folder(stage.STAGE.name)
    assert ("float32", CPU) in asked
    assert len(asked) == (1 if stage is train else 2)


def test_what_is_on_its_device_is_sent_as_it_is():
    tensor = torch.ones(3)
    assert sent(tensor, CPU) is tensor


def test_what_is_drawn_is_sent_as_pinned_memory(monkeypatch):
    """To a device that is not there: what would be asked of torch is noted."""
    calls = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", lambda device: monkeypatch.context())
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: calls.append("pinned") or tensor)
    to = torch.Tensor.to
    monkeypatch.setattr(
        torch.Tensor, "to", lambda *given, **named: calls.append((given[1:], named)) or to(given[0], "cpu")
    )
    zeros = torch.zeros(4, 2)
    condition = Condition(zeros[:, 0].long(), zeros[:, 0].bool(), None, zeros[:, 0])

    class There:
        device = CUDA

    batch = Batch(list("abcd"), There(), zeros, zeros, zeros, condition, torch.Generator(), b"")
    drawn = batch.draw(lambda count, generator: torch.arange(float(count)))
    assert drawn.tolist() == [0, 1, 2, 3]
    assert calls == ["pinned", ((CUDA,), {"non_blocking": True})]
