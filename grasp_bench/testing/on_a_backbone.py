"""What each check of a method does, on one backbone; named as in ``methods.CONTRACT``."""

from __future__ import annotations

import functools
import random
import re
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from grasp_bench.contracts.method import Method
from grasp_bench.io import read_tensors, write_tensors
from grasp_bench.run.files import WEIGHTS
from grasp_bench.testing.anatomy import anatomy, changed_values, differences, some
from grasp_bench.testing.checks import NotApplicable, require
from grasp_bench.testing.given import changes, of_batch, of_split, of_task
from grasp_bench.testing.rig import STEPS, Interrupted, Interrupting, Watched, planned
from grasp_bench.testing.subject import Attached, Subject, predict

RTOL, ATOL = 1e-4, 1e-5  # of predictions in batches of different sizes, in single precision
PLACED = ("transformer", "device")
"""Parts of a backbone that attaching and placing it may change."""
SCOPE = (
    "Backward passes run outside of condition(), and make activations again there: grasp_bench.contracts.scope carries "
    "what the first pass knew"
)
RESUMED = "resumed"
"""The work folder of trainings that are interrupted."""


@torch.no_grad()
def step_0(subject: Subject) -> None:
    """The output with the method attached against the one before."""
    attached = subject.attach()
    found, expected = attached.predict(), predict(subject.run().backbone, attached.batch)
    if not torch.equal(found, expected):
        excuse = _sentence_on("step 0", type(attached.method).__doc__ or "")
        if excuse:
            raise NotApplicable(f"its docstring says: {excuse}")
        raise AssertionError(
            f"the output differs by up to {_distance(found, expected):.2g}; the docstring has no word on step 0"
        )


def fresh_weights(subject: Subject) -> None:
    """Two attachments under different global generators."""
    states, kept = [], torch.get_rng_state()
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # the global generator is what is watched
        random.seed(seed)
        run = subject.run()
        run.data, run.studied, run.backbone  # noqa: B018 # stages that come before
        before = _global_states()
        run.attach()
        require(_global_states() == before, f"attach() draws from a global generator of {_changed(before)}")
        states.append(run.method.state_dict())
    torch.set_rng_state(kept)
    first, second = states
    other = {name for name in first if name not in second or not torch.equal(first[name], second[name])}
    require(not other, f"another attach() with the same generator gives other weights: {some(other)}")


def task_untouched(subject: Subject) -> None:
    """Task and backbone before and after attach()."""
    run = subject.run()
    task, backbone = run.plan.task, run.backbone
    told, parts = of_task(task), {name: part for name, part in vars(backbone).items() if name not in PLACED}
    run.attach()
    changed = changes(told, of_task(task))
    require(not changed, f"attach() changed of the task: {some(changed)}")
    own = vars(backbone)
    replaced = [name for name, part in parts.items() if own.get(name) is not part]
    replaced += [name for name in own.keys() - parts.keys() if callable(getattr(type(backbone), name, None))]
    require(not replaced, f"attach() replaced of the backbone: {', '.join(sorted(replaced))}")


def data_untouched(subject: Subject) -> None:
    """The training set and a batch before and after a training step."""
    run = subject.run()
    train = run.data.train
    images = of_split(train)
    run.attach()
    batch = run.every_class()
    changed = changes(images, of_split(train))
    require(not changed, f"attach() or training_clusters() changed of the training images: {some(changed)}")
    batch = replace(batch, weights=torch.ones(len(batch.ids)))
    run.network.transformer.train()
    tensors = of_batch(batch)
    Attached(run, batch).gradients()
    changed = changes(tensors, of_batch(batch))
    require(not changed, f"a training step changed of its batch: {some(changed)}")


