"""The JSON schema of a report, for who reads one without eipack.

`docs/reports/report.schema.json` is what `python -m eipack.measuring.schema` prints.
"""

from __future__ import annotations

import json
from typing import Any

from eipack.measuring.report import Report


def json_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of what `Report.to_json` writes."""
    import msgspec

    schema = msgspec.json.schema(Report)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    for definition in schema["$defs"].values():
        definition["description"] = " ".join(definition.get("description", "").split())
        definition["required"] = list(definition["properties"])
    return schema


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2))  # noqa: T201
