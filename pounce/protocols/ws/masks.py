"""Unmasking (RFC 6455, section 5.3): each byte that a client sends is XORed with one of the four bytes of a key.

Python has no XOR of byte strings. Three ways to do it, measured on one frame of 125 bytes / 4 KiB / 64 KiB, 3.14:

    big integers                      0.5 /  9   / 200 us    three conversions, each a loop over bytes
    four strides, each translated     0.8 /  6   /  89 us    what wsproto does
    mpn_xor_n of GMP, through ctypes  1.0 /  1.5 /  12 us    words; on 3.13t 2.0 / 3.4 / 15

GMP is installed on every Debian and Fedora, because coreutils needs it. It is used for long payloads where it is found.
Nothing depends on it: without it, 64 KiB take less time in the tables than in the rest of the server.

Must never be shared by threads: an `Unmasker` has tables, or a buffer, of its own. Owner: the worker's thread.
"""

import ctypes
from collections.abc import Callable

SHORT = 512  # bytes; up to this size big integers are the fastest
PIECE = 1 << 16  # bytes; a larger piece does not fit into the CPU's cache together with its copies

LIMB = 8  # bytes

type Buffer = bytes | memoryview
type Unmask = Callable[[bytes, int, int, bytes], Buffer]
type UnmaskLong = Callable[[memoryview, bytes], Buffer]


class Unmasker:
    """Called with bytes, the indices where a payload begins and ends in them, and its key of four bytes, returns the
    unmasked payload. The next call may overwrite the result, which saves a copy if it is decoded at once."""

    __slots__ = ("_long",)

    def __init__(self, *, native: bool = True) -> None:
        self._long = (native and gmp()) or tables()

    def __call__(self, data: bytes, start: int, end: int, key: bytes) -> Buffer:
        size = end - start
        if size <= SHORT:
            pad = (key * ((size >> 2) + 1))[:size]
            return (int.from_bytes(data[start:end]) ^ int.from_bytes(pad)).to_bytes(size)
        payload = memoryview(data)[start:end]
        if size <= PIECE:
            return self._long(payload, key)
        return b"".join([bytes(self._long(payload[at : at + PIECE], key)) for at in range(0, size, PIECE)])


def tables() -> UnmaskLong:
    rows = [bytes(byte ^ key for byte in range(256)) for key in range(256)]

    def unmask(payload: memoryview, key: bytes) -> bytes:
        result = bytearray(payload)
        for index, byte in enumerate(key):
            result[index::4] = result[index::4].translate(rows[byte])
        return bytes(result)

    return unmask


def gmp() -> UnmaskLong | None:
    """Unmasking by GMP; None if it is not installed."""
    try:
        xor = ctypes.PyDLL("libgmp.so.10")["__gmpn_xor_n"]
    except (OSError, AttributeError):
        return None
    if ctypes.sizeof(ctypes.c_long) != LIMB:  # in the usual build of GMP a limb is a long
        return None
    # void mpn_xor_n(mp_limb_t *result, const mp_limb_t *one, const mp_limb_t *other, mp_size_t limbs)
    xor.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_long]
    xor.restype = None
    # One buffer for all payloads: allocating 64 KiB three times for each takes longer than the work.
    buffer = ctypes.create_string_buffer(PIECE)
    address, view = ctypes.addressof(buffer), memoryview(buffer).cast("B")

    def unmask(payload: memoryview, key: bytes) -> memoryview:
        size = len(payload)
        limbs = (size + LIMB - 1) // LIMB
        view[:size] = payload
        xor(address, address, key * (limbs * LIMB // 4), limbs)
        return view[:size]

    return unmask