def trains_its_own(subject: Subject) -> None:
    """Every tensor of the network before and after a few steps."""
    run = subject.trained.run
    own = {id(parameter) for parameter in run.method.parameters().values()}
    changed = {name for name in changed_values(run.base) if id(run.base.tensors[name]) not in own}
    added = {name for name in changed_values(run.start) if isinstance(run.start.tensors[name], torch.nn.Parameter)}
    changed |= {name for name in added if id(run.start.tensors[name]) not in own}
    require(not changed, f"{STEPS} training steps changed tensors that are not among parameters(): {some(changed)}")
    moved = [tensor for name, tensor in run.start.tensors.items() if id(tensor) in own and name in added]
    require(bool(moved), f"{STEPS} training steps changed none of the {len(own)} parameters")


@torch.no_grad()
def round_trip(subject: Subject) -> None:
    """A file of weights in a fresh attachment."""
    trained, fresh = subject.trained, subject.attach()
    state = trained.method.state_dict()
    _holds_its_own(trained, state)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / WEIGHTS
        write_tensors(path, state)
        fresh.method.load_state_dict(read_tensors(path))
    found, expected = fresh.predict(), trained.predict()
    require(
        torch.equal(found, expected),
        f"the output differs by up to {_distance(found, expected):.2g} from that of the network whose weights they are",
    )


def _holds_its_own(trained: Attached, state: dict[str, torch.Tensor]) -> None:
    own = {id(parameter) for parameter in trained.method.parameters().values()}
    base = trained.run.base
    frozen = [tensor for tensor in base.tensors.values() if id(tensor) not in own and len(tensor.unique()) > 1]
    copies = {name for name, tensor in state.items() if any(_equal(tensor, each) for each in frozen)}
    require(not copies, f"state_dict() holds frozen weights of the backbone: {some(copies)}")


def foreign_weights(subject: Subject) -> None:
    """A state with a name too few and with one too many."""
    method = subject.attach().method
    state = method.state_dict()
    name, tensor = next(iter(state.items()))
    for other, words in (
        ({key: state[key] for key in state if key != name}, f"a state without {name}"),
        (state | {"none-of-its-own": tensor}, "a state with a name that is not its own"),
    ):
        try:
            method.load_state_dict(other)
        except Exception:
            continue
        raise AssertionError(f"load_state_dict() takes {words}")


def resume(subject: Subject) -> None:
    """A training that is ended before its last step is recorded, and taken up again."""
    whole = subject.trained.run
    interrupted = subject.run(Interrupting(STEPS - 1), RESUMED)
    interrupted.forget("train")
    with suppress(Interrupted):
        _ = interrupted.trained
    resumed = subject.run(work=RESUMED)
    found, expected = (read_tensors(run.trained / WEIGHTS) for run in (resumed, whole))
    other = {name for name in expected if name not in found or not torch.equal(found[name], expected[name])}
    require(
        not other,
        f"weights differ after a training that was interrupted after {STEPS - 1} of {STEPS} steps: {some(other)}",
    )
    for name in whole.summary()["artifacts"]:
        same = (resumed.trained / name).read_bytes() == (whole.trained / name).read_bytes()
        require(same, f"{name} of artifacts() differs")


def detach(subject: Subject) -> None:
    """The network before it is attached, and after training and detaching."""
    run = subject.run()
    expected_backbone = run.backbone
    run.train_anew()
    batch = run.every_class()
    run.method.detach()
    after = anatomy(expected_backbone.transformer)
    left = list(differences(run.base, after))
    require(not left, "after detach(), " + "; ".join(left))
    with torch.no_grad():
        found, expected = predict(expected_backbone, batch), predict(subject.run().backbone, batch)
    require(
        torch.equal(found, expected), f"after detach() the output differs by up to {_distance(found, expected):.2g}"
    )


def checkpointing(subject: Subject) -> None:
    """Gradients of one loss with activations kept and with activations made again."""
    plain, again = _gradients(subject, checkpointed=False), _gradients(subject, checkpointed=True)
    require(bool(plain), "the loss gives no parameter a gradient")
    only = plain.keys() ^ again.keys()
    require(not only, f"some parameters have a gradient only with or only without it: {some(only)}. {SCOPE}")
    other = {name for name in plain if not torch.allclose(plain[name], again[name], rtol=1e-4, atol=1e-6)}
    require(not other, f"gradients differ: {some(other)}. {SCOPE}")


