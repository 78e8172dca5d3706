"""Kubernetes quantities as exact integers: milli-cores, bytes, counts.

The grammar is Kubernetes' (``resource.Quantity``): a decimal number and a suffix. What would have to be rounded is refused, as
is what nobody means, such as a fraction of a byte.
"""

import json
import re
from fractions import Fraction

from veil.errors import InvalidInput

QUANTITY_MAX_CHARS = 32
QUANTITY_MAX = 2**63 - 1
"""The largest figure, in the unit of its kind: what the wire's integers hold."""

_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", start=1)}
_NUMBER = re.compile(r"([+-]?)(\d+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d{1,2})|([A-Za-z]*))\Z", re.ASCII)
_SUFFIXES = [*_BINARY, *(suffix for suffix in _DECIMAL if suffix)]


def parse_cpu(value: str | float) -> int:
    """Milli-cores. Raises InvalidInput."""
    return _whole(_parse(value) * 1000, value, "has more than three decimals: the smallest unit is 1m")


def parse_bytes(value: str | float) -> int:
    """Bytes. Raises InvalidInput."""
    text = str(value)
    hint = f", did you mean {text[:-1]}Mi?" if text.endswith("m") else ""
    return _whole(_parse(value), value, f"is not a whole number of bytes{hint}")


def parse_count(value: str | float) -> int:
    """Whole things. Raises InvalidInput."""
    return _whole(_parse(value), value, "is not a whole number")


def _whole(amount: Fraction, value: str | float, otherwise: str) -> int:
    if amount.denominator != 1:
        raise InvalidInput(f'"{value}" {otherwise}')
    if amount > QUANTITY_MAX:
        raise InvalidInput(f'"{value}" is too large')
    return amount.numerator


def _parse(value: str | float) -> Fraction:
    text = repr(value) if isinstance(value, float) else str(value)
    if len(text) > QUANTITY_MAX_CHARS:
        raise InvalidInput(f"a quantity of {len(text)} characters, QUANTITY_MAX_CHARS is {QUANTITY_MAX_CHARS}")
    found = _NUMBER.match(text)
    if not found:
        # As JSON: it may hold anything, a line break as well.
        raise InvalidInput(f"{json.dumps(text, ensure_ascii=False)} is not a quantity such as 250m, 2, 64Mi or 1.5Gi")
    sign, digits, exponent, suffix = found.groups()
    if sign == "-":
        raise InvalidInput(f'"{text}" is negative')
    return Fraction(digits) * _scale(text, exponent, suffix)


def _scale(text: str, exponent: str | None, suffix: str | None) -> Fraction:
    if exponent is not None:
        return Fraction(10) ** int(exponent)
    if suffix in _BINARY:
        return Fraction(_BINARY[suffix])
    if suffix in _DECIMAL:
        return Fraction(10) ** _DECIMAL[suffix]
    raise InvalidInput(f'"{text}" has the unknown suffix "{suffix}"{_suggest(suffix or "")}')


def _suggest(suffix: str) -> str:
    bare = suffix.removesuffix("B").removesuffix("b")
    for known in (bare, *_SUFFIXES):
        if known in _SUFFIXES and known.lower() == bare.lower():
            return f', did you mean "{known}"?'
    return f": known are {', '.join(_SUFFIXES)}"


def format_cpu(milli: int) -> str:
    """The shortest exact text: ``2`` or ``250m``."""
    return f"{milli}m" if milli % 1000 else str(milli // 1000)


def format_bytes(count: int) -> str:
    """The shortest exact text with a binary suffix: ``64Mi``, ``1536Mi``, ``1000``."""
    for suffix, size in reversed(_BINARY.items()):
        if count and count % size == 0:
            return f"{count // size}{suffix}"
    return str(count)
