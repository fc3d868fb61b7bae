"""A method on the embedded backbone and task, by its class."""

from typing import Any

from grasp_bench import seeds
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.harness.plan import make_task
from grasp_bench.method import Method, MethodSettings


def attach(kind: type[Method[Any]], **settings: Any) -> tuple[TinySD3, Any]:
    """The backbone, and the method with its initial weights on it."""
    _, task = make_task("digits-lt", [], None)
    backbone, method = TinySD3.load(), kind(kind.Config(**settings))
    method.attach(backbone, task, seeds.generator("init", kind.__name__))
    return backbone, method


def size(method: Method[MethodSettings]) -> int:
    """Trainable parameters."""
    return sum(parameter.numel() for parameter in method.parameters().values())
