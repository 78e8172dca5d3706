"""The page of settings has every setting as the code has it, in its order, and no other."""

import re
from dataclasses import MISSING, Field
from pathlib import Path
from typing import Any

from veil.config import settings_by_variable

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "settings.md").read_text()


def default_of(item: "Field[Any]") -> str:
    if item.default is MISSING:
        return "needed"
    if item.default in ((), "", None):
        return "-"
    return f"`{item.default}`"


def row(variable: str, item: "Field[Any]") -> str:
    bounds = item.metadata["parse"].__doc__ if item.metadata["parse"].__name__ == "parse" else None
    doc = item.metadata["doc"] + (f" ({bounds})" if bounds else "")
    return f"| `{variable}` | {doc} | {default_of(item)} |"


def test_every_setting_has_its_row() -> None:
    wanted = [row(variable, item) for variable, (_, item) in settings_by_variable().items()]
    assert re.findall(r"^\| `VEIL_.*$", PAGE, re.M) == wanted
