# SPDX-License-Identifier: MIT OR Apache-2.0
"""An allocator node: where buffers come from."""

from __future__ import annotations

import os
import string
from dataclasses import dataclass

from . import _abi
from ._abi import Cache, Kind, Method
from ._buffer import Buffer, member
from ._node import Node


@dataclass(frozen=True)
class Query:
    """What the driver is and may."""

    abi_version: int
    page_size: int
    kinds: frozenset[Kind]
    methods: frozenset[Method]
    max_buffer_bytes: int
    max_bytes: int
    max_bytes_per_user: int
    used_bytes: int
    used_bytes_by_user: int
    buffers: int


class Session:
    """An open allocator node. The ids of its buffers mean something in it alone."""

    def __init__(self, path: str | os.PathLike[str] = _abi.SYSTEM_NODE, *, writable: bool = True) -> None:
        self._node = Node(os.fspath(path), writable)
        self._features = self._query().features

    @property
    def path(self) -> str:
        """The node that was opened."""
        return self._node.path

    @property
    def is_device(self) -> bool:
        """Whether the node is one of a bound device."""
        return bool(self._features & _abi.FEATURE_DEVICE)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._node.closed

    def fileno(self) -> int:
        """The descriptor, for `mmap`, `os.pread` and the like."""
        return self._node.fileno()

    def alloc(
        self,
        kind: Kind | str,
        size: int,
        *,
        cache: Cache | str = Cache.CACHED,
        numa_node: int | None = None,
        id: int = 0,
    ) -> Buffer:
        """Allocates zeroed memory: `vmalloc`, `pages`, `contiguous` or `coherent`. Raises `Refused`."""
        if size < 0:
            raise ValueError(f"a buffer of {size} bytes was asked for")
        request = _abi.Alloc(bytes=size, kind=member(Kind, kind), cache=member(Cache, cache), id=id)
        request.numa_node = _abi.ANY_NODE if numa_node is None else numa_node
        self._node.call(_abi.IOCTL_ALLOC, request)
        return Buffer(self, request.id, request.bytes, request.mmap_offset)

    def import_fd(self, fd: int, *, id: int = 0, for_device: bool = False) -> Buffer:
        """Takes a dma-buf descriptor, of this driver or another, as a buffer of this session. The descriptor stays the
        caller's. With `for_device`, the node's device has addresses for it from the first."""
        request = _abi.Import(fd=fd, id=id, flags=int(for_device))
        self._node.call(_abi.IOCTL_IMPORT, request)
        return Buffer(self, request.id, request.bytes, request.mmap_offset)

    def query(self) -> Query:
        """What the driver is and may."""
        answer = self._query()
        return Query(
            abi_version=answer.abi_version,
            page_size=answer.page_size,
            kinds=frozenset(kind for kind in Kind if answer.kinds >> kind & 1),
            methods=frozenset(method for method in Method if answer.methods >> method & 1),
            max_buffer_bytes=answer.max_buffer_bytes,
            max_bytes=answer.max_bytes,
            max_bytes_per_user=answer.max_bytes_per_user,
            used_bytes=answer.used_bytes,
            used_bytes_by_user=answer.used_bytes_by_user,
            buffers=answer.buffers,
        )

    def _query(self) -> _abi.Query:
        answer = _abi.Query()
        self._node.call(_abi.IOCTL_QUERY, answer)
        return answer

    def close(self) -> None:
        """Ends the session: its ids are gone. Mappings and names keep their memory."""
        self._node.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<mapbuf.Session {self.path}{', closed' if self.closed else ''}>"


def open(device: str | os.PathLike[str] | None = None, *, writable: bool = True) -> Session:
    """Opens `/dev/mapbuf/system`, another node by its path, or that of a bound device: of a PCI device by its address
    (`0000:00:04.0`), of a platform device by its name (`40000000.buffer`)."""
    path = _abi.SYSTEM_NODE if device is None else os.fspath(device)
    if "/" not in path:
        # As the command does: what has another character than an address has is a name.
        pci = all(character in string.hexdigits + ":." for character in path)
        path = (_abi.PCI_NODE_PREFIX if pci else _abi.PLATFORM_NODE_PREFIX) + path
    return Session(path, writable=writable)
