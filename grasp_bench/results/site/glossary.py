"""What every metric is, which way is better, and when it misleads."""

from __future__ import annotations

from dataclasses import dataclass

from grasp_bench import plugins
from grasp_bench.contracts.metric import ClassifierMetric


@dataclass(frozen=True)
class Definition:
    """A metric in plain words."""

    what: str
    misleads: str
    """When a good value means less than it seems."""


SOURCES = {
    "generated": ("generated images alone", ""),
    "real": (
        "the real long-tailed images alone",
        " It is the same for every method at a seed: what the training set is worth without generated images.",
    ),
    "topped-up": ("the real images, topped up with generated ones to equal classes", ""),
}
"""What classifiers are trained on → in words, and what to know of it."""
COSTS = {
    "trainable parameters": Definition(
        "How many numbers the method trains, the backbone's or its own; those that stay frozen do not count.",
        "Few of them need not mean quick training or little memory: the gradient passes through frozen layers too.",
    ),
    "training seconds": Definition(
        "How long the training steps took by the clock, mean over seeds.",
        "It tells as much of the machine, and of what else ran on it, as of the method: compare runs of one machine, "
        "which every run's record names.",
    ),
    "NFE per image": Definition(
        "How often an image passes forward through a network while it is sampled: the steps, times the passes that the "
        "guidance takes in each.",
        "A pass costs more where a method adds layers, and backward passes and classifiers of a guidance do not count.",
    ),
}
"""What a method costs, by the columns' titles; less is better."""
UNKNOWN = Definition("A metric that is not installed here.", "Its package says when.")


def definition(name: str, source: str = "generated", test_set: str = "test") -> Definition:
    """Return what the metric ``name`` is, as its class says, where it is installed."""
    found = plugins.available("metrics").get(name)
    if found is None:
        return UNKNOWN
    if not issubclass(found, ClassifierMetric):
        return Definition(found.definition, found.misleads)
    trained_on, note = SOURCES[source]
    balanced = ", and tested on equally many images of every class" if test_set == "balanced-test" else ""
    return Definition(f"{found.definition} It is trained on {trained_on}{balanced}.{note}", found.misleads)
