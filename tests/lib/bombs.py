# SPDX-License-Identifier: MIT
"""Bodies that are small on the wire and large unpacked; the standard library has no encoder for
brotli and zstd, so their streams are put together here from the formats' own shortest forms.
"""
import gzip
import zlib

MIB = 1 << 20


def deflated(total, wbits=31):
    """total bytes of zeros, a multiple of 1 MiB, about 1000:1. wbits: 31 gzip, 15 zlib."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    block = bytes(MIB)
    return b"".join(packer.compress(block) for _ in range(total // MIB)) + packer.flush()


class _Bits:
    """Bits are filled from the low end, as RFC 7932 has it."""

    def __init__(self):
        self.value = self.count = 0

    def put(self, value, count):
        self.value |= value << self.count
        self.count += count

    def code_of_one(self, symbol, bits):
        """A prefix code that has one symbol, which then takes no bits."""
        self.put(1, 2)
        self.put(0, 2)
        self.put(symbol, bits)

    def done(self):
        return self.value.to_bytes((self.count + 7) // 8, "little")


def brotli(blocks):
    """Meta-blocks of 16 MiB of one letter: four literals and a copy of the rest. 700,000:1."""
    out = _Bits()
    out.put(0, 1)  # WBITS 16
    for _ in range(blocks):
        out.put(0, 1)  # ISLAST
        out.put(2, 2)  # MNIBBLES 6
        out.put(16 * MIB - 1, 24)
        out.put(0, 1)  # ISUNCOMPRESSED
        out.put(0, 3)  # one block type of literals, commands, distances
        out.put(0, 6)  # NPOSTFIX, NDIRECT
        out.put(0, 2)  # context mode
        out.put(0, 2)  # one tree of literals, of distances
        out.code_of_one(ord("a"), 8)
        out.code_of_one(384 + (4 << 3) + 7, 10)  # insert 4, copy 2118 and 24 bits more
        out.code_of_one(0, 6)  # the last distance
        out.put(16 * MIB - 4 - 2118, 24)
    out.put(3, 2)
    return out.done()


def brotli_stored(data):
    """As it is, in blocks of 64 KiB; the first byte's low bit is WBITS 16."""
    out, first = b"", 1
    for at in range(0, len(data), 65536):
        block = data[at : at + 65536]
        bits = _Bits()
        bits.put(0, first)
        bits.put(0, 1)  # ISLAST
        bits.put(0, 2)  # MNIBBLES 4
        bits.put(len(block) - 1, 16)
        bits.put(1, 1)  # ISUNCOMPRESSED
        out += bits.done() + block
        first = 0
    return out + (b"\x06" if first else b"\x03")


def brotli_tables(blocks):
    """Meta-blocks of 92 bytes that are one letter: 256 block types, a context map of 16,384 entries that is
    to be moved to the front, 8 trees. 0.4 to 0.6 ms of brotli each. Without an end; a multiple of 8."""
    one = _Bits()
    one.put(0, 1)  # ISLAST
    one.put(0, 2)  # MNIBBLES 4
    one.put(0, 16)  # one byte
    one.put(0, 1)  # ISUNCOMPRESSED
    one.put(1 | 7 << 1 | 127 << 4, 11)  # 256 block types of literals
    one.code_of_one(0, 9)  # of 258 symbols
    one.code_of_one(25, 5)
    one.put(0, 24)  # the first block is longer than this
    one.put(0, 2)  # one block type of commands, of distances
    one.put(0, 6)  # NPOSTFIX, NDIRECT
    one.put(0, 512)  # context modes
    one.put(1 | 2 << 1 | 3 << 4, 6)  # 8 trees of literals
    one.put(0, 1)  # no runs
    one.code_of_one(7, 3)
    one.put(1, 1)  # inverse move-to-front
    one.put(0, 1)  # one tree of distances
    for _ in range(8):
        one.code_of_one(ord("a"), 8)
    one.code_of_one(8, 10)  # insert 1
    one.code_of_one(0, 6)
    eight = _Bits()
    for _ in range(8):
        eight.put(one.value, one.count)
    out = _Bits()
    out.put(0, 1)  # WBITS 16
    out.put(int.from_bytes(eight.done() * (blocks // 8), "little"), one.count * blocks)
    return out.done()


def zstd(total, window_log=27):
    """Blocks of 128 KiB of one letter, four bytes each. 32,000:1."""
    out = [b"\x28\xb5\x2f\xfd\x00", bytes([(window_log - 10) << 3])]
    for left in range(total // 131072 - 1, -1, -1):
        out.append((131072 << 3 | 1 << 1 | (left == 0)).to_bytes(3, "little") + b"a")
    return b"".join(out)


def endless_name(total, layers):
    """A gzip head whose file name does not end, in so many layers of gzip: nothing is ever delivered."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    out = [packer.compress(b"\x1f\x8b\x08\x08\0\0\0\0\0\xff")]
    block = b"a" * MIB
    out += [packer.compress(block) for _ in range(total // MIB)]
    data = b"".join(out) + packer.flush()
    for _ in range(layers - 2):
        data = gzip.compress(data, mtime=0)
    return data


def empty_blocks(count, letters=False):
    """gzip of a deflate stream of empty blocks that each bring code tables: 331 ms of zlib a MiB. With
    letters, after each 8 of them comes a block of one, so that something is delivered."""
    bits = _Bits()
    for _ in range(8):
        bits.put(0, 1)
        bits.put(2, 2)  # dynamic
        bits.put(0, 10)  # 257 literal codes, 1 distance code
        bits.put(14, 4)  # 18 lengths of code lengths: those of 18 and 1 are 1
        for symbol in (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1):
            bits.put(symbol in (1, 18), 3)
        for zeros in (138, 118):
            bits.put(1, 1)
            bits.put(zeros - 11, 7)
        bits.put(0, 3)  # the lengths of 256 and of distance 0, and the end of the block
    letter = b"\x00\x01\x00\xfe\xffa" if letters else b""
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + (bits.done() + letter) * (count // 8)
