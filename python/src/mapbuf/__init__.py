# SPDX-License-Identifier: MIT OR Apache-2.0
"""Memory of the kernel, mapped into a program without a copy.

>>> import mapbuf
>>> with mapbuf.open() as session:                      # doctest: +SKIP
...     buffer = session.alloc("coherent", 1 << 20)
...     memory = buffer.map()                           # has the buffer protocol
...     memory[:4] = b"ring"
...     numpy.asarray(memory)                           # the same bytes

A refusal is a `Refused`, which is an `OSError` with the driver's reason, the values that the reason speaks of, and what
to do next.
"""

from ._abi import Cache, Direction, Kind, Method, Reason
from ._buffer import Buffer, Info, Mapping, Segment
from ._errors import Error, NotANode, Refused
from ._named import Named, open_named, unname
from ._session import Query, Session, open

__all__ = [
    "Buffer",
    "Cache",
    "Direction",
    "Error",
    "Info",
    "Kind",
    "Mapping",
    "Method",
    "Named",
    "NotANode",
    "Query",
    "Reason",
    "Refused",
    "Segment",
    "Session",
    "open",
    "open_named",
    "unname",
]
