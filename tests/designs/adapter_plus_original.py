"""Run the blocks of the `adapter-plus` package: forward, one SGD step, forward. A script, in a process of its own.

Importing that package patches timm, so no test may import it. Usage: adapter_plus_original.py FOLDER, where
cases.json names each case's package configuration, and <case>.safetensors holds its tensors:
backbone.* and trained.* (its parameters by the package's own names), images, labels. Written: <case>.out.safetensors
with `before`, `after` (logits) and trained.* after the step.

The package's VisionTransformerAdapter cannot be built on the timm of today (timm hands each block arguments that its
AdapterBlock does not know). Its AdapterBlock can, with its Adapter, LoRAAttention and prompts: it is put into a
timm VisionTransformer, and the package's own forward_features runs it.
"""

import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from adapter_plus.vit_adapter import AdapterBlock, VisionTransformerAdapter
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    cases = json.loads((folder / "cases.json").read_text())
    for name, case in cases.items():
        tensors = load_file(folder / f"{name}.safetensors")
        save_file(run(tensors, **case), folder / f"{name}.out.safetensors")


def run(
    tensors: dict[str, torch.Tensor], vit: dict, configs: dict[str, dict], relu: bool, lr: float
) -> dict[str, torch.Tensor]:
    """Logits before and after the step, and what it trained; see the module's docstring."""
    model = VisionTransformer(**vit, num_classes=0)
    block = partial(AdapterBlock, vit["embed_dim"], vit["num_heads"], qkv_bias=True, patch_size=vit["patch_size"])
    parts = {key: SimpleNamespace(**config) for key, config in configs.items()}
    norm = partial(nn.LayerNorm, eps=1e-6)
    scale = vit.get("init_values")
    model.blocks = nn.Sequential(*[block(**parts, norm_layer=norm, init_values=scale) for _ in range(vit["depth"])])
    if relu:  # the package gives its adapters the activation of the ViT's MLP
        for frozen in model.blocks:
            frozen.adapter.bottleneck[2] = nn.ReLU()
    model.prompt_config, model.num_cls_token = parts.get("prompt_config"), 1
    trained = {k.removeprefix("trained."): v for k, v in tensors.items() if k.startswith("trained.")}
    backbone = {k.removeprefix("backbone."): v for k, v in tensors.items() if k.startswith("backbone.")}
    head = {k: trained.pop(k).requires_grad_() for k in ("head.weight", "head.bias")}
    model.load_state_dict({**backbone, **trained})  # strict: every tensor of the package's model is given
    model.eval().requires_grad_(False)
    parameters = {**{k: model.get_parameter(k).requires_grad_() for k in trained}, **head}

    def logits() -> torch.Tensor:
        features = model.forward_head(VisionTransformerAdapter.forward_features(model, tensors["images"]))
        return F.linear(features, head["head.weight"], head["head.bias"])

    optimizer = torch.optim.SGD(parameters.values(), lr=lr)
    before = logits()
    F.cross_entropy(before, tensors["labels"]).backward()
    optimizer.step()
    after = {f"trained.{k}": p.detach().contiguous() for k, p in parameters.items()}
    return {"before": before.detach(), "after": logits().detach(), **after}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
