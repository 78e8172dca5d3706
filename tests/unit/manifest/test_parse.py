"""YAML in: only plain data comes out, each part with its line, and nothing unbounded."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from veil.errors import ManifestInvalid
from veil.manifest.parse import DEPTH_MAX, DOCUMENTS_MAX, MANIFEST_MAX_BYTES, NODES_MAX, Located, load, path_text


def value(text: str) -> Any:
    [located] = load(text)
    return located.value


def refusal(text: str | bytes) -> tuple[str, int]:
    with pytest.raises(ManifestInvalid) as error:
        load(text, "m.yaml")
    [only] = error.value.errors
    assert only.file == "m.yaml"
    assert "\n" not in str(only)
    return only.message, only.line


def test_scalars_are_json_s() -> None:
    text = (
        "[1, -2, 0x1f, 0o17, 1.5, 1e3, .5, true, False, ~, null, yes, no, on, off, 012, 1:30, 2024-01-01, '1', \"true\", 1_0, =]"
    )
    numbers = [1, -2, 31, 15, 1.5, 1000.0, 0.5]
    words = ["yes", "no", "on", "off", "012", "1:30", "2024-01-01", "1", "true", "1_0", "="]
    assert value(text) == [*numbers, True, False, None, None, *words]


def test_numbers_that_no_machine_has_stay_text() -> None:
    assert value("[1e999, .inf, .nan, -.inf]") == ["1e999", ".inf", ".nan", "-.inf"]
    assert isinstance(value("9" * 100), str)


def test_explicit_tags_of_json_s_types_are_taken() -> None:
    assert value("[!!str 1, !!int 1, !!float 1.5, !!bool true, !!null ~, !!map {}, !!seq []]") == [
        "1",
        1,
        1.5,
        True,
        None,
        {},
        [],
    ]


@pytest.mark.parametrize(
    "text",
    ["!!python/object/apply:os.system ['true']", "!custom x", "!!binary aGk=", "!!timestamp 2024-01-01", "!!set {a}", "!!int x"],
)
def test_other_tags_are_refused(text: str) -> None:
    assert "tag" in refusal(text)[0]


def test_block_text_and_anchors() -> None:
    assert value("a: &x {k: [1]}\nb: *x\nc: |\n  two\n  lines\n") == {"a": {"k": [1]}, "b": {"k": [1]}, "c": "two\nlines\n"}


def test_lines() -> None:
    [first, second] = load("# comment\na:\n  b:\n    - x\n    - c: 1\n      d: 2\n---\n\ne: {f: 1,\n  g: 2}\n", "m.yaml")
    assert first.line_of(()) == 2
    assert [first.line_of(p) for p in [("a",), ("a", "b"), ("a", "b", 0), ("a", "b", 1), ("a", "b", 1, "d")]] == [2, 3, 4, 5, 6]
    assert first.line_of(("a", "b", 1, "missing", "deeper")) == 5
    assert [second.line_of(p) for p in [("e",), ("e", "f"), ("e", "g")]] == [9, 9, 10]
    assert str(second.error(("e", "g"), "wrong")) == "m.yaml:10: e.g: wrong"


def test_paths() -> None:
    assert path_text(("spec", "containers", 0, "example.org/x", 'a"\nb')) == r'spec.containers[0]["example.org/x"]["a\"\nb"]'
    assert Located({}).line_of(("a",)) == 0


def test_documents_that_are_empty_do_not_count() -> None:
    assert [located.value for located in load("---\n---\na: 1\n---\n# nothing\n---\nb: 1\n...\n")] == [{"a": 1}, {"b": 1}]


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "---\n---\n", b"\xef\xbb\xbf", "~"])
def test_an_empty_file(text: str | bytes) -> None:
    assert refusal(text)[0] == "there is no object in it"


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        ("a:\n\tb: 1\n", "tab", 2),
        ("a: 1\n\tb: 1\n", "not YAML", 2),
        ("- a\n- `x`\n", "'`' cannot begin a value", 2),
        ("a: [1, 2\nb: 3\n", "not YAML", 2),
        ('a: "unclosed\n', "not YAML", 2),
        ("a: b: c\n", "not YAML", 1),
        ("a: 1\n b: 2\n", "not YAML", 2),
        ("a: @x\n", "put it in quotes", 1),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "b.c is there twice, first in line 3", 4),
        ("a: *nothing\n", "nothing", 1),
        ("a: &x [*x]\n", "", 1),
        ("<<: {a: 1}\n", "merge", 1),
        ("1: a\n", "put it in quotes", 1),
        ("true: a\n", "put it in quotes", 1),
        ("? [a]\n: b\n", "string", 1),
        ("a: 1\n}\n", "not YAML", 2),
        ("%BAD\n---\na\n", "", 0),
    ],
)
def test_bad_yaml(text: str, words: str, line: int) -> None:
    message, found = refusal(text)
    assert words in message
    if line:
        assert found == line


@pytest.mark.parametrize("text", ["é: ü", "'<<': 1", "{a: , b: 2}"])
def test_odd_yaml_that_is_right(text: str) -> None:
    value(text)


def test_binary_junk() -> None:
    assert refusal(b"a: 1\nb: \xff\xfe\x00\n") == ("not UTF-8 text: byte 8 is 0xff", 2)
    assert "not YAML" in refusal("a: \x00\x01")[0]
    assert "not YAML" in refusal(bytes(range(1, 128)))[0]
    assert "surrogate" in refusal('a: "\\ud800"')[0] or "not YAML" in refusal('a: "\\ud800"')[0]
    assert refusal("a: \ud800")


def test_too_large() -> None:
    assert "MANIFEST_MAX_BYTES" in refusal("a" * (MANIFEST_MAX_BYTES + 1))[0]
    value("a" * (MANIFEST_MAX_BYTES - 1))


def test_too_many_documents() -> None:
    assert len(load("a: 1\n---\n" * DOCUMENTS_MAX)) == DOCUMENTS_MAX
    assert "DOCUMENTS_MAX" in refusal("a: 1\n---\n" * (DOCUMENTS_MAX + 1))[0]


def test_too_deep() -> None:
    value("[" * DEPTH_MAX + "]" * DEPTH_MAX)
    for depth in (DEPTH_MAX + 2, 100_000):
        assert "DEPTH_MAX" in refusal("[" * depth + "]" * depth)[0]


def test_too_deep_by_aliases() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} {'[' * 20}*a{n - 1}{']' * 20}" for n in range(1, 50)]
    assert "DEPTH_MAX" in refusal("\n".join(lines))[0]


def test_too_many_values() -> None:
    assert len(value("[" + "1," * (NODES_MAX - 1) + "]")) == NODES_MAX - 1
    assert "NODES_MAX" in refusal("[" + "1," * NODES_MAX + "]")[0]


def test_an_alias_bomb() -> None:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    message, line = refusal("\n".join(lines))
    assert "aliases expanded" in message
    assert line < 12


TOKENS = [
    *"[]{}'\":,#%1~é&*?!-<>|",
    "a",
    "b: ",
    "- ",
    "\n",
    "  ",
    "&x ",
    "*x ",
    "|\n",
    "---\n",
    "!!str ",
    "? ",
    "<<: ",
    "\t",
    "\\u",
    "\ud800",
]
YAMLISH = st.lists(st.sampled_from(TOKENS), max_size=60).map("".join)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.binary(), YAMLISH))
@example("? ? a")
@example("[{a: {b")
@example(b"\xff\xfea\x00")
def test_anything_is_read_as_json_or_refused(text: str | bytes) -> None:
    documents, errors = [], []
    try:
        documents = load(text, "m.yaml")
    except ManifestInvalid as error:
        errors = error.errors
    for located in documents:
        json.dumps(located.value, allow_nan=False, ensure_ascii=False).encode()
    assert all("\n" not in str(one) for one in errors)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(JSON.filter(lambda given_value: given_value is not None))
def test_json_is_yaml(given_value: Any) -> None:
    """ASCII JSON without what YAML forbids reads as itself (keys over 1024 characters aside, which none here has)."""
    text = json.dumps(given_value)
    if "\\ud" in text:
        return
    assert value(text) == given_value
