"""As scripts for PyTorch 1.5.1 with Elastic Inference were written."""

import torch
import torcheia

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten()).eval()
x = torch.randn(1, 3, 8, 8)
torch.jit.save(torch.jit.script(net), "scripted.pt")

model = torch.jit.load("scripted.pt", map_location=torch.device("cpu"))

# Disable profiling executor. This was required for Elastic Inference.
before = torch._C._jit_set_profiling_executor(False)

eia_model = torcheia.jit.attach_eia(model.eval(), 0)
with torch.no_grad():
    with torch.jit.optimized_execution(True):
        answer = eia_model.forward(x)

torch._C._jit_set_profiling_executor(before)
print("same answer:", torch.allclose(answer, net(x), atol=1e-5))  # noqa: T201
