"""Methods whose size follows from a number of trainable parameters, so that methods are alike on every backbone."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from pydantic import Field, JsonValue, ModelWrapValidatorHandler, model_validator

from grasp_bench.contracts.method import Method, MethodSettings

if TYPE_CHECKING:
    from grasp_bench.contracts.backbone import Backbone
    from grasp_bench.contracts.task import Task, TaskSettings

MISSED = 0.1
"""Share of a parameter budget by which a method may miss it before tables say so."""
OFF = "†"
"""Mark of what misses the budget."""


def misses(count: float, budget: int | None) -> bool:
    """Return whether a number of parameters misses the budget; not where there is no budget, or no number but NaN."""
    return budget is not None and abs(count / budget - 1) > MISSED


class SizedSettings(MethodSettings):
    """Settings of a method with a size, which is set or follows from the number of trainable parameters."""

    parameters: int | None = Field(default=None, ge=1)
    """Trainable parameters that the size of what is trained follows from, as near as it gets; none: the size is set"""

    added: ClassVar[frozenset[str]] = MethodSettings.added | {"parameters"}
    size: ClassVar[str] = "rank"
    """Name of the setting that is the size, none where it follows from ``parameters``."""
    with_size: ClassVar[tuple[str, ...]] = ()
    """Names of settings that are none with the size, unless they are set: they then are what the size is."""

    @model_validator(mode="wrap")
    @classmethod
    def _one_decides(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Let the size be none with ``parameters``, and refuse both of them."""
        set_by_hand = {"parameters": None} if values.get(cls.size) is not None else {}
        values = set_by_hand | values
        if values.get("parameters", cls.model_fields["parameters"].default) is None:
            settings = handler(values)
            settings.model_fields_set.difference_update(set_by_hand)
            if getattr(settings, cls.size) is None:
                raise ValueError(f"{cls.size}: it is none, which needs parameters=NUMBER to follow from; set either")
            return settings
        if values.get(cls.size) is not None:
            raise ValueError(
                f"{cls.size}={values[cls.size]} and parameters={values['parameters']}: each decides on the size; "
                "leave one out"
            )
        following = dict.fromkeys((cls.size, *cls.with_size))
        settings = handler(following | values)
        settings.model_fields_set.difference_update(following.keys() - values.keys())
        return settings

    def changed(self, recipe: Mapping[str, JsonValue] = MappingProxyType({})) -> dict[str, JsonValue]:
        """The settings that differ from their defaults, without those that are none because they follow from others."""
        following = {name for name in ("parameters", self.size, *self.with_size) if getattr(self, name) is None}
        return {name: value for name, value in super().changed(recipe).items() if name not in following}


C_co = TypeVar("C_co", bound=SizedSettings, covariant=True)


class SizedMethod(Method[C_co]):
    """A method whose Config is of :class:`SizedSettings`; a subclass says how many parameters it trains at a size."""

    @property
    def by_parameters(self) -> bool:
        return self.config.size not in self.config.model_fields_set or self.config.parameters is not None

    def count(self, backbone: Backbone, task: Task[TaskSettings]) -> Callable[[int], int]:
        """Size → number of trainable parameters on a backbone that is as it was loaded; it rises with the size."""
        raise NotImplementedError

    def possible_sizes(self, backbone: Backbone) -> Sequence[int]:
        """The sizes to choose from, ascending: all that the setting's bounds allow."""
        limits: dict[str, int] = {}
        for limit in type(self.config).model_fields[self.config.size].metadata:
            limits |= {name: getattr(limit, name) for name in ("ge", "le", "multiple_of") if hasattr(limit, name)}
        return range(limits["ge"], limits["le"] + 1, limits.get("multiple_of", 1))

    def find_sizes(self, backbone: Backbone, task: Task[TaskSettings]) -> dict[str, int]:
        name, budget = self.config.size, self.config.parameters
        if name not in self.sizes:
            set_by_hand: int = getattr(self.config, name)
            self.sizes = {name: set_by_hand}
            if budget is not None:
                self.sizes = {name: nearest(self.possible_sizes(backbone), self.count(backbone, task), budget)}
        return self.sizes

    def find_size(self, backbone: Backbone, task: Task[TaskSettings]) -> int:
        """Return the one size of :meth:`find_sizes`."""
        return self.find_sizes(backbone, task)[self.config.size]


def nearest(sizes: Sequence[int], count: Callable[[int], int], budget: int) -> int:
    """Return the size, of ascending ones, whose count is nearest to the budget; the larger of two as near."""
    above = bisect_left(sizes, budget, key=count)
    return min(sizes[max(0, above - 1) : above + 1], key=lambda size: (abs(count(size) - budget), -size))
