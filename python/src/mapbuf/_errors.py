# SPDX-License-Identifier: MIT OR Apache-2.0
"""What can go wrong, said as "what happened; what to do next"."""

from __future__ import annotations

import errno as _errno
import re
from typing import Sequence

from . import _abi

_FIELD = re.compile(r"\{(\d)(?::(\w+))?\}")

_NAMES = {
    "kind": _abi.KIND_NAMES,
    "cache": _abi.CACHE_NAMES,
    "method": _abi.METHOD_NAMES,
    "operation": _abi.OPERATION_NAMES,
    "irq": _abi.IRQ_KIND_NAMES,
}


class Error(OSError):
    """A call of this package failed. It is shown as what happened; what to do next."""

    def __str__(self) -> str:
        return str(self.strerror)


class NotANode(Error):
    """What was opened is no node of the driver."""


class Refused(Error):
    """The driver refused a request, and said why."""

    #: The reason by number, also one that this package does not know.
    number: int
    #: The reason; `None` if the driver is newer than this package.
    reason: _abi.Reason | None
    #: The values that the reason speaks of, in its order.
    operands: tuple[int, ...]
    #: What was refused, as the driver names it: `ALLOC`, `mmap`.
    operation: str
    #: What happened, with the values in it.
    sentence: str
    #: What to do next.
    advice: str

    def __init__(self, operation: int, number: int, error: int, operands: Sequence[int]) -> None:
        self.number = number
        self.operands = tuple(operands)
        self.operation = _abi.OPERATION_NAMES.get(operation, "it")
        if number in _abi.REASONS:
            name, _, text, self.advice = _abi.REASONS[number]
            self.reason = _abi.Reason(number)
            self.sentence = _FIELD.sub(lambda field: _operand(self.operands, field), text)
            shown = f"{self.sentence}; {self.advice} ({_errno_name(error)}, {name})"
        else:
            self.reason = None
            self.sentence = f"reason {number} {list(self.operands)}, which this package does not know"
            self.advice = "use the package that came with the driver"
            shown = f"{self.sentence}; {self.advice} ({_errno_name(error)})"
        super().__init__(error, f"{self.operation} was refused: {shown}")

    def __reduce__(self) -> tuple[object, ...]:
        operation = {name: number for number, name in _abi.OPERATION_NAMES.items()}.get(self.operation, -1)
        return (Refused, (operation, self.number, self.errno, self.operands))


def _errno_name(error: int) -> str:
    return _errno.errorcode.get(error, f"errno {error}")


def _operand(operands: Sequence[int], field: re.Match[str]) -> str:
    value, form = operands[int(field[1])], field[2]
    if form in _NAMES:
        return _NAMES[form].get(value, str(value))
    if form == "bytes":
        for shift, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
            if value and value % (1 << shift) == 0:
                return f"{value >> shift} {unit}"
        return f"{value} bytes"
    if form == "hex":
        return f"{value:#x}"
    if form == "octal":
        return f"{value:#o}"
    if form == "signed":
        return str(value - (1 << 64) if value >> 63 else value)
    if form == "char":
        return f"'{chr(value)}'" if 0x20 <= value < 0x7F else f"{value:#x}"
    if form == "pci":
        return f"{value >> 16:04x}:{value >> 8 & 0xFF:02x}:{value >> 3 & 0x1F:02x}.{value & 7}"
    return str(value)
