"""The page on Instances names every field, condition and reason, and each test that it names is there."""

import ast
import re
from pathlib import Path
from typing import Any

from tests.unit.docs.test_conditions_page import reasons
from veil.manifest.schemas import schema

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reference" / "instance.md").read_text()
CODE = set(re.findall(r"`([^`]+)`", PAGE))


def names(part: dict[str, Any]) -> set[str]:
    """The fields below ``part``, but for what probes, figures and lists of pairs have inside."""
    return set(part.get("properties", {}))


def test_every_field_is_there() -> None:
    template = schema("Workload")["properties"]["spec"]["properties"]["template"]
    container = template["properties"]["containers"]["items"]
    probes = [part for name, part in container["properties"].items() if name.endswith("Probe")]
    probe = probes[0]["properties"]
    actions = [probe[action] for action in ("exec", "httpGet", "tcpSocket")]
    status = schema("Instance")["properties"]["status"]
    wanted = set.union(*(names(part) for part in (template, container, *probes, *actions[1:], status)))
    assert len(probes) == 3
    assert not wanted - CODE


def test_every_reason_has_a_row_with_a_test() -> None:
    assert len(_rows()) >= 15
    assert not {reason for reason, row in _rows().items() if "::test_" not in row}


def test_every_test_that_is_named_for_a_reason_speaks_of_it() -> None:
    """By the reason itself or by its constant, in the test or in what it is parametrized with."""
    silent = set()
    for reason, row in _rows().items():
        constant = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", reason).upper()
        sources = [_source(file, name) for file, name in re.findall(r"`(test_\w+\.py)::(test_\w+)`", row)]
        if not any(reason in source or constant in source for source in sources):
            silent.add(reason)
    assert not silent


def test_every_condition_is_there() -> None:
    source = (ROOT / "veil" / "node" / "reports.py").read_text()
    shown = set(re.findall(r'\("(Placed|Ready|\w+Checked)", ', source))
    assert len(shown) == 3
    assert not {f"| `{name}` |" for name in shown if f"| `{name}` |" not in PAGE}


def test_every_test_that_is_named_exists() -> None:
    files: dict[str, str] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        files[path.name] = files.get(path.name, "") + path.read_text()
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE)
    assert len(named) >= 40
    assert not [f"{file}::{name}" for file, name in named if f"def {name}(" not in files.get(file, "")]


def _rows() -> dict[str, str]:
    rows = {match[1]: match[0] for match in re.finditer(r"^\| `(\w+)` \|.*$", PAGE, re.M)}
    return {reason: rows.get(reason, "") for reason in reasons("veil/agent/status.py")}


def _source(file: str, name: str) -> str:
    """Of one test, with its decorators."""
    for text in (path.read_text() for path in (ROOT / "tests").rglob(file)):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                return "\n".join(text.splitlines()[first - 1 : node.end_lineno])
    return ""
