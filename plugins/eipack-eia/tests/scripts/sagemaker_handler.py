"""As the handlers of hosted endpoints were written, for both versions at once."""

from pathlib import Path

import torch

VERSIONS_WITH_ATTACH_EIA = ["1.5.1"]


def model_fn(model_dir):
    model = torch.jit.load(Path(model_dir) / "model.pth", map_location=torch.device("cpu"))
    model = model.eval()
    if torch.__version__ in VERSIONS_WITH_ATTACH_EIA:
        import torcheia

        model = torcheia.jit.attach_eia(model, 0)
    return model


def predict_fn(input_data, model):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    input_data = input_data.to(device)
    with torch.no_grad():
        if torch.__version__ in VERSIONS_WITH_ATTACH_EIA:
            with torch.jit.optimized_execution(True):
                return model.forward(input_data)
        else:
            with torch.jit.optimized_execution(True, {"target_device": "eia:0"}):
                return model(input_data)
