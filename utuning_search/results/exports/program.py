"""A tuned model as a torch.export program, of which `torch.py` and `onnx.py` write a file each."""

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

BATCH, IMAGES, LOGITS = "batch", "images", "logits"
EXAMPLES = 2  # images to trace with: the size 1 would be taken for a constant


@torch.no_grad()
def traced(model: nn.Module, inputs: Tensor) -> ExportedProgram:
    """A program of a frozen model in evaluation mode, for batches of any size.

    Where the lines of the code are from goes: it would carry paths of this machine to wherever the file goes.

    Args:
        model: Images (batch, channels, size, size) to logits.
        inputs: Two images at least, float32.
    """
    dynamic = ({0: Dim(BATCH)},)
    program = torch.export.export(model, (inputs[:EXAMPLES],), dynamic_shapes=dynamic)
    for graph in (m for m in program.graph_module.modules() if isinstance(m, GraphModule)):
        for node in graph.graph.nodes:
            node.meta.pop("stack_trace", None)
    return program
