"""Settings: frozen pydantic models whose fields are what a user may change, with units and bounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from grasp_bench.bounds import kept
from grasp_bench.errors import UserError, did_you_mean, fault_told
from grasp_bench.foreign import let_through, told

S = TypeVar("S", bound="Settings")


@dataclass(frozen=True)
class Tuned:
    """The range in which ``grasp-bench tune`` searches for a numeric setting; both ends belong to it.

    It stands in the annotation: ``scale: Annotated[float, Tuned(0.1, 10, log=True)] = Field(default=1.0, gt=0)``.
    A subclass that declares the setting again without a range keeps the one that it inherits. Sizes that have to be
    equal for a fair comparison, such as a rank, get none. Raises ValueError for a range that is empty or, with
    ``log``, not positive.
    """

    low: float
    high: float
    log: bool = False
    """Whether the search is uniform in the logarithm."""

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"{self}: expected low < high and, in the logarithm, low > 0")


class Settings(BaseModel):
    """Base of every settings class; each field carries a ``description`` with its unit."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
    added: ClassVar[frozenset[str]] = frozenset()
    """Settings added in later versions, stored only where they differ from their defaults, so that the identities of
    earlier runs do not change. One that a subclass gives another default is always stored there: a default of the
    subclass's own hides nothing."""

    @field_validator("*")
    @classmethod
    def _can_be_kept(cls, value: Any) -> Any:
        """Refuse what no table or path holds: integers of more than 64 bits, NUL, and bytes that are no UTF-8."""
        return kept(value)

    @model_serializer(mode="wrap")
    def _without_added_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        defaults = {name: type(self).model_fields[name].default for name in self.added}
        defaults = {name: default for name, default in defaults.items() if default == self._first_default(name)}
        written: dict[str, Any] = dump(self)
        return {name: value for name, value in written.items() if name not in defaults or value != defaults[name]}

    @classmethod
    def _first_default(cls, name: str) -> Any:
        """Return the default of a setting in the class that declares it first."""
        declaring = [each for each in cls.mro() if issubclass(each, Settings) and name in each.model_fields]
        return declaring[-1].model_fields[name].default

    def changed(self, recipe: Mapping[str, JsonValue] = MappingProxyType({})) -> dict[str, JsonValue]:
        """The settings that differ from their defaults, or from those of a ``recipe``, in order of declaration."""
        defaults = type(self)().model_dump(mode="json") | dict(recipe)
        written = self.model_dump(mode="json")
        values = written | {name: getattr(self, name) for name in recipe if name not in written}
        return {name: value for name, value in values.items() if value != defaults.get(name)}


def settings_of(model: type[S], values: Mapping[str, Any]) -> S:
    """Settings by name, checked. Raises ValidationError, also where a validator of a plugin raises anything else."""
    try:
        return model.model_validate(values)
    except ValidationError:
        raise
    except BaseException as error:
        let_through(error)
        raised = PydanticCustomError("raised", "{what}", {"what": f"a check of {model.__name__} raised {told(error)}"})
        problem = InitErrorDetails(type=raised, loc=(), input=dict(values))
        raise ValidationError.from_exception_data(model.__name__, [problem]) from error


def parse_settings(model: type[S], assignments: Iterable[str], owner: str, elsewhere: Mapping[str, str]) -> S:
    """``NAME=VALUE`` strings into ``model``.

    ``owner`` names what the settings belong to ("method grasp"); ``elsewhere`` maps the name of a setting that belongs
    elsewhere to a sentence that says where. Raises :class:`UserError`, which lists the settings.
    """
    values: dict[str, str] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise UserError(f"{assignment!r}: expected NAME=VALUE, for example {_example(model)}.")
        if name not in model.model_fields:
            raise UserError(_unknown(model, name, owner, elsewhere))
        if name in values:
            raise UserError(f"{name} is set twice ({values[name]!r} and {value!r}); keep one.")
        values[name] = value
    try:
        return settings_of(model, values)
    except ValidationError as error:
        problems = "; ".join(fault_told(fault, value=True) for fault in error.errors())
        raise UserError(f"settings of {owner}: {problems}. Run `grasp-bench show {owner.split()[-1]}`.") from error


def _unknown(model: type[Settings], name: str, owner: str, elsewhere: Mapping[str, str]) -> str:
    why = f": {elsewhere[name]}" if name in elsewhere else f".{did_you_mean(name, model.model_fields)}"
    names = ", ".join(model.model_fields) or "none"
    return f"{owner} has no setting {name!r}{why} The settings of {owner}: {names}."


def _example(model: type[Settings]) -> str:
    return next((f"{name}={field.default}" for name, field in model.model_fields.items()), "NAME=VALUE")
