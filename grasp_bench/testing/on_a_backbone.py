"""The checks of a method on one backbone; the docstring of each is its contract."""

from __future__ import annotations

import functools
import json
import random
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from grasp_bench.contracts.method import Batch, Method
from grasp_bench.contracts.task import Split, Task, TaskSettings
from grasp_bench.io import canonical_json, read_tensors, write_tensors
from grasp_bench.run.files import WEIGHTS
from grasp_bench.testing.checks import NotApplicable, require
from grasp_bench.testing.compare import anatomy, changed_values, changes, close, differences, distance, equal, none
from grasp_bench.testing.rig import STEPS, Interrupted, Interrupting, Subject, Watched, planned, predict

OF_TASK = ("classifier", "extractors", "guidance", "backbone", "groups", "budgets")
"""Attributes of a task that decide data, budget and scores, beside identity() and classes()."""
PLACED = ("transformer", "device")
"""Parts of a backbone that attaching and placing it may change."""
SCOPE = (
    ". Backward passes run outside of condition(), and recompute activations there: grasp_bench.contracts.scope "
    "carries what the first pass knew"
)


@torch.no_grad()
def step_0(subject: Subject) -> None:
    """At step 0 the output equals the base model's exactly, or the docstring says what differs at step 0."""
    run = subject.attach()
    found, expected = run.predict(), predict(subject.run().backbone, run.batch)
    sentences = re.split(r"(?<=[.!?])\s+|\n\s*\n", type(run.method).__doc__ or "")
    excuses = [" ".join(each.split()) for each in sentences if "step 0" in each]
    if excuses and not torch.equal(found, expected):
        raise NotApplicable(f"its docstring says: {excuses[0]}")
    equal(found, expected, "the output differs by up to {}; the docstring has no word on step 0")


def fresh_weights(subject: Subject) -> None:
    """Fresh weights come from the generator that attach() is given, and no global one is drawn from."""
    states, kept = [], torch.get_rng_state()
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # the global generator is what is watched
        random.seed(seed)
        run = subject.run()
        run.data, run.studied, run.backbone  # noqa: B018 # stages that come before
        before = _global_states()
        run.attach()
        drawn = " and ".join(changes(before, _global_states()))
        require(not drawn, f"attach() draws from a global generator of {drawn}")
        states.append(run.method.state_dict())
    torch.set_rng_state(kept)
    none("another attach() with the same generator gives other weights", changes(*states))


def task_untouched(subject: Subject) -> None:
    """attach() changes nothing of the task, and of the backbone its transformer alone."""
    run = subject.run()
    task, backbone = run.plan.task, run.backbone
    told, parts = _told(task), {name: part for name, part in vars(backbone).items() if name not in PLACED}
    run.attach()
    none("attach() changed of the task", changes(told, _told(task)))
    own = vars(backbone)
    replaced = [name for name, part in parts.items() if own.get(name) is not part]
    replaced += [name for name in own.keys() - parts.keys() if callable(getattr(type(backbone), name, None))]
    require(not replaced, f"attach() replaced of the backbone: {', '.join(sorted(replaced))}")


def data_untouched(subject: Subject) -> None:
    """What is given to be trained on is only read: attach() and training_clusters() change nothing of the training
    images, condition(), the forward pass, losses() and auxiliary_loss() nothing of the batch.
    """
    run = subject.run()
    images = _drawn(run.data.train)
    run.attach()
    run.batch = replace(run.batch, weights=torch.ones(len(run.batch.ids)))
    changed = changes(images, _drawn(run.data.train))
    none("attach() or training_clusters() changed of the training images", changed)
    run.network.transformer.train()
    tensors = _tensors(run.batch)
    run.gradients()
    none("a training step changed of its batch", changes(tensors, _tensors(run.batch)))


