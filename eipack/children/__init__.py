"""Processes that do one thing for this one: start one, ask it, and see to it that it ends.

What may crash, hang or leave something behind is done in a child: a package on one target is loaded
and timed there. `Child` is the parent's end, `serve` is all that the child's own module calls.
"""

from __future__ import annotations

from eipack.children.answering import serve
from eipack.children.parent import Child, Lost
from eipack.children.trusting import key_files

__all__ = ["Child", "Lost", "key_files", "serve"]
