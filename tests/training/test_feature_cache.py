"""The cache of tokens changes nothing: whatever was kept or had to go, tokens are what the backbone computes."""

from contextlib import nullcontext

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from utuning_search.backbones.registry import adapter_of
from utuning_search.training.feature_cache import BUDGET, FeatureCache, budget_on

from .helpers import DEPTH, SAID, Small, pixels

SOURCES = {"few": 40, "many": 300}  # more than one batch


def cache_of(glyph: VisionTransformer, **options: int) -> FeatureCache:
    return FeatureCache(glyph, {name: pixels(count) for name, count in SOURCES.items()}, nullcontext, **options)


@pytest.fixture(scope="module")
def fresh(glyph: VisionTransformer) -> dict[tuple[str, int], Tensor]:
    """Tokens before each block, each from an empty cache."""
    return {(s, b): cache_of(glyph).tokens(s, b) for s in SOURCES for b in range(DEPTH + 1)}


ONE = 300 * 17 * 64 * 4  # bytes of tokens before a block, of the larger source
ORDERS = {
    "ascending": (0, 1, 2, 3, 4, 5, 6),
    "descending": (6, 5, 4, 3, 2, 1, 0),
    "jumping": (3, 6, 0, 5, 1, 4, 2, 6, 3),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("budget", [0, ONE, 2 * ONE + 1, 100 * ONE])
def test_tokens_are_bit_equal_whatever_was_kept(
    glyph: VisionTransformer, fresh: dict[tuple[str, int], Tensor], order: str, budget: int
) -> None:
    cache = cache_of(glyph, budget=budget)
    for boundary in ORDERS[order]:
        for source in SOURCES:
            assert torch.equal(cache.tokens(source, boundary), fresh[source, boundary])
            assert cache.bytes <= max(budget, ONE), "more is kept than the budget and the tokens in use"


def test_tokens_are_what_the_backbone_computes(glyph: VisionTransformer) -> None:
    cache = cache_of(glyph)
    x = pixels(SOURCES["few"])
    with torch.no_grad():
        assert torch.equal(cache.tokens("few", 0), adapter_of(glyph).embed(x))
        assert torch.equal(adapter_of(glyph).pool(cache.tokens("few", DEPTH)), glyph(x))


def test_kept_tokens_are_not_computed_again(glyph: VisionTransformer) -> None:
    cache = cache_of(glyph)
    assert cache.tokens("few", 3) is cache.tokens("few", 3)
    calls = []
    handles = [block.register_forward_hook(lambda *_, i=i: calls.append(i)) for i, block in enumerate(glyph.blocks)]
    cache.tokens("few", 3)
    cache.tokens("few", 5)
    for handle in handles:
        handle.remove()
    assert calls == [3, 4], "blocks before a kept boundary were run"


def test_least_recently_used_tokens_are_dropped(glyph: VisionTransformer) -> None:
    cache = cache_of(glyph, budget=2 * ONE)
    first, second = cache.tokens("many", 1), cache.tokens("many", 2)
    assert cache.tokens("many", 1) is first
    cache.tokens("many", 3)
    assert cache.bytes == 2 * ONE
    assert cache.tokens("many", 1) is first
    assert cache.tokens("many", 2) is not second


# Where memory runs out


def test_tokens_are_computed_in_batches_that_fit(glyph: VisionTransformer) -> None:
    images = {"a": pixels(300), "b": pixels(40)}
    embed = Small(100, lambda x: x)
    cache = FeatureCache(glyph, images, nullcontext, prepare=lambda _, x: embed(x))
    plain = FeatureCache(glyph, images, nullcontext)
    assert torch.allclose(cache.tokens("a", 3), plain.tokens("a", 3), atol=1e-5)
    assert embed.seen == [256, 256, 128, 64, 64, 64, 64, 44]  # once more without what was kept, of which there was none
    assert torch.allclose(cache.tokens("b", 3), plain.tokens("b", 3), atol=1e-5)
    assert embed.seen[8:] == [40]


def test_kept_tokens_make_room(glyph: VisionTransformer) -> None:
    images = {"a": pixels(300)}
    cache, plain = (FeatureCache(glyph, images, nullcontext) for _ in range(2))
    cache.tokens("a", 1)
    full: list[int] = []

    def block(*_: object) -> None:
        if cache.bytes:
            full.append(cache.bytes)
            raise torch.OutOfMemoryError(SAID)

    handle = glyph.blocks[2].register_forward_hook(block)
    found = cache.tokens("a", 4)
    handle.remove()
    assert full == [300 * 17 * 64 * 4]
    assert torch.equal(found, plain.tokens("a", 4)), "the batches are smaller than they need to be"
    assert cache.bytes == full[0], "more than the new tokens is kept"


def test_tokens_that_do_not_fit_at_all_are_an_error(glyph: VisionTransformer) -> None:
    cache = FeatureCache(glyph, {"a": pixels(3)}, nullcontext, prepare=lambda _, x: Small(0, lambda x: x)(x))
    with pytest.raises(torch.OutOfMemoryError):
        cache.tokens("a", 1)


def test_a_gpu_keeps_tokens_in_a_quarter_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: asked.append(device) or (80_000, 96_000))
    assert budget_on("cpu") == budget_on("mps") == BUDGET
    assert (budget_on("cuda:1"), budget_on("cuda", sharers=2)) == (20_000, 10_000)
    assert asked == ["cuda:1", "cuda"]