def trains_its_own(subject: Subject) -> None:
    """Training changes parameters() and nothing else of the network."""
    run = subject.trained
    own = {id(parameter) for parameter in run.method.parameters().values()}
    changed = {name for name in changed_values(run.base) if id(run.base.tensors[name]) not in own}
    added = {name for name in changed_values(run.start) if isinstance(run.start.tensors[name], torch.nn.Parameter)}
    changed |= {name for name in added if id(run.start.tensors[name]) not in own}
    none(f"{STEPS} training steps changed tensors that are not among parameters()", changed)
    moved = [tensor for name, tensor in run.start.tensors.items() if id(tensor) in own and name in added]
    require(moved, f"{STEPS} training steps changed none of the {len(own)} parameters")


@torch.no_grad()
def round_trip(subject: Subject) -> None:
    """What state_dict() and artifacts() give, through files into a fresh attach, gives equal outputs and artifacts;
    state_dict() holds only what the method owns.
    """
    trained = subject.trained
    kept = json.loads(canonical_json(trained.method.artifacts()))
    fresh = subject.attach(kept)
    state = trained.method.state_dict()
    own = {id(parameter) for parameter in trained.method.parameters().values()}
    tensors = trained.base.tensors.values()
    frozen = [tensor for tensor in tensors if id(tensor) not in own and len(tensor.unique()) > 1]
    copies = {name for name, tensor in state.items() if any(not changes({"": tensor}, {"": each}) for each in frozen)}
    none("state_dict() holds frozen weights of the backbone", copies)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / WEIGHTS
        write_tensors(path, state)
        fresh.method.load_state_dict(read_tensors(path))
    words = "the output differs by up to {} from that of the network whose weights they are"
    equal(fresh.predict(), trained.predict(), words)
    again = json.loads(canonical_json(fresh.method.artifacts()))
    others = {name for name in kept.keys() | again.keys() if kept.get(name) != again.get(name)}
    none("artifacts() of a method that is attached with artifacts() differ", others)


def foreign_weights(subject: Subject) -> None:
    """load_state_dict() refuses weights of other names."""
    method = subject.attach().method
    state = method.state_dict()
    name, tensor = next(iter(state.items()))
    less, more = {key: state[key] for key in state if key != name}, state | {"none-of-its-own": tensor}
    _refused(lambda: method.load_state_dict(less), f"load_state_dict() takes a state without {name}")
    _refused(lambda: method.load_state_dict(more), "load_state_dict() takes a state with a name that is not its own")


def resume(subject: Subject) -> None:
    """A training that was interrupted and resumed equals one that was not, bit for bit."""
    whole = subject.trained
    interrupted = subject.run(Interrupting(STEPS - 1), "resumed")
    interrupted.forget("train")
    with suppress(Interrupted):
        _ = interrupted.trained
    resumed = subject.run(work="resumed")
    found, expected = (read_tensors(run.trained / WEIGHTS) for run in (resumed, whole))
    words = f"weights differ after a training that was interrupted after {STEPS - 1} of {STEPS} steps"
    none(words, changes(found, expected))
    for name in whole.summary()["artifacts"]:
        same = (resumed.trained / name).read_bytes() == (whole.trained / name).read_bytes()
        require(same, f"{name} of artifacts() differs")


def detach(subject: Subject) -> None:
    """detach() leaves the base model as it was: modules, weights, requires_grad, output."""
    run = subject.train()
    run.method.detach()
    left = list(differences(run.base, anatomy(run.network.transformer)))
    require(not left, "after detach(), " + "; ".join(left))
    with torch.no_grad():
        found, expected = predict(run.network, run.batch), predict(subject.run().backbone, run.batch)
    equal(found, expected, "after detach() the output differs by up to {}")


def checkpointing(subject: Subject) -> None:
    """Gradient checkpointing changes no gradient."""
    plain, again = _gradients(subject, checkpointed=False), _gradients(subject, checkpointed=True)
    require(plain, "the loss gives no parameter a gradient")
    none("some parameters have a gradient only with or only without it", plain.keys() ^ again.keys(), SCOPE)
    other = {name for name in plain if not torch.allclose(plain[name], again[name], rtol=1e-4, atol=1e-6)}
    none("gradients differ", other, SCOPE)


