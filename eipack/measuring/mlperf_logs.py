"""What LoadGen wrote about a run: one JSON a line in its detailed log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from eipack.errors import EipackError

_NAME: Final = "mlperf_log_detail.txt"
_MARK: Final = ":::MLLOG "
_UNMET: Final = {
    "result_perf_constraints_met": "too many latencies were above the limit",
    "result_min_duration_met": "the run was shorter than asked for",
    "result_min_queries_met": "there were too few queries",
    "early_stopping_met": "there were too few queries for the percentile, by early stopping",
}


class Log:
    """The last value of each key in a run's detailed log, and its errors."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._values: dict[str, Any] = {}
        self._errors: list[str] = []
        for entry in self._entries():
            self._values[entry["key"]] = entry["value"]
            if entry.get("metadata", {}).get("is_error"):
                self._errors.append(str(entry["value"]))

    def _entries(self) -> Iterator[dict[str, Any]]:
        for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
            mark, _, text = line.partition(_MARK)
            if mark:
                continue
            try:
                entry = msgspec.json.decode(text, type=dict[str, Any])
            except msgspec.MsgspecError:
                continue  # free text that LoadGen did not escape; no figure is in any
            if "key" in entry and "value" in entry:
                yield entry

    @property
    def valid(self) -> bool:
        """Whether LoadGen calls the run valid."""
        return bool(self.value("result_validity") == "VALID")

    @property
    def reasons(self) -> tuple[str, ...]:
        """Say what made the run invalid; nothing where it is valid."""
        unmet = (text for key, text in _UNMET.items() if self._values.get(key) is False)
        return (*unmet, *self._errors)

    def value(self, key: str) -> Any:
        """Return the value of a key.

        Raises:
            EipackError: The log has none.
        """
        if key not in self._values:
            raise EipackError(
                f"LoadGen's log {self._path} has no {key!r}, so the run did not end; run it again"
            )
        return self._values[key]

    def latency_ms(self, key: str) -> float:
        """Return a latency that LoadGen wrote in ns."""
        return float(self.value(f"{key}_ns")) / 1e6
