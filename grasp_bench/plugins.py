"""The registries: everything a run is made of comes in by entry point, and is imported on first use."""

from __future__ import annotations

import functools
import importlib
import inspect
import traceback
import warnings
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal, get_args

from grasp_bench.errors import UserError, did_you_mean
from grasp_bench.foreign import let_through, told
from grasp_bench.packages import entry_points, name_of

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

Kind = Literal["methods", "tasks", "backbones", "guidance", "extractors", "metrics"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SINGULAR = dict(zip(KINDS, ("method", "task", "backbone", "guidance", "extractor", "metric"), strict=True))
"""Kind → what one is called, which also names the module of its contract and, capitalised, the base class."""
BY_SINGULAR: dict[str, Kind] = {name: kind for kind, name in SINGULAR.items()}
"""What one is called → its kind."""

ATTRIBUTES: dict[Kind, tuple[str, ...]] = {
    "methods": ("version", "paper"),
    "tasks": ("version", "source", "backbone", "guidance", "extractors", "classifier", "budgets"),
    "backbones": ("attention_projections", "sampling_dtype"),
    "guidance": ("version", "paper"),
    "extractors": ("version",),
    "metrics": ("name", "version", "label", "direction", "bounds", "definition", "misleads", "source"),
}
"""Kind → the attributes that a subclass must declare."""
FUNCTIONS: dict[Kind, tuple[str, ...]] = {
    "methods": ("attach", "detach"),
    "tasks": ("classes", "prepare", "open"),
    "backbones": (
        *("describe", "load", "encode_images", "decode", "decode_latents"),
        *("encode_prompts", "predict", "scheduler"),
    ),
    "guidance": ("predict",),
    "extractors": ("build", "load", "features"),
    "metrics": ("value",),
}
"""Kind → the functions that a subclass must define; whatever it overrides must take the base's parameters."""
TEXTS = ("name", "version", "paper", "label", "definition", "misleads")
"""Declared attributes that are text, whatever declares them."""
BUILT_IN = "grasp-bench"


class PluginWarning(UserWarning):
    """A plugin is broken or its name is taken."""


class ContractError(Exception):
    """A plugin does not keep the contract of its kind; the message says what was found and how to fix it."""


def entries(kind: Kind) -> dict[str, EntryPoint]:
    """Name → entry point, sorted by name. Of a name that is taken twice, the built-in one."""
    return {name: claims[0] for name, claims in _claims(kind).items()}


def load(kind: Kind, name: str) -> Any:
    """Import the plugin ``name``.

    Raises :class:`UserError` when it is unknown, broken or not of its kind, and when two packages claim the name:
    which of them was meant decides every score.
    """
    known = entries(kind)
    if name not in known:
        hint = did_you_mean(name, known)
        raise UserError(f"unknown {SINGULAR[kind]} {name!r}.{hint} There are: {', '.join(known)}.")
    if rivals := _claims(kind)[name][1:]:
        raise UserError(_taken(kind, known[name], rivals[0]))
    try:
        return _loaded(kind, known[name])
    except BaseException as error:
        let_through(error)
        raise UserError(_broken(kind, known[name], error)) from error


def available(kind: Kind) -> dict[str, Any]:
    """Every plugin of a kind that can be imported; one that cannot, or whose name is taken, is a warning."""
    loaded = {}
    for name, entry in entries(kind).items():
        for rival in _claims(kind)[name][1:]:
            warnings.warn(_taken(kind, entry, rival), PluginWarning, stacklevel=2)
        try:
            loaded[name] = _loaded(kind, entry)
        except BaseException as error:
            let_through(error)
            warnings.warn(_broken(kind, entry, error), PluginWarning, stacklevel=2)
    return loaded


@functools.cache
def _claims(kind: Kind) -> dict[str, list[EntryPoint]]:
    """Name → the entry points that claim it, the built-in one first, then by package; sorted by name."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in sorted(
        _declared(f"grasp_bench.{kind}"), key=lambda entry: (origin(entry) != BUILT_IN, origin(entry), entry.value)
    ):
        claims = found.setdefault(entry.name, [])
        if entry.value not in [claim.value for claim in claims]:
            claims.append(entry)
    return dict(sorted(found.items()))


def _declared(group: str) -> list[EntryPoint]:
    """The entry points of a group; an installed package of which they cannot be read is a warning."""
    return list(entry_points(lambda why: warnings.warn(why, PluginWarning, stacklevel=3), group=group))


def _loaded(kind: Kind, entry: EntryPoint) -> Any:
    """The class of an entry point. Raises :class:`ContractError` saying how it does not keep its contract."""
    loaded = entry.load()
    if not isinstance(loaded, type):
        raise ContractError(f"{loaded!r} is no class: let the entry point read MODULE:CLASS")
    plugin: Any = loaded
    _check(kind, plugin)
    if kind == "metrics" and plugin.__mro__[-2] is plugin.__base__:
        raise ContractError(f"{plugin.__name__} is neither a FeatureMetric nor a ClassifierMetric: derive it from one")
    if kind == "metrics" and plugin.name != entry.name:
        raise ContractError(f"{plugin.__name__}.name is {plugin.name!r}, expected the entry point's {entry.name!r}")
    return plugin


@functools.cache
def _check(kind: Kind, plugin: type[Any]) -> None:
    """Raise :class:`ContractError` saying how ``plugin`` does not keep the contract of its kind."""
    attributes, base = ATTRIBUTES[kind], _base(kind)
    if not issubclass(plugin, base):
        raise ContractError(
            f"{plugin.__name__} is no subclass of {base.__module__}.{base.__name__}: {_instead(plugin)}"
        )
    if missing := [attribute for attribute in attributes if not hasattr(plugin, attribute)]:
        raise ContractError(f"{plugin.__name__} does not declare {', '.join(missing)}")
    if problems := [*_odd_words(attributes, plugin), *_odd_functions(kind, plugin), *_odd_settings(kind, plugin)]:
        raise ContractError("; ".join(problems))


def _base(kind: Kind) -> type[Any]:
    module = importlib.import_module(f"grasp_bench.contracts.{SINGULAR[kind]}")
    found: type[Any] = getattr(module, SINGULAR[kind].capitalize())
    return found


def _instead(plugin: type[Any]) -> str:
    """What to do with a class that is registered as what it is not."""
    for kind in KINDS:
        if issubclass(plugin, _base(kind)):
            return f"it is a {_base(kind).__name__}, so register it under grasp_bench.{kind}"
    return "derive it from that class"


def _odd_words(attributes: tuple[str, ...], plugin: type[Any]) -> Iterator[str]:
    """Attributes that should be text: a number would only be refused when a run is written down."""
    if "direction" in attributes and plugin.direction not in ("lower", "higher"):
        yield f"{plugin.__name__}.direction is {plugin.direction!r}, expected 'lower' or 'higher'"
    if not isinstance(plugin.__doc__, str | None):
        yield f"{plugin.__name__}.__doc__ is {plugin.__doc__!r}, expected text"
    for name in TEXTS:
        if name in attributes and not isinstance(value := getattr(plugin, name), str):
            yield f'{plugin.__name__}.{name} is {value!r}, expected text such as "1"'


def _odd_functions(kind: Kind, plugin: type[Any]) -> Iterator[str]:
    """Functions that are not there, or cannot be called as the contract's are.

    The contract is the nearest base in the contract's module, since one class may refine another there.
    """
    for name in FUNCTIONS[kind]:
        own = inspect.getattr_static(plugin, name)
        if own is inspect.getattr_static(_base(kind), name) or getattr(own, "__isabstractmethod__", False):
            yield f"{plugin.__name__} does not define {name}{_parameters(getattr(_base(kind), name))}"
    contract = next(each for each in plugin.__mro__ if each.__module__ == _base(kind).__module__)
    for name, function in vars(contract).items():
        if not isinstance(function, FunctionType | classmethod) or (name.startswith("_") and name != "__init__"):
            continue
        own, expected = getattr(plugin, name), getattr(contract, name)
        if not callable(own):
            yield f"{plugin.__name__}.{name} is {own!r}, expected a function {name}{_parameters(expected)}"
        elif not _takes(own, expected):
            yield f"{plugin.__name__}.{name} takes {_parameters(own)}, expected {_parameters(expected)}"


def _takes(own: Any, expected: Any) -> bool:
    """Whether a function can be called as the contract's can, by position and, unless it passes all on, by name."""
    found, names = inspect.signature(own), list(inspect.signature(expected).parameters)
    try:
        found.bind(*names)
        if not any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in found.parameters.values()):
            found.bind(**dict.fromkeys(names))
    except TypeError:
        return False
    return True


