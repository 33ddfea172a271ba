"""How much memory the GPUs of a cluster have: the smallest decides what a slice claims."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from eipack.errors import AcceleratorUnavailable, OptionRefused

if TYPE_CHECKING:
    from eipack_ray.cluster import Cluster

_ANSWER_S = 60.0


def smallest_bytes(cluster: Cluster) -> int:
    """Ask every node with GPUs; return the memory of the smallest.

    Raises:
        OptionRefused: The cluster has no GPU now, or its nodes cannot tell.
    """
    hint = "give --gpu-memory-gb"
    nodes = [node["NodeID"] for node in cluster.hosts if node["Resources"].get("GPU")]
    if not nodes:
        raise OptionRefused(f"the Ray cluster has no GPU now, so that its size is unknown; {hint}")
    scheduling: Any = import_module("ray.util.scheduling_strategies")
    remote = cluster.ray.remote(_on_this_node)
    asked = [
        remote.options(
            num_cpus=0,
            scheduling_strategy=scheduling.NodeAffinitySchedulingStrategy(node, soft=False),
        ).remote()
        for node in nodes
    ]
    try:
        return int(min(cluster.ask(asked, _ANSWER_S)))
    except AcceleratorUnavailable as error:
        raise OptionRefused(f"the nodes cannot tell how large their GPUs are; {hint}") from error


def _on_this_node() -> int:
    """Return the memory of this node's smallest GPU, through the driver's own library."""
    nvml: Any = import_module("pynvml")
    nvml.nvmlInit()
    try:
        handles = map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount()))
        return int(min(nvml.nvmlDeviceGetMemoryInfo(handle).total for handle in handles))
    finally:
        nvml.nvmlShutdown()
