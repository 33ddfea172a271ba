"""Bytes, whatever object holds them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer
elif sys.version_info >= (3, 12):
    from collections.abc import Buffer
else:
    # 3.11 has no class for it; annotations that are read at run time need some name.
    Buffer = object

__all__ = ["Buffer", "as_bytes"]


def as_bytes(buffer: Buffer) -> memoryview:
    """View a C-contiguous buffer of any type and shape as flat bytes.

    Raises:
        TypeError: the buffer is not C-contiguous.

    """
    view = memoryview(buffer)
    # A shape with a zero in it cannot be cast.
    return view.cast("B") if view.nbytes else memoryview(b"")
