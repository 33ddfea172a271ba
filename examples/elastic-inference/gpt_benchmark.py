"""Measure OpenAI GPT on an accelerator, as the published benchmark of Elastic Inference did.

The model is traced with seven tokens, saved, loaded, and called. Its weights are random, so that
nothing has to be downloaded: the latency does not depend on them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import OpenAIGPTConfig, OpenAIGPTModel

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--calls", type=int, default=1000)
parser.add_argument("--device", default="eia:0")
parser.add_argument("--layers", type=int, default=12)
parser.add_argument("--heads", type=int, default=12)
parser.add_argument("--width", type=int, default=768)
parser.add_argument("--vocabulary", type=int, default=40478)
args = parser.parse_args()

torch.manual_seed(0)
config = OpenAIGPTConfig(
    vocab_size=args.vocabulary, n_layer=args.layers, n_head=args.heads, n_embd=args.width
)
model = OpenAIGPTModel(config).eval()
tokens = torch.randint(0, args.vocabulary, (1, 7))

with tempfile.TemporaryDirectory() as folder:
    path = str(Path(folder) / "openai_gpt.pt")
    with torch.jit.optimized_execution(True, {"target_device": args.device}):
        traced = torch.jit.trace(model, (tokens,))
    torch.jit.save(traced, path)
    loaded = torch.jit.load(path, map_location=torch.device("cpu"))

latencies = []
for _ in range(args.calls):
    start = time.time()
    with torch.no_grad(), torch.jit.optimized_execution(True, {"target_device": args.device}):
        loaded(tokens)
    latencies.append((time.time() - start) * 1000)

# The first call sets things up and is left out.
measured = latencies[1:]
print(f"Mean: {np.mean(measured):.3f} ms")
for percentile in (50, 90, 95):
    print(f"P{percentile}: {np.percentile(measured, percentile):.3f} ms")
