"""The page on conditions names every reason that the code can give, and no other."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reference" / "conditions.md").read_text()
SOURCES = ("veil/placement/reasons.py", "veil/agent/status.py", "veil/rollout/status.py")


def reasons(source: str) -> set[str]:
    """The upper-case module constants whose value is an identifier in CamelCase."""
    tree = ast.parse((ROOT / source).read_text())
    values = [
        node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    return {value for value in values if re.fullmatch(r"[A-Z][A-Za-z]+", value)}


@pytest.mark.parametrize("source", SOURCES)
def test_every_reason_is_explained(source: str) -> None:
    found = reasons(source)
    assert len(found) >= 8
    assert not {reason for reason in found if f"`{reason}`" not in PAGE}


def test_every_condition_of_a_node_is_explained() -> None:
    source = (ROOT / "veil" / "node" / "own_conditions.py").read_text()
    named = re.findall(r'Condition\("(\w+)", "(\w+)", "(\w+)"', source)
    assert len(named) >= 6
    verdicts = {
        reason
        for path in (ROOT / "veil" / "node").glob("*.py")
        for reason in re.findall(r'Verdict\((?:True|False), "(\w+)"', path.read_text())
    }
    assert {"NotInCommittee", "InClass", "EpochMissing"} <= verdicts
    assert not {word for words in [*named, verdicts, ("ClassUnreachable",)] for word in words if f"`{word}`" not in PAGE}
