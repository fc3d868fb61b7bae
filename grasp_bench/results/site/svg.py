"""Small SVG: elements with escaped text, scales with round ticks, axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

COLOURS = 8
"""Number of colours of series; the style sheet has one for each."""
NICE = (1, 2, 5, 10)


def element(name: str, *children: str, **attributes: str | float) -> Markup:
    """Return an element; what is not markup is escaped. Attributes: ``class_`` is ``class``, ``_`` is ``-``."""
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _written(value))
        for key, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(name, written, Markup("").join(map(escape, children)))


def picture(title: str, description: str, width: float, height: float, *children: str) -> Markup:
    """Return a chart that screen readers announce as one image, by its title and description."""
    return element(
        "svg",
        element("title", title),
        element("desc", description),
        *children,
        role="img",
        aria_label=title,
        class_="chart",
        viewBox=f"0 0 {_written(width)} {_written(height)}",
        width=width,
        height=height,
    )


def path(points: Iterable[tuple[float, float]], **attributes: str | float) -> Markup:
    """Return a line through ``points``."""
    return element("path", d="M" + "L".join(f"{_written(x)} {_written(y)}" for x, y in points), **attributes)


def text(content: str, x: float, y: float, class_: str, anchor: str = "start") -> Markup:
    """Return a line of text at its baseline."""
    return element("text", content, x=x, y=y, class_=class_, text_anchor=anchor)


def short(value: float) -> str:
    """Return a number with three digits, such as "0.25", "43k" or "1.5M"."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


@dataclass(frozen=True)
class Scale:
    """A map from values between ``low`` and ``high`` to positions between ``start`` and ``end``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log(each) if self.log else each for each in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self, most: int = 5) -> list[float]:
        """Return round values between the ends, about ``most`` at most."""
        if self.log and self.high / self.low > 4:
            return self._powers(most)
        step = _round_up((self.high - self.low) / most)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]

    def _powers(self, most: int) -> list[float]:
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        each = [factor * 10.0**exponent for exponent in exponents for factor in NICE[:-1]]
        within = [value for value in each if self.low <= value * (1 + 1e-9) and value <= self.high * (1 + 1e-9)]
        if len(within) <= most + 2:
            return within
        tens = [10.0**exponent for exponent in exponents if self.low <= 10.0**exponent <= self.high]
        return tens[:: -(-len(tens) // most)]


def spanning(
    values: Sequence[float], start: float, end: float, log: bool = False, from_zero: bool = False, pad: float = 0.06
) -> Scale:
    """Return a scale with room for ``values``, which must be positive if it is logarithmic."""
    low, high = min(values), max(values)
    if log:
        room = max((high / low) ** pad, 1.15)
        return Scale(low / room, high * room, start, end, log)
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    room = (high - low) * pad or abs(high) * 0.1 or 1.0
    bottom = 0.0 if from_zero and low == 0 else low - room
    return Scale(bottom, 0.0 if from_zero and high == 0 and low < 0 else high + room, start, end)


def horizontal_axis(scale: Scale, top: float, bottom: float, title: str, most: int = 5) -> Markup:
    """Return ticks with grid lines below a plot, and the title of the axis."""
    parts = []
    for tick in scale.ticks(most):
        x = scale(tick)
        parts.append(element("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"))
        parts.append(text(short(tick), x, bottom + 16, "tick", "middle"))
    if title:
        parts.append(text(title, (scale.start + scale.end) / 2, bottom + 34, "axis", "middle"))
    return Markup("").join(parts)


def vertical_axis(scale: Scale, left: float, right: float, named: bool = True) -> Markup:
    """Return the grid lines of a plot, with ticks at its left if ``named``."""
    parts = []
    for tick in scale.ticks():
        y = scale(tick)
        parts.append(element("line", x1=left, x2=right, y1=y, y2=y, class_="grid"))
        if named:
            parts.append(text(short(tick), left - 8, y + 4, "tick", "end"))
    return Markup("").join(parts)


def _round_up(step: float) -> float:
    """Return the next of 1, 2, 5 and 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(nice * power for nice in NICE if step <= nice * power * (1 + 1e-9))


def _written(value: str | float) -> str:
    """Return a number to two decimals, without trailing zeros and without the sign of zero."""
    if isinstance(value, str):
        return value
    return f"{round(value, 2) + 0.0:.2f}".rstrip("0").rstrip(".")