def _gradients(subject: Subject, checkpointed: bool) -> dict[str, torch.Tensor]:
    run = subject.attach().move()
    if checkpointed:
        run.network.enable_gradient_checkpointing()
    run.network.transformer.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # for dropout
        try:
            return run.gradients()
        except torch.utils.checkpoint.CheckpointError as error:
            raise AssertionError(f"the forward pass takes another way when it runs again{SCOPE}") from error


@torch.no_grad()
def mixed_batch(subject: Subject) -> None:
    """A prediction depends on no other sample of its batch, up to rounding (1e-4 of it, or 1e-5)."""
    run = subject.attach().move()
    mixed = run.predict()
    alone = torch.cat([run.predict(rows=slice(row, row + 1)) for row in range(len(mixed))])
    far = [distance(*pair) for pair in zip(mixed, alone, strict=True) if not close(*pair)]
    require(
        not far,
        f"{len(far)} of {len(mixed)} samples of different classes are predicted otherwise by themselves, by up to "
        f"{max(far, default=0):.2g}",
    )


@torch.no_grad()
def no_default_route(subject: Subject) -> None:
    """Where condition() matters, a forward pass without it raises, and so does one of more samples."""
    run = subject.attach().move()
    condition = run.batch.condition
    turned = condition[torch.arange(len(run.batch.ids)).flip(0)]  # type: ignore[index] # indexes tensors alike
    if torch.equal(run.predict(turned), run.predict()):
        raise NotApplicable("its predictions do not depend on condition()")
    for words, call in (
        ("outside of condition()", lambda: predict(run.network, run.batch)),
        ("of more samples than condition() was given", lambda: run.predict(condition[:2])),
    ):
        _refused(call, f"a forward pass {words} gives a prediction, though predictions depend on it")


def equal_streams(subject: Subject) -> None:
    """Data order, noise, timesteps and dropped prompts are those of every other method."""
    run = subject.trained
    config, counts = run.method.config, np.bincount(run.data.train.labels, minlength=len(run.classes))
    own, usual = run.method.sample_weights(counts), Method(config).sample_weights(counts)
    if not np.array_equal(np.asarray(own, float), np.asarray(usual, float), equal_nan=True):  # None is NaN
        raise NotApplicable("sample_weights() are its own, so it draws other images")
    if run.method.second_stage(STEPS, counts) is not None:
        raise NotApplicable("its second_stage() draws other images")
    found, expected = run.summary()["streams"], _usual_streams(subject.backbone, config.sampling)
    words = f"the hash of what {STEPS} steps saw is {found[:12]}, that of vanilla-ft {expected[:12]}"
    require(found == expected, words)


@functools.cache
def _usual_streams(backbone: str, sampling: str) -> str:
    return str(Watched(planned(backbone, "vanilla-ft", [f"sampling={sampling}"])).summary()["streams"])


def _refused(call: Callable[[], object], words: str) -> None:
    """Raise AssertionError with ``words`` unless ``call`` raises."""
    try:
        call()
    except Exception:
        return
    raise AssertionError(words)


def _global_states() -> dict[str, object]:
    states = {"torch": torch.get_rng_state(), "numpy": repr(np.random.get_state())}
    return states | {"Python's random": random.getstate()}


def _told(task: Task[TaskSettings]) -> dict[str, object]:
    told = {"identity": task.identity(), "classes": task.classes(), **{name: getattr(task, name) for name in OF_TASK}}
    return {name: repr(value) for name, value in told.items()}


def _drawn(split: Split) -> dict[str, object]:
    """Return the parts of a split that decide which images are drawn, and with which labels and prompts."""
    return {"ids": list(split.ids), "labels": split.labels.tolist(), "prompts": list(split.prompts)}


def _tensors(batch: Batch) -> dict[str, object]:
    """Copies of a batch's tensors, with its condition's and those of the prompts."""
    named = vars(batch) | vars(batch.condition) | batch.condition.prompts.tensors()
    return {name: value.detach().clone() for name, value in named.items() if isinstance(value, torch.Tensor)}
