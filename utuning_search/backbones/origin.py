"""Where a backbone's published weights come from, as timm knows it."""

from dataclasses import dataclass

import timm

from utuning_search.backbones.embedded.architecture import GLYPH_VIT
from utuning_search.backbones.names import HUB, parse_name

TIMM = "timm"  # the user of the hub whose repositories have the names of timm's models


@dataclass(frozen=True)
class Origin:
    """Of a backbone's weights.

    Attributes:
        licence: Their licence, as the Hugging Face hub abbreviates it; empty where it is unknown.
        repository: On the Hugging Face hub; empty where they are in none.
    """

    licence: str = ""
    repository: str = ""


def origin_of(name: str, checkpoint: str = "") -> Origin:
    """Where the weights of a backbone come from; of a local file nothing is known.

    Args:
        name: `glyph_vit`, a timm model, or a repository or folder; of a folder nothing is known.
        checkpoint: The local file, or empty.
    """
    if checkpoint:
        return Origin()
    if name == GLYPH_VIT:
        return Origin("apache-2.0")  # part of this package
    named = parse_name(name)
    if named.source == HUB:
        user, _, model = named.place.rpartition("/")
        return Origin(origin_of(model).licence if user == TIMM and timm.is_model(model) else "", named.place)
    if named.source:
        return Origin()
    known = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if known is None:
        return Origin()
    repository = known.hf_hub_id or ""
    return Origin((known.license or "").lower(), repository if "/" in repository.rstrip("/") else "")
