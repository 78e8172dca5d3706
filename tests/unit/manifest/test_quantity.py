"""Quantities are exact, or refused with what to write instead."""

from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veil.errors import InvalidInput
from veil.manifest.quantity import QUANTITY_MAX, format_bytes, format_cpu, parse_bytes, parse_count, parse_cpu


@pytest.mark.parametrize(
    ("text", "milli"),
    [
        ("1", 1000),
        (2, 2000),
        (0.5, 500),
        ("0.5", 500),
        (".25", 250),
        ("250m", 250),
        ("1e1", 10_000),
        ("+3", 3000),
        ("0", 0),
        ("2k", 2_000_000),
        ("1000000u", 1000),
        ("5.", 5000),
    ],
)
def test_cpu(text: str | float, milli: int) -> None:
    assert parse_cpu(text) == milli


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("64Mi", 64 << 20),
        ("1.5Gi", 3 << 29),
        ("1k", 1000),
        ("1M", 10**6),
        ("1E3", 1000),
        ("1E", 10**18),
        ("7Ei", 7 << 60),
        (1024, 1024),
        ("0.5Ki", 512),
        ("1e3", 1000),
        (1e3, 1000),
    ],
)
def test_bytes(text: str | float, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a quantity"),
        ("abc", "not a quantity"),
        ("1 Gi", "not a quantity"),
        ("1,5Gi", "not a quantity"),
        ("1Gi\n", r'"1Gi\n" is not a quantity'),
        ("٣", "not a quantity"),
        ("64MB", 'did you mean "M"'),
        ("64mi", 'did you mean "Mi"'),
        ("64GiB", 'did you mean "Gi"'),
        ("64Q", "unknown suffix"),
        ("-1", "negative"),
        ("100m", "did you mean 100Mi"),
        ("1.5", "whole number of bytes"),
        ("8Ei", "too large"),
        ("1e99", "too large"),
        ("9" * 33, "33 characters"),
        ("1e-5", "whole number of bytes"),
        ("1e999", "not a quantity"),
    ],
)
def test_bad_bytes(text: str, words: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse_bytes(text)
    assert words in error.value.message


@pytest.mark.parametrize(("text", "words"), [("0.0001", "three decimals"), ("1u", "three decimals"), ("1mm", "unknown suffix")])
def test_bad_cpu(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        parse_cpu(text)


def test_count() -> None:
    assert parse_count("2") == parse_count(2) == 2
    with pytest.raises(InvalidInput, match="whole"):
        parse_count("0.5")


@given(st.integers(0, QUANTITY_MAX))
def test_what_is_formatted_is_read_back(figure: int) -> None:
    assert parse_bytes(format_bytes(figure)) == figure
    if figure <= QUANTITY_MAX // 1000:
        assert parse_cpu(format_cpu(figure)) == figure


@given(st.integers(0, 10**6), st.integers(0, 999), st.sampled_from(["", "Ki", "Mi", "k", "M"]))
def test_decimals_are_exact(whole: int, part: int, suffix: str) -> None:
    scale = {"": 1, "Ki": 1024, "Mi": 1 << 20, "k": 1000, "M": 10**6}[suffix]
    amount = (whole + Fraction(part, 1000)) * scale
    text = f"{whole}.{part:03}{suffix}"
    if amount.denominator == 1:
        assert parse_bytes(text) == amount
    else:
        with pytest.raises(InvalidInput):
            parse_bytes(text)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(InvalidInput):
        assert 0 <= parse_cpu(text) <= QUANTITY_MAX
