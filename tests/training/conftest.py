"""The embedded backbone, and a trainer of the tiny task on it; tests leave both as they were."""

import pytest
from timm.models.vision_transformer import VisionTransformer

from utuning_search.backbones.loading import GLYPH_VIT, load_backbone
from utuning_search.training.proxy import ProxyTrainer
from utuning_search.training.runtime import Runtime

from .helpers import TASK


@pytest.fixture(scope="module")
def glyph() -> VisionTransformer:
    return load_backbone(GLYPH_VIT)


@pytest.fixture(scope="module")
def trainer() -> ProxyTrainer:
    return ProxyTrainer(TASK, Runtime())
