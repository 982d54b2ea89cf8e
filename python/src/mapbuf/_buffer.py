# SPDX-License-Identifier: MIT OR Apache-2.0
"""Buffers and their mappings."""

from __future__ import annotations

import contextlib
import ctypes
import enum
import mmap
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Iterator, NamedTuple, TypeVar

from . import _abi
from ._abi import Cache, Direction, Kind, Method
from ._node import Node

if TYPE_CHECKING:
    from ._session import Session

_E = TypeVar("_E", bound=enum.IntEnum)


def member(kinds: type[_E], value: _E | str) -> _E:
    """A member of an enumeration, which a caller may give by its name: `write-combined`."""
    if isinstance(value, str):
        try:
            return kinds[value.upper().replace("-", "_")]
        except KeyError:
            names = ", ".join(each.name.lower().replace("_", "-") for each in kinds)
            raise ValueError(f"there is no {kinds.__name__.lower()} {value!r}; it is one of {names}") from None
    return kinds(value)


class Segment(NamedTuple):
    """A physically contiguous run of a buffer. An address that the caller may not see is `None`."""

    offset: int
    length: int
    dma_address: int | None
    physical_address: int | None


@dataclass(frozen=True)
class Info:
    """What a buffer is now."""

    id: int
    kind: Kind
    cache: Cache
    bytes: int
    segments: int
    mappings: int
    name: str | None
    #: The address of its first byte for the device of the node; `None` if there is none, or the caller may not see it.
    dma_address: int | None
    #: `O_DIRECT`, io_uring and RDMA can pin its pages.
    pinnable: bool
    #: The device and the processor see the same bytes at all times.
    coherent: bool


class Mapping(mmap.mmap):
    """A mapping of a buffer, or of a part. It is an `mmap.mmap`, so it has the buffer protocol, and lives until it is
    closed or collected, whatever becomes of the buffer and the session."""

    def __enter__(self) -> Mapping:
        return self

    @property
    def nbytes(self) -> int:
        """Its length in bytes."""
        return len(self)


def map_node(
    node: Node, base: int, size: int, offset: int, length: int | None, *, writable: bool, private: bool
) -> Mapping:
    """Maps bytes `offset` to `offset + length` of what lies at `base` in the node's offsets."""
    if length is None:
        length = size - offset
    if offset < 0 or length < 1:
        raise ValueError(f"{length} bytes from byte {offset} of a buffer of {size} bytes cannot be mapped")
    if offset % mmap.PAGESIZE:
        raise ValueError(f"a mapping starts at a multiple of {mmap.PAGESIZE} bytes, and {offset} is none")
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    flags = mmap.MAP_PRIVATE if private else mmap.MAP_SHARED
    # The mapping needs no descriptor of its own, which would keep the session open.
    more = {"trackfd": False} if sys.version_info >= (3, 13) else {}
    return node.attempt(
        _abi.Operation.MMAP,
        lambda fd: Mapping(fd, length, flags=flags, prot=protection, offset=base + offset, **more),
    )


def info_of(node: Node, number: int) -> Info:
    """Asks what a buffer is."""
    answer = _abi.Info(id=number)
    node.call(_abi.IOCTL_INFO, answer)
    name = bytes(answer.name).rstrip(b"\0").decode()
    return Info(
        id=number,
        kind=Kind(answer.kind),
        cache=Cache(answer.cache),
        bytes=answer.bytes,
        segments=answer.segments,
        mappings=answer.mappings,
        name=name or None,
        dma_address=address(answer.dma_address),
        pinnable=bool(answer.traits & _abi.TRAITS_PINNABLE),
        coherent=bool(answer.traits & _abi.TRAITS_COHERENT),
    )


def address(value: int) -> int | None:
    """An address, or `None` for one that is hidden."""
    return None if value == _abi.ADDRESS_HIDDEN else value


def segments_of(node: Node, number: int, flags: int = 0) -> list[Segment]:
    """All runs of a buffer."""
    at_once = 512
    rows = (_abi.Segment * at_once)()
    found: list[Segment] = []
    while True:
        request = _abi.Segments(id=number, flags=flags, first=len(found), count=at_once)
        request.rows = ctypes.addressof(rows)
        node.call(_abi.IOCTL_SEGMENTS, request)
        for row in rows[: request.count]:
            found.append(
                Segment(row.offset, row.length, address(row.dma_address), address(row.physical_address))
            )
        if request.count == 0 or len(found) >= request.total:
            return found


def offset_of(node: Node, number: int, method: Method) -> int:
    """The `mmap` offset of a buffer for a method, in bytes."""
    request = _abi.Offset(id=number, method=method)
    node.call(_abi.IOCTL_OFFSET, request)
    return int(request.mmap_offset)