def _parameters(function: Any) -> str:
    parameters = inspect.signature(function).parameters.values()
    return f"({', '.join(str(each.replace(annotation=inspect.Parameter.empty)) for each in parameters)})"


def _odd_settings(kind: Kind, plugin: type[Any]) -> Iterator[str]:
    """What is wrong with the class of its settings, of a plugin that has some."""
    base: Any = getattr(_base(kind), "Config", None)
    if base is None:
        return
    config: Any = plugin.Config
    if not (isinstance(config, type) and issubclass(config, base)):
        yield f"{plugin.__name__}.Config is {config!r}, expected a subclass of {base.__module__}.{base.__name__}"
        return
    fields: dict[str, FieldInfo] = plugin.Config.model_fields
    if required := [name for name, field in fields.items() if field.is_required()]:
        yield f"{config.__name__} gives no default for {', '.join(required)}"
    else:
        try:
            config()
        except BaseException as error:
            let_through(error)
            yield f"{config.__name__}() cannot be made of its defaults: {told(error)}"
    if owned := [name for name in fields if name in _owned_elsewhere(kind)]:
        yield (
            f"{config.__name__} declares {', '.join(owned)}, which no {SINGULAR[kind]} may set: such things belong to "
            "the task, its budget or the run, and are the same for all. Leave them out, or rename what is another thing"
        )


