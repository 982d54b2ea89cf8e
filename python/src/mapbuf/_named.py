# SPDX-License-Identifier: MIT OR Apache-2.0
"""Named buffers: nodes that outlive every process."""

from __future__ import annotations

import os

from . import _abi
from ._buffer import Info, Mapping, Segment, info_of, map_node, name_field, segments_of
from ._node import Node


class Named:
    """The open node of a named buffer. Offsets of its file are offsets in the buffer."""

    def __init__(self, name: str, *, writable: bool = True) -> None:
        if not name or "/" in name or name in (".", ".."):
            raise ValueError(f"{name!r} is no name of a buffer")
        #: Its name.
        self.name = name
        self._node = Node(f"{_abi.NAMED_DIR}/{name}", writable)
        #: Its size in bytes.
        self.bytes = self.info().bytes

    def __len__(self) -> int:
        return self.bytes

    def fileno(self) -> int:
        """The descriptor, for `mmap`, `os.pread` and the like."""
        return self._node.fileno()

    def map(
        self,
        offset: int = 0,
        length: int | None = None,
        *,
        writable: bool | None = None,
        private: bool = False,
    ) -> Mapping:
        """Maps the buffer, or `length` bytes from byte `offset` (a multiple of the page size)."""
        writable = self._node.writable if writable is None else writable
        return map_node(self._node, 0, self.bytes, offset, length, writable=writable, private=private)

    def read(self, offset: int, length: int) -> bytes:
        """Reads bytes by the kernel's own view."""
        return self._node.attempt(_abi.Operation.READ, lambda fd: os.pread(fd, length, offset))

    def write(self, offset: int, data: bytes) -> int:
        """Writes bytes by the kernel's own view. Returns how many."""
        return self._node.attempt(_abi.Operation.WRITE, lambda fd: os.pwrite(fd, data, offset))

    def info(self) -> Info:
        """What it is now."""
        return info_of(self._node, 0)

    def segments(self) -> list[Segment]:
        """Its physically contiguous runs."""
        return segments_of(self._node, 0)

    def close(self) -> None:
        """Closes the node. Mappings and the name stay."""
        self._node.close()

    def __enter__(self) -> Named:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_named(name: str, *, writable: bool = True) -> Named:
    """Opens `/dev/mapbuf/named/NAME`."""
    return Named(name, writable=writable)


def unname(name: str) -> None:
    """Takes a name away, and its node. Whoever has that open or mapped keeps the memory."""
    node = Node(_abi.SYSTEM_NODE, True)
    try:
        request = _abi.Unname()
        request.name = name_field(name)
        node.call(_abi.IOCTL_UNNAME, request)
    finally:
        node.close()
