"""The embedded backbone, and a trainer of the tiny task on it; tests leave both as they were."""

import pytest

from utuning_search.backbones import vit
from utuning_search.training.proxy import ProxyTrainer
from utuning_search.training.runtime import Runtime

from .helpers import TASK


@pytest.fixture(scope="module")
def glyph() -> vit.VisionTransformer:
    return vit.load_backbone(vit.GLYPH_VIT)


@pytest.fixture(scope="module")
def trainer() -> ProxyTrainer:
    return ProxyTrainer(TASK, Runtime())
