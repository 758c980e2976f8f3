"""Which number format the forward pass uses on which device."""

from __future__ import annotations

import torch

from quatrain.core.training.config import Precision

# The formats that need autocast.
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose(precision: Precision, device: torch.device) -> Precision:
    """Return the format to train in: "auto" is fp32 on a CPU, and bf16 or else fp16 on CUDA."""
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
