# SPDX-License-Identifier: MIT OR Apache-2.0
"""An open node of the driver: how it is asked, and how its refusals are told from those of the kernel's core."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
from typing import Callable, TypeVar

from . import _abi
from ._errors import Error, NotANode, Refused

_T = TypeVar("_T")


class Node:
    """An open file of a node."""

    def __init__(self, path: str, writable: bool) -> None:
        self.path = path
        self.writable = writable
        self._seen = 0
        flags = os.O_RDWR if writable else os.O_RDONLY
        try:
            self._fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError as error:
            advice = "is the driver loaded? mapbuf doctor looks at the machine"
            if isinstance(error, PermissionError):
                advice = "its group may open it; ls -l tells which that is"
            text = f"{path} cannot be opened: {error.strerror}; {advice}"
            raise Error(error.errno, text) from None
        if not _is_ours(self._fd):
            self.close()
            text = f"{path} is no node of the mapbuf driver; its nodes are in {_abi.DEV_DIR}"
            raise NotANode(errno.ENOTTY, text)

    def fileno(self) -> int:
        """The descriptor; a `ValueError` when the node was closed."""
        if self._fd < 0:
            raise ValueError(f"{self.path} was closed")
        return self._fd

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._fd < 0

    def close(self) -> None:
        """Closes the descriptor. Mappings stay."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()

    def call(self, number: int, request: ctypes.Structure) -> None:
        """Makes an ioctl. The struct says why it is refused."""
        request.size = ctypes.sizeof(request)
        try:
            fcntl.ioctl(self.fileno(), number, request, True)
        except OSError as error:
            refused = request.refused
            if refused.reason and refused.error_number == error.errno:
                raise Refused(number & 0xFF, refused.reason, error.errno, refused.operands) from None
            name = _abi.OPERATION_NAMES.get(number & 0xFF, hex(number))
            raise Error(error.errno, f"{name} failed: {error.strerror}") from None

    def attempt(self, operation: _abi.Operation, action: Callable[[int], _T]) -> _T:
        """Calls `action` with the descriptor, and asks the driver for the reason when that fails.

        The driver keeps one refusal for each thread and open file, and numbers them per open file: one that was seen
        before is not of this call, and the kernel's core has refused that.
        """
        before = self._seen
        try:
            return action(self.fileno())
        except OSError as error:
            name = _abi.OPERATION_NAMES[operation]
            unexplained = Error(error.errno, f"{name} failed: {error.strerror}")
            last = _abi.LastError()
            last.size = ctypes.sizeof(last)
            try:
                fcntl.ioctl(self.fileno(), _abi.IOCTL_LAST_ERROR, last, True)
            except OSError:
                raise unexplained from None
            self._seen = max(self._seen, last.sequence)
            ours = last.sequence > before and last.error_number == error.errno
            if ours and last.operation == operation:
                raise Refused(operation, last.reason, last.error_number, last.operands) from None
            raise unexplained from None


def _is_ours(fd: int) -> bool:
    """To another driver the same ioctl numbers might mean something else."""
    status = os.fstat(fd)
    if not stat.S_ISCHR(status.st_mode):
        return False
    device = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    try:
        return os.path.basename(os.readlink(f"/sys/dev/char/{device}/subsystem")) == "mapbuf"
    except OSError:
        return True
