"""Times as the Docker API writes them (RFC 3339 with up to nine decimals), to the nanosecond."""

from datetime import datetime

NS_PER_S = 10**9


def nanoseconds(text: str) -> int:
    """Since 1970; 0 for the zero time, which means never. Raises ValueError."""
    whole, _, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    zone = rest[len(digits) :] if rest else ""
    if not rest and whole.endswith("Z"):
        whole, zone = whole[:-1], "Z"
    seconds = int(datetime.fromisoformat(whole + zone.replace("Z", "+00:00")).timestamp())
    return max(0, seconds * NS_PER_S + int((digits or "0").ljust(9, "0")))


def query_time(ns: int) -> str:
    """As queries take it."""
    return f"{ns // NS_PER_S}.{ns % NS_PER_S:09d}"
