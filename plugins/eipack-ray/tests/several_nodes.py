"""Run a Ray cluster of several nodes on this host, and obey lines on stdin.

`several_nodes.py CPUS...` prints the cluster's address; `remove N` kills the Nth node but the
head, `add CPUS` adds one, each answered by a line; the end of stdin ends it all.
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

QUICK = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}
NODE = {"object_store_memory": 80_000_000, "include_dashboard": False}


def main(cpus: list[str]) -> None:
    head = NODE | {"num_cpus": float(cpus[0]), "_system_config": QUICK}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        nodes = [cluster.add_node(num_cpus=float(each), **NODE) for each in cpus[1:]]
        say(cluster.address)
        for line in sys.stdin:
            word, value = line.split()
            if word == "remove":
                cluster.remove_node(nodes.pop(int(value)), allow_graceful=False)
            else:
                nodes.append(cluster.add_node(num_cpus=float(value), **NODE))
            say(word)
    finally:
        cluster.shutdown()


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
