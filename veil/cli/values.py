"""Values as people write them on the command line: accounts, peers, amounts of ether, digests."""

import time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from veil.types import Address, Digest, PeerId

WEI_PER_ETHER = 10**18


class _Address(click.ParamType["Address"]):
    """An Ethereum account."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Address":
        from eth_utils.address import is_address, to_checksum_address

        from veil.types import Address

        if not is_address(value):
            self.fail(f"{value!r} is no account: 0x and 40 hexadecimal digits", param, ctx)
        return Address(to_checksum_address(value))


class _Peer(click.ParamType["PeerId"]):
    """A peer ID as libp2p writes it."""

    name = "peer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "PeerId":
        from veil.errors import VeilError
        from veil.identity import parse_peer_id

        try:
            return parse_peer_id(value)
        except (VeilError, ValueError) as error:
            self.fail(f"{value!r} is no peer ID of an Ed25519 key ({error})", param, ctx)


class _Ether(click.ParamType[int]):
    """An amount of ether, as wei."""

    name = "ether"

    def __init__(self, *, least_wei: int = 1) -> None:
        self._least_wei = least_wei

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            amount = Decimal(value) * WEI_PER_ETHER
        except InvalidOperation:
            self.fail(f"{value!r} is no amount of ether, such as 0.5", param, ctx)
        if not amount.is_finite() or amount < self._least_wei or amount != int(amount):
            least = "more than 0" if self._least_wei else "0 or more"
            self.fail(f"{value!r}: {least}, at most 18 decimals", param, ctx)
        return int(amount)


class _Digest(click.ParamType["Digest"]):
    """32 bytes in hexadecimal digits."""

    name = "digest"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Digest":
        from veil.types import Digest

        try:
            found = bytes.fromhex(str(value).removeprefix("0x"))
        except ValueError:
            found = b""
        if len(found) != 32:
            self.fail(f"{value!r} is no digest: 64 hexadecimal digits", param, ctx)
        return Digest(found)


class _Content(click.ParamType[bytes]):
    """A file, as what is in it."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        try:
            return Path(value).expanduser().read_bytes()
        except OSError as error:
            self.fail(f"{value}: {error.strerror}", param, ctx)


ADDRESS, PEER, ETHER, DIGEST, CONTENT = _Address(), _Peer(), _Ether(), _Digest(), _Content()
ANY_ETHER = _Ether(least_wei=0)
"""Also none."""


def ether(amount_wei: int) -> str:
    """As people write it."""
    return f"{Decimal(amount_wei) / WEI_PER_ETHER:f}"


def utc(at_s: int) -> str:
    """A Unix time as a date."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))