def _gradients(subject: Subject, checkpointed: bool) -> dict[str, torch.Tensor]:
    attached = subject.attach().move()
    if checkpointed:
        attached.backbone.enable_gradient_checkpointing()
    attached.backbone.transformer.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # for dropout
        try:
            return attached.gradients()
        except torch.utils.checkpoint.CheckpointError as error:
            raise AssertionError(f"the forward pass takes another way when it runs again. {SCOPE}") from error


@torch.no_grad()
def mixed_batch(subject: Subject) -> None:
    """Samples of all classes in one batch against each by itself."""
    attached = subject.attach().move()
    mixed = attached.predict()
    rows = [slice(row, row + 1) for row in range(len(mixed))]
    distances = [
        _distance(mixed[row], alone) for row in rows if not _close(mixed[row], alone := attached.predict(rows=row))
    ]
    require(
        not distances,
        f"{len(distances)} of {len(mixed)} samples of different classes are predicted otherwise by themselves, by up "
        f"to {max(distances, default=0):.2g}",
    )


@torch.no_grad()
def no_default_route(subject: Subject) -> None:
    """Forward passes in the context of other samples, of too few, and in none."""
    attached = subject.attach().move()
    batch = attached.batch
    turned = torch.arange(len(batch.ids)).flip(0)
    condition = batch.condition[turned]  # type: ignore[index] # indexes tensors alike
    if torch.equal(attached.predict(condition), attached.predict()):
        raise NotApplicable("its predictions do not depend on condition()")
    for words, call in (
        ("a forward pass outside of condition()", functools.partial(predict, attached.backbone, batch)),
        (
            "a forward pass of more samples than condition() was given",
            functools.partial(attached.predict, batch.condition[:2]),
        ),
    ):
        try:
            call()
        except Exception:
            continue
        raise AssertionError(f"{words} gives a prediction, though predictions depend on it")


def equal_streams(subject: Subject) -> None:
    """What training saw against what it saw under full fine-tuning with the same sampling."""
    run = subject.trained.run
    config, counts = run.method.config, run.counts()
    own, usual = run.method.sample_weights(counts), Method(config).sample_weights(counts)
    if (own is None) != (usual is None) or (own is not None and usual is not None and not np.array_equal(own, usual)):
        raise NotApplicable("sample_weights() are its own, so it draws other images")
    found, expected = run.summary()["streams"], _usual_streams(subject.backbone, config.sampling)
    require(
        found == expected, f"the hash of what {STEPS} steps saw is {found[:12]}, that of vanilla-ft {expected[:12]}"
    )


@functools.cache
def _usual_streams(backbone: str, sampling: str) -> str:
    streams: str = Watched(planned(backbone, "vanilla-ft", [f"sampling={sampling}"])).summary()["streams"]
    return streams


def _global_states() -> tuple[bytes, str, object]:
    return torch.get_rng_state().numpy().tobytes(), repr(np.random.get_state()), random.getstate()


def _changed(before: tuple[bytes, str, object]) -> str:
    names = ("torch", "numpy", "Python's random")
    return " and ".join(name for name, old, new in zip(names, before, _global_states(), strict=True) if old != new)


def _sentence_on(words: str, text: str) -> str:
    """The sentence of a text that has ``words`` in it; empty where none has."""
    sentences = re.split(r"(?<=[.!?])\s+|\n\s*\n", text)
    return next((" ".join(each.split()) for each in sentences if words in each), "")


def _distance(first: torch.Tensor, second: torch.Tensor) -> float:
    return (first - second).abs().max().item()


def _close(first: torch.Tensor, second: torch.Tensor) -> bool:
    return torch.allclose(first, second, rtol=RTOL, atol=ATOL)


def _equal(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.shape == second.shape and first.dtype == second.dtype and torch.equal(first, second)
