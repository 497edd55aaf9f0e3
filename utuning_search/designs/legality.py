"""What a backbone cannot carry: which tuners cannot stand at which operations of its blocks, and why."""

from utuning_search.common.errors import BackboneError
from utuning_search.designs.design import Design
from utuning_search.designs.placement import NORM_BEFORE, Placement
from utuning_search.tuners import BackboneShape, Form, Operation, TunerConfig


def obstacle(tuner: TunerConfig, operation: Operation, form: Form | None, shape: BackboneShape) -> str:
    """Why a tuner that is legal at an operation in a form cannot stand there in a backbone; empty where it can.

    It never depends on the tuner's size.

    Args:
        tuner: Of any size.
        operation: Of a block, or outside the blocks.
        form: None for any but a bypass.
        shape: Of the backbone.
    """
    if operation in shape.lacks:
        return f"its blocks have no operation '{operation}'"
    norm = NORM_BEFORE.get(operation)
    if tuner.changes_norm and norm in shape.lacks:
        return f"it changes the norm before '{operation}', and its blocks have no '{norm}'"
    return hindrance(tuner, form, shape)


def hindrance(tuner: TunerConfig, form: Form | None, shape: BackboneShape) -> str:
    """Why a tuner cannot stand in a backbone at any operation; empty where nothing is in the way."""
    if tuner.extra_tokens and not shape.joins:
        return "its tokens would join the sequence, and the blocks know those of a grid only"
    if tuner.extra_keys and not shape.joins:
        return "its keys would join the softmax of one sequence, and the blocks have none"
    if tuner.borrows_attention and not shape.attends:
        return "it attends with the block's queries and projections, and not every block has them"
    if tuner.changes_norm and not shape.plain_norms:
        return "it changes LayerNorms with weight and bias, and not all norms are"
    if form == "bypass" and len({(stage.dim, stage.grid) for stage in shape.stages}) > 1:
        return "its side stream has one width, and the stages have several"
    return ""


def misplaced(design: Design, shape: BackboneShape) -> tuple[Placement, str] | None:
    """The first placement that a backbone cannot carry, and why; None where it can carry all."""
    for placement in design.placements:
        why = obstacle(placement.tuner, placement.operation, placement.form, shape)
        if why:
            return placement, why
    return None


def check_carries(design: Design, shape: BackboneShape, where: str) -> None:
    """Raise BackboneError, from `where`, where a backbone cannot carry a design."""
    found = misplaced(design, shape)
    if found is not None:
        placement, why = found
        raise BackboneError(where, f"it can carry {placement.tuner.named} at {placement.operation}", why)
