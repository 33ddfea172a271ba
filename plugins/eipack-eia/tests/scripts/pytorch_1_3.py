"""As scripts for PyTorch 1.3.1 with Elastic Inference were written."""

import argparse

import torch

parser = argparse.ArgumentParser()
parser.add_argument("--calls", type=int, default=10)
args = parser.parse_args()

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4)).eval()
x = torch.randn(1, 16)

with torch.jit.optimized_execution(True, {"target_device": "eia:0"}):
    traced = torch.jit.trace(model, x)
torch.jit.save(traced, "traced.pt")

loaded = torch.jit.load("traced.pt", map_location=torch.device("cpu"))
for _ in range(args.calls):
    with torch.no_grad():
        with torch.jit.optimized_execution(True, {"target_device": "eia:0"}):
            answer = loaded(x)

print("same answer:", torch.allclose(answer, model(x), atol=1e-5))  # noqa: T201
