#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the package does, in one go: allocate, map, share, name, be refused."""

import mapbuf
import numpy

with mapbuf.open() as session:
    # Memory of the kernel, as an array, without a copy.
    buffer = session.alloc("coherent", 1 << 20)
    samples = numpy.asarray(buffer.map()).view("<u4")
    samples[:] = numpy.arange(samples.size)
    print("the kernel reads", buffer.read(40, 4).hex(), "where the array has", samples[10])

    # What it is now.
    info = buffer.info()
    print(f"{info.kind.name.lower()}, {info.bytes} bytes in {info.segments} run(s), {info.mappings} mapping(s)")

    # Around what a device does with it. On coherent memory this costs nothing.
    with buffer.cpu_access("from-device"):
        print("sum", int(samples.sum(dtype="u8")))

    # For other programs, by a name.
    buffer.name("samples", mode=0o640)

# Session and id are gone; the name keeps the memory, and so does the mapping.
with mapbuf.open_named("samples", writable=False) as named:
    last = numpy.frombuffer(named.map(), "<u4")[-1]
    print("by its name: the last sample is", last, "and in our own mapping", samples[-1])
mapbuf.unname("samples")

# A refusal says why, with the values, and what to do next.
with mapbuf.open() as session:
    try:
        session.alloc("pages", 64 << 10).map(offset=4096, length=64 << 10)
    except mapbuf.Refused as refused:
        print(refused.reason.name, refused.operands)
        print("what:", refused.sentence)
        print("next:", refused.advice)