def _owned_elsewhere(kind: Kind) -> set[str]:
    """Names of settings that plugins of a kind may not have, since every one of them gets the same there.

    A guidance that learns has steps and batches of its own; the sampler is not its own.
    """
    from grasp_bench.contracts.spec import Budget
    from grasp_bench.contracts.task import TaskSettings

    if kind == "guidance":
        return {"images_per_class", "num_inference_steps", "seed"}
    if kind == "methods":
        shared = {*Budget.model_fields, *TaskSettings.model_fields, "classifier", "prompts", "objective", "seed"}
        return shared - {"name"}
    return set()


def origin(entry: EntryPoint) -> str:
    """The name of the package; another description where its metadata are missing or damaged."""
    if entry.dist is None:
        return "an unknown package"
    return name_of(entry.dist) or f"a package without metadata in {entry.dist.locate_file('')}"


def _uninstall(entry: EntryPoint) -> str:
    """How to be rid of the package, which pip does not know without its metadata."""
    return f"pip uninstall {name_of(entry.dist)}" if name_of(entry.dist) else f"remove {origin(entry)}"


def _taken(kind: Kind, entry: EntryPoint, rival: EntryPoint) -> str:
    return (
        f"{SINGULAR[kind]} {entry.name!r} of {origin(rival)} ({rival.value}) cannot be used: the name is taken by "
        f"{origin(entry)} ({entry.value}). Rename it in the pyproject.toml of {origin(rival)} under "
        f"grasp_bench.{kind} and install that again, or {_uninstall(rival)}."
    )


def _broken(kind: Kind, entry: EntryPoint, error: BaseException) -> str:
    why = str(error) if isinstance(error, ContractError) else f"{told(error)}{_place(error)}"
    return (
        f"{SINGULAR[kind]} {entry.name!r} of {origin(entry)} ({entry.value}) cannot be used: {why}. "
        f"Fix that package, or {_uninstall(entry)}."
    )


def _place(error: BaseException) -> str:
    """File and line of the package's own code that raised ``error``, where there is one."""
    if isinstance(error, SyntaxError):  # says so itself
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