class Buffer:
    """A buffer, by its id in a session. Its id is given back by `free`, at the end of a `with`, or when it is
    collected; the memory goes with its last user: id, mapping, descriptor or name."""

    def __init__(self, session: Session, number: int, bytes: int, mmap_offset: int) -> None:
        self.session = session
        #: Its id in the session.
        self.id = number
        #: Its size: what was asked for, rounded up to whole pages.
        self.bytes = bytes
        #: Where `mmap` of the session's descriptor finds it.
        self.mmap_offset = mmap_offset
        self._owned = True

    def __len__(self) -> int:
        return self.bytes

    def __repr__(self) -> str:
        return f"<mapbuf.Buffer {self.id}, {self.bytes} bytes{'' if self._owned else ', freed'}>"

    def map(
        self,
        offset: int = 0,
        length: int | None = None,
        *,
        method: Method | str = Method.AUTO,
        writable: bool | None = None,
        private: bool = False,
    ) -> Mapping:
        """Maps the buffer, or `length` bytes from byte `offset` (a multiple of the page size).

        Shared, and for reading and writing where the session is, unless told otherwise. Raises `Refused`.
        """
        node = self.session._node
        method = member(Method, method)
        base = self.mmap_offset if method is Method.AUTO else offset_of(node, self.id, method)
        writable = node.writable if writable is None else writable
        return map_node(node, base, self.bytes, offset, length, writable=writable, private=private)

    def read(self, offset: int, length: int) -> bytes:
        """Reads bytes by the kernel's own view (`pread`); fewer at the end of the buffer."""
        length = max(0, min(length, self.bytes - offset))
        at = self.mmap_offset + offset
        return self.session._node.attempt(_abi.Operation.READ, lambda fd: os.pread(fd, length, at))

    def write(self, offset: int, data: bytes) -> int:
        """Writes bytes by the kernel's own view (`pwrite`). Returns how many."""
        at = self.mmap_offset + offset
        return self.session._node.attempt(_abi.Operation.WRITE, lambda fd: os.pwrite(fd, data, at))

    def info(self) -> Info:
        """What it is now."""
        return info_of(self.session._node, self.id)

    def segments(self, *, for_device: bool = False) -> list[Segment]:
        """Its runs: physical ones, or those of its addresses for the node's device."""
        flags = _abi.SEGMENTS_FOR_DEVICE if for_device else 0
        return segments_of(self.session._node, self.id, flags)

    def export(self) -> int:
        """A dma-buf descriptor of it, which is the caller's to close."""
        request = _abi.Export(id=self.id)
        self.session._node.call(_abi.IOCTL_EXPORT, request)
        return int(request.fd)

    def name(self, name: str, *, mode: int = 0o660, uid: int | None = None, gid: int | None = None) -> None:
        """Gives it a node of its own, `/dev/mapbuf/named/NAME`, which stays until `unname`."""
        request = _abi.Name(id=self.id, mode=mode)
        request.uid = _abi.CALLER if uid is None else uid
        request.gid = _abi.CALLER if gid is None else gid
        request.name = name_field(name)
        self.session._node.call(_abi.IOCTL_NAME, request)

    @contextlib.contextmanager
    def cpu_access(
        self, direction: Direction | str = Direction.BOTH, offset: int = 0, length: int | None = None
    ) -> Iterator[None]:
        """The processor uses the bytes within, and the device outside: what its caches need is done at both ends.

        On memory that is coherent, which is all that `system` gives, this does nothing.
        """
        direction = member(Direction, direction)
        length = self.bytes - offset if length is None else length
        needed = not self.info().coherent and self.session.is_device
        if needed:
            self._sync(_abi.SYNC_BEGIN, direction, offset, length)
        try:
            yield
        finally:
            if needed:
                self._sync(_abi.SYNC_END, direction, offset, length)

    def _sync(self, flags: int, direction: Direction, offset: int, length: int) -> None:
        request = _abi.Sync(flags=flags, id=self.id, direction=direction, offset=offset, length=length)
        self.session._node.call(_abi.IOCTL_SYNC, request)

    def free(self) -> None:
        """Gives the id back. Mappings, descriptors and names keep the memory."""
        if self._owned:
            self._owned = False
            self.session._node.call(_abi.IOCTL_FREE, _abi.Free(id=self.id))

    def __enter__(self) -> Buffer:
        return self

    def __exit__(self, *_: object) -> None:
        # Its session may have been closed within, and its id went with it.
        if not self.session.closed:
            self.free()

    def __del__(self) -> None:
        if getattr(self, "_owned", False) and not self.session.closed:
            with contextlib.suppress(OSError):
                self.free()


def name_field(name: str) -> ctypes.Array[ctypes.c_uint8]:
    """A name as it is in the interface, padded with zeros."""
    encoded = name.encode()
    if len(encoded) > _abi.NAME_LEN:
        raise ValueError(f"the name {name!r} has {len(encoded)} bytes; there may be {_abi.NAME_LEN}")
    return (ctypes.c_uint8 * _abi.NAME_LEN)(*encoded)
