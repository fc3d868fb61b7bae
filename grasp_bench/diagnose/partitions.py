"""The partitions whose clusters are compared."""

from __future__ import annotations

from collections.abc import Callable

from grasp_bench.adapters import clustering
from grasp_bench.adapters.partition import Partition, by_class, by_group, cluster_count
from grasp_bench.contracts.study import Study
from grasp_bench.errors import UserError

OF_IMAGES = {"metadata": "it partitions images, not classes, and the gradients that are compared are those of classes."}


def partitions(study: Study) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    """Return every partition of the classes into as many clusters as the partition by group has.

    The first mapping is name → {class: cluster}; the second is name → why that partition does not exist, such as the
    partition by text without a text encoder.
    """
    task = study.task
    count = cluster_count(task, None)
    ways: dict[str, Callable[[], Partition]] = {
        "group": lambda: by_group(task),
        "class": lambda: by_class(task, count),
        "text": lambda: clustering.by_text(study, count),
        "gradient": lambda: clustering.by_gradient(study, count),
    }
    found, refused = dict[str, dict[str, int]](), dict(OF_IMAGES)
    for name, make in ways.items():
        try:
            found[name] = make().classes
        except UserError as error:
            refused[name] = str(error)
    return found, refused
