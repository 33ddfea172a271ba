"""Ask a Ray cluster where a pool's registry is: `python -m eipack_ray.finding POOL ADDRESS`.

A process of its own, since a driver of Ray is heavy and not to be had twice in one process.
"""

from __future__ import annotations

import json
import sys

from eipack.errors import EipackError
from eipack_ray import pools
from eipack_ray.cluster import connected


def main(pool: str, address: str) -> None:
    """Print `{"registry": ADDRESS}`, or `{"error": REASON}`."""
    try:
        with connected(address) as cluster:
            said = {"registry": pools.where(cluster, pool)}
    except EipackError as error:
        said = {"error": str(error)}
    sys.stdout.write(f"{json.dumps(said)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
