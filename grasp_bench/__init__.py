"""How well do methods of fine-tuning text-to-image transformers serve rare classes?

Everything that scripts, notebooks and plugins need is imported from here, and each name is loaded when it is first
used: ``import grasp_bench`` itself imports neither torch nor pandas nor pydantic. Whatever is not in ``__all__`` may
change without notice.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from grasp_bench.version import VERSION

if TYPE_CHECKING:
    from grasp_bench.adapters.inject import channels_first as channels_first
    from grasp_bench.adapters.inject import input_width as input_width
    from grasp_bench.adapters.inject import on_tokens as on_tokens
    from grasp_bench.adapters.inject import unwrap as unwrap
    from grasp_bench.adapters.inject import wrap as wrap
    from grasp_bench.adapters.residual import Route as Route
    from grasp_bench.adapters.residual import RoutedAdapter as RoutedAdapter
    from grasp_bench.api import evaluate as evaluate
    from grasp_bench.api import load as load
    from grasp_bench.api import run as run
    from grasp_bench.api import score as score
    from grasp_bench.backbones.saved import SavedBackbone as SavedBackbone
    from grasp_bench.contracts.backbone import Backbone as Backbone
    from grasp_bench.contracts.backbone import Block as Block
    from grasp_bench.contracts.backbone import Description as Description
    from grasp_bench.contracts.backbone import PromptEmbeddings as PromptEmbeddings
    from grasp_bench.contracts.extractor import Extractor as Extractor
    from grasp_bench.contracts.extractor import PretrainedExtractor as PretrainedExtractor
    from grasp_bench.contracts.guidance import Guidance as Guidance
    from grasp_bench.contracts.guidance import Model as Model
    from grasp_bench.contracts.guidance import SamplingStep as SamplingStep
    from grasp_bench.contracts.guidance import Workshop as Workshop
    from grasp_bench.contracts.method import Batch as Batch
    from grasp_bench.contracts.method import Condition as Condition
    from grasp_bench.contracts.method import Method as Method
    from grasp_bench.contracts.method import MethodSettings as MethodSettings
    from grasp_bench.contracts.metric import ClassifierMetric as ClassifierMetric
    from grasp_bench.contracts.metric import FeatureMetric as FeatureMetric
    from grasp_bench.contracts.metric import Metric as Metric
    from grasp_bench.contracts.metric import Predictions as Predictions
    from grasp_bench.contracts.metric import Sets as Sets
    from grasp_bench.contracts.objective import FlowMatching as FlowMatching
    from grasp_bench.contracts.objective import Objective as Objective
    from grasp_bench.contracts.objective import VariancePreserving as VariancePreserving
    from grasp_bench.contracts.primary import Primary as Primary
    from grasp_bench.contracts.progress import Progress as Progress
    from grasp_bench.contracts.recipe import BackboneRecipe as BackboneRecipe
    from grasp_bench.contracts.recipe import Rate as Rate
    from grasp_bench.contracts.recipe import Timesteps as Timesteps
    from grasp_bench.contracts.record import RunRecord as RunRecord
    from grasp_bench.contracts.scope import current_scope as current_scope
    from grasp_bench.contracts.scope import scope as scope
    from grasp_bench.contracts.second_stage import SecondStage as SecondStage
    from grasp_bench.contracts.settings import Settings as Settings
    from grasp_bench.contracts.settings import Tuned as Tuned
    from grasp_bench.contracts.spec import Budget as Budget
    from grasp_bench.contracts.spec import RunSpec as RunSpec
    from grasp_bench.contracts.spec import by_name as by_name
    from grasp_bench.contracts.spec import smoke as smoke
    from grasp_bench.contracts.study import Presumed as Presumed
    from grasp_bench.contracts.study import Study as Study
    from grasp_bench.contracts.surgery import Surgery as Surgery
    from grasp_bench.contracts.task import ClassifierRecipe as ClassifierRecipe
    from grasp_bench.contracts.task import ClassInfo as ClassInfo
    from grasp_bench.contracts.task import Dataset as Dataset
    from grasp_bench.contracts.task import Split as Split
    from grasp_bench.contracts.task import Task as Task
    from grasp_bench.contracts.task import TaskSettings as TaskSettings
    from grasp_bench.data.decode import resized as resized
    from grasp_bench.data.image_task import ImageTask as ImageTask
    from grasp_bench.data.image_task import ImageTaskSettings as ImageTaskSettings
    from grasp_bench.data.longtail import groups_by_count as groups_by_count
    from grasp_bench.errors import Skip as Skip
    from grasp_bench.errors import UserError as UserError
    from grasp_bench.io import read_tensors as read_tensors
    from grasp_bench.io import write_tensors as write_tensors
    from grasp_bench.known import on_host as on_host
    from grasp_bench.results.frame import load_results as load_results

__version__ = VERSION

_HOMES = {
    "adapters.inject": ("channels_first", "input_width", "on_tokens", "unwrap", "wrap"),
    "adapters.residual": ("Route", "RoutedAdapter"),
    "api": ("evaluate", "load", "run", "score"),
    "backbones.saved": ("SavedBackbone",),
    "contracts.backbone": ("Backbone", "Block", "Description", "PromptEmbeddings"),
    "contracts.extractor": ("Extractor", "PretrainedExtractor"),
    "contracts.guidance": ("Guidance", "Model", "SamplingStep", "Workshop"),
    "contracts.method": ("Batch", "Condition", "Method", "MethodSettings"),
    "contracts.metric": ("ClassifierMetric", "FeatureMetric", "Metric", "Predictions", "Sets"),
    "contracts.objective": ("FlowMatching", "Objective", "VariancePreserving"),
    "contracts.primary": ("Primary",),
    "contracts.progress": ("Progress",),
    "contracts.recipe": ("BackboneRecipe", "Rate", "Timesteps"),
    "contracts.record": ("RunRecord",),
    "contracts.scope": ("current_scope", "scope"),
    "contracts.second_stage": ("SecondStage",),
    "contracts.settings": ("Settings", "Tuned"),
    "contracts.spec": ("Budget", "RunSpec", "by_name", "smoke"),
    "contracts.study": ("Presumed", "Study"),
    "contracts.surgery": ("Surgery",),
    "contracts.task": ("ClassInfo", "Dataset", "ClassifierRecipe", "Split", "Task", "TaskSettings"),
    "data.image_task": ("ImageTask", "ImageTaskSettings"),
    "data.longtail": ("groups_by_count",),
    "data.decode": ("resized",),
    "errors": ("Skip", "UserError"),
    "io": ("read_tensors", "write_tensors"),
    "known": ("on_host",),
    "results.frame": ("load_results",),
}
"""Module of the package → the public names that it holds; the imports above are the same for type checkers."""
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        """Importing the package ``grasp_bench.run`` must not put it in the place of the function of that name."""
        if name not in _HOME or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
