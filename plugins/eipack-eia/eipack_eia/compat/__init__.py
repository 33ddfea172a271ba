"""Run scripts written for Amazon Elastic Inference with today's PyTorch, without an edit.

`python -m eipack_eia.compat script.py [args]` runs one, and so does the line
`import eipack_eia.compat` in it. Either gives PyTorch the two-argument
`torch.jit.optimized_execution(True, {"target_device": "eia:0"})` and a module `torcheia` with
`torcheia.jit.attach_eia(module, 0)`. Within the context, calls of traced, scripted and loaded
modules run on the accelerator; outside it they run on the client.
"""

from __future__ import annotations

from eipack_eia.compat.shim import install, uninstall

__all__ = ["install", "uninstall"]

install()
