"""Conversion of units, by a table of some sixty.

``pint`` does the same for thousands, at the price of a parser and a registry built at every start.
"""

from __future__ import annotations

from typing import NamedTuple


class Unit(NamedTuple):
    """``value * factor + offset`` is the value in the base unit of its dimension."""

    dimension: str
    factor: float
    offset: float = 0.0


_FACTORS: dict[str, dict[str, float]] = {
    "length": {
        "millimetre": 0.001,
        "centimetre": 0.01,
        "metre": 1.0,
        "kilometre": 1000.0,
        "inch": 0.0254,
        "foot": 0.3048,
        "yard": 0.9144,
        "mile": 1609.344,
        "nautical mile": 1852.0,
        "light year": 9.4607304725808e15,
        "li": 500.0,
        "chi": 1 / 3,
        "cun": 1 / 30,
    },
    "mass": {
        "milligram": 1e-6,
        "gram": 0.001,
        "kilogram": 1.0,
        "tonne": 1000.0,
        "ounce": 0.028349523125,
        "pound": 0.45359237,
        "stone": 6.35029318,
        "jin": 0.5,
        "liang": 0.05,
    },
    "volume": {
        "millilitre": 0.001,
        "centilitre": 0.01,
        "decilitre": 0.1,
        "litre": 1.0,
        "cubic metre": 1000.0,
        "teaspoon": 0.00492892159375,
        "tablespoon": 0.01478676478125,
        "fluid ounce": 0.0295735295625,
        "cup": 0.2365882365,
        "pint": 0.473176473,
        "quart": 0.946352946,
        "gallon": 3.785411784,
    },
    "speed": {
        "metre per second": 1.0,
        "kilometre per hour": 1 / 3.6,
        "mile per hour": 0.44704,
        "knot": 1852 / 3600,
    },
    "time": {
        "millisecond": 0.001,
        "second": 1.0,
        "minute": 60.0,
        "hour": 3600.0,
        "day": 86400.0,
        "week": 604800.0,
        "year": 31556952.0,
    },
    "data": {
        "bit": 0.125,
        "byte": 1.0,
        "kilobyte": 1e3,
        "megabyte": 1e6,
        "gigabyte": 1e9,
        "terabyte": 1e12,
    },
    "area": {
        "square metre": 1.0,
        "square kilometre": 1e6,
        "square foot": 0.09290304,
        "square mile": 2589988.110336,
        "hectare": 1e4,
        "acre": 4046.8564224,
        "mu": 10000 / 15,
    },
}

UNITS: dict[str, Unit] = {
    **{
        name: Unit(dimension, factor)
        for dimension, factors in _FACTORS.items()
        for name, factor in factors.items()
    },
    "kelvin": Unit("temperature", 1.0),
    "celsius": Unit("temperature", 1.0, 273.15),
    "fahrenheit": Unit("temperature", 5 / 9, 459.67 * 5 / 9),
}


def convert(value: float, source: str, target: str) -> float | None:
    """``value`` of unit ``source`` in unit ``target``; None where they measure different things.

    Raises:
        KeyError: a unit that is not in `UNITS`.
    """
    one, other = UNITS[source], UNITS[target]
    if one.dimension != other.dimension:
        return None
    return (value * one.factor + one.offset - other.offset) / other.factor
