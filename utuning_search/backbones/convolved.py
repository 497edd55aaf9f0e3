"""What timm's models of images rather than tokens share: a stem, and a downsampling before each stage but the first."""

from collections.abc import Iterator
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from utuning_search.backbones.grids import flops_of_convs, image_of, tokens_of
from utuning_search.backbones.staged_model import StagedAdapter, Step, check_configured, configured_size
from utuning_search.common.errors import BackboneError


class ConvolvedAdapter(StagedAdapter):
    """A model of `stem` and `stages`, each with its `downsample` and `blocks`; it takes images of any size."""

    attends: ClassVar[bool] = False
    any_size: ClassVar[bool] = True

    @classmethod
    def check(cls, model: nn.Module, where: str) -> None:
        if not cast(Any, model).head.global_pool.pool_type:
            raise BackboneError(where, "the model pools its tokens", "no pooling", 'Create it with global_pool="avg".')
        check_configured(model, where)

    def _stages(self) -> Iterator[Step]:
        _, grid = flops_of_convs(self._timm.stem, (self.image_size, self.image_size))
        for stage in self._timm.stages:
            between, before = None if isinstance(stage.downsample, nn.Identity) else stage.downsample, grid
            if between is not None:
                _, grid = flops_of_convs(between, grid)
            yield Step(between, tuple(stage.blocks), grid, before)

    @property
    def image_size(self) -> int:
        return configured_size(self.model)[0]

    def _patches(self, images: Tensor) -> Tensor:
        return tokens_of(self._timm.stem(images))

    def _between(self, module: nn.Module, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        return tokens_of(module(image_of(tokens, grid)))

    def _flops_outside(self) -> int:
        flops, _ = flops_of_convs(self._timm.stem, (self.image_size, self.image_size))
        return flops + sum(flops_of_convs(s.module, s.before)[0] for s in self._steps if s.module is not None)
