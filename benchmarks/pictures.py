"""The pictures that the documentation shows: `python -m benchmarks.pictures [REPORT.json]`.

The costs are those of the published comparison, from its table in `docs/measured`. The latencies
are drawn where a report of `eipack bench` is named.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from eipack.advisor import advise
from eipack.measuring import Report
from eipack.pictures import cost, latency

_DOCS = Path(__file__).parent.parent / "docs"
_TABLE = _DOCS / "measured" / "elastic-inference-2020.csv"
_ASSETS = _DOCS / "assets"


def main() -> None:
    """Draw `docs/assets/cost.svg`, and `docs/assets/latency.svg` from a report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=main.__doc__)
    parser.add_argument("report", nargs="?", type=Path, help="what `eipack bench --json` wrote")
    named = parser.parse_args().report
    print(cost.draw(advise(_TABLE, prices="ei-2020", p90_ms=15), _ASSETS / "cost.svg"))
    if named is not None:
        report = Report.from_json(named.read_bytes())
        print(latency.draw(report, _ASSETS / "latency.svg"))


if __name__ == "__main__":
    main()
