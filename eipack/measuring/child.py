"""The process of one target and program: `python -m eipack.measuring.child`.

Garbage is collected once before calls are timed, and never between them.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Mapping
from typing import Any

from eipack.children import serve
from eipack.measuring.subject import Subject


class Alone(Subject):
    """A subject that has the process, and its garbage collector, to itself."""

    def open(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Load and call, and tell where no tuning record says what `+auto` stands for."""
        from eipack.tuning.choosing import NotTuned

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", NotTuned)
            answer = super().open(asked)
        told = [str(one.message) for one in caught if issubclass(one.category, NotTuned)]
        return {**answer, "not_tuned": told}

    def settle(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Warm up, the garbage of loading collected and the collector off from then on."""
        gc.collect()
        gc.disable()
        return super().settle(asked)


if __name__ == "__main__":
    serve(Alone())
