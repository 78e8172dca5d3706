"""Makes every evaluator choose the same Fourier plan, so that their results agree bit for bit.

Concrete's runtime picks one of sixteen algorithms for its transforms by timing each for a few milliseconds at its first
evaluation. The choice changes the rounding in the last bits of every ciphertext, and on a busy machine it is a lottery.
No setting fixes it, so this module gives the runtime a clock to measure with on which one good plan always wins: the entries
for ``clock_gettime`` in the runtime library's own relocation tables point to a counter for the time of the first evaluation,
and back to the C library's afterwards. Nothing else in the process sees that clock.

Where that is not possible (another processor, another library layout) evaluation still works: the parent then starts
evaluators until one is in the epoch's class.
"""

import contextlib
import ctypes
import logging
import mmap
import platform
from collections.abc import Iterator

log = logging.getLogger(__name__)

LIBRARY = "libConcretelangRuntime"
SYMBOL = b"clock_gettime"

FAST_MEASUREMENTS = frozenset({4, 8})
"""Which measurements come out fast: the fifth algorithm (radix 8, decimation in frequency) for half the transform's size, and
the whole transform built on it. Measurements 0..7 are the algorithms at half size, 8 the whole, 9..16 those at full size."""

FAST_NS, SLOW_NS = 5_000_000, 20_000_000

_PT_DYNAMIC = 2
_DT = {"rela": 7, "rela_bytes": 8, "strings": 5, "symbols": 6, "plt": 23, "plt_bytes": 2}
_RELOCATIONS = (6, 7)
"""R_X86_64_GLOB_DAT and R_X86_64_JUMP_SLOT: entries that hold a function's address."""
_SYMBOL_BYTES, _RELA_BYTES, _DYNAMIC_BYTES = 24, 24, 16

_Clock = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_int64))


class _Counter:
    """Each pair of readings is one measurement; its length depends on its number only."""

    def __init__(self) -> None:
        self._readings = 0
        self._now_ns = 10**12

    def read(self, _clock: int, time: "ctypes._Pointer[ctypes.c_int64]") -> int:
        measurement, is_end = divmod(self._readings, 2)
        self._readings += 1
        if is_end:
            self._now_ns += FAST_NS if measurement in FAST_MEASUREMENTS else SLOW_NS
        time[0], time[1] = divmod(self._now_ns, 10**9)
        return 0


@contextlib.contextmanager
def pinned() -> Iterator[bool]:
    """While this is open, a first evaluation chooses the pinned plan. Yields whether that is so."""
    slots = _slots()
    if not slots:
        log.warning("the Fourier plan cannot be pinned here: evaluators will differ and be restarted until they agree")
        yield False
        return
    callback = _Clock(_Counter().read)
    address = ctypes.cast(callback, ctypes.c_void_p).value or 0
    before = [(slot, _write(slot, address)) for slot in slots]
    try:
        yield True
    finally:
        for slot, original in before:
            _write(slot, original)


def _slots() -> list[int]:
    """Addresses of the pointers through which the loaded runtime calls the clock; none where the layout is unknown."""
    base = _base_address()
    if base is None or platform.machine() != "x86_64":
        return []
    dynamic = _dynamic(base)
    tables = [(dynamic.get(_DT[name]), dynamic.get(_DT[f"{name}_bytes"])) for name in ("rela", "plt")]
    symbols, strings = dynamic.get(_DT["symbols"]), dynamic.get(_DT["strings"])
    if symbols is None or strings is None:
        return []
    slots = []
    for table, size in tables:
        for entry in range(0, (size or 0) if table is not None else 0, _RELA_BYTES):
            offset, info = _word((table or 0) + entry), _word((table or 0) + entry + 8)
            if info & 0xFFFFFFFF in _RELOCATIONS:
                name = ctypes.c_uint32.from_address(symbols + (info >> 32) * _SYMBOL_BYTES).value
                if ctypes.string_at(strings + name) == SYMBOL:
                    slots.append(base + offset)
    return slots


def _base_address() -> int | None:
    with open("/proc/self/maps") as maps:
        for line in maps:
            if LIBRARY in line and line.split()[2] == "00000000":
                return int(line.split("-")[0], 16)
    return None


def _dynamic(base: int) -> dict[int, int]:
    """The dynamic section of the library at ``base``; the C library has made its pointers absolute."""
    header = base + _word(base + 32)
    count = ctypes.c_uint16.from_address(base + 56).value
    size = ctypes.c_uint16.from_address(base + 54).value
    found: dict[int, int] = {}
    for index in range(count):
        segment = header + index * size
        if ctypes.c_uint32.from_address(segment).value == _PT_DYNAMIC:
            entry = base + _word(segment + 16)
            while (tag := _word(entry)) != 0:
                found[tag] = _word(entry + 8)
                entry += _DYNAMIC_BYTES
    return found


def _word(address: int) -> int:
    return ctypes.c_uint64.from_address(address).value


def _write(slot: int, value: int) -> int:
    """Stores a pointer, after making its page writable, and returns the one before."""
    libc = ctypes.CDLL(None, use_errno=True)
    page = slot - slot % mmap.PAGESIZE
    if libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ | mmap.PROT_WRITE) != 0:
        raise OSError(ctypes.get_errno(), "mprotect of a relocation entry")
    original = _word(slot)
    ctypes.c_uint64.from_address(slot).value = value
    return original
