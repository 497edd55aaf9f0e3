"""Tasks: a backbone, data, how the data are split, and the training recipe; written as TOML."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from utuning_search.backbones.spec import BackboneSpec
from utuning_search.common import bundled
from utuning_search.common.errors import InputError, refuse_unknown_keys
from utuning_search.common.toml import build, read_toml
from utuning_search.data.spec import STORED, DataSpec, data_table
from utuning_search.data.survey import Survey
from utuning_search.training.recipe import Recipe


@dataclass(frozen=True)
class Task:
    """What designs are trained on and how; `Task.load("digits")` is the embedded one."""

    name: str
    backbone: BackboneSpec
    data: DataSpec
    recipe: Recipe = field(default_factory=Recipe)
    description: str = ""

    @classmethod
    def load(cls, name: str) -> "Task":
        """A bundled task by name, or one's own from a path that ends in .toml."""
        path = bundled.find("task", name)
        return cls.from_dict(read_toml(path), str(path) if name.endswith(".toml") else f"task '{name}'")

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], where: str = "task") -> "Task":
        refuse_unknown_keys(table, ("name", "description", "backbone", "data", "training"), where)
        name = table.get("name")
        if not isinstance(name, str) or not name.replace("_", "").replace("-", "").isalnum():
            raise InputError(where, "name is a word of letters, digits, - and _", repr(name))
        return cls(
            name=name,
            backbone=build(BackboneSpec, table.get("backbone", {}), f"{where}, backbone"),
            data=build(DataSpec, table.get("data", {}), f"{where}, data"),
            recipe=build(Recipe, table.get("training", {}), f"{where}, training"),
            description=str(table.get("description", "")),
        )

    def with_backbone(
        self, name: str | None = None, checkpoint: str | None = None, image_size: int | None = None
    ) -> "Task":
        """This task on another backbone; what is None stays, but another model loses checkpoint and revision."""
        spec = self.backbone
        if name is not None and name != spec.name:
            spec = replace(spec, name=name, checkpoint="", revision="")
        if checkpoint is not None:
            spec = replace(spec, checkpoint=checkpoint)
        if image_size is not None:
            spec = replace(spec, image_size=image_size)
        return replace(self, backbone=spec)

    def with_shots(self, shots: int) -> "Task":
        """This task with so many training images a class, which stand in for its proxy split and its limit."""
        return replace(self, data=replace(self.data, proxy=DataSpec.proxy, limit=DataSpec.limit, shots=shots))

    def as_read(self, there: "Task") -> "Task":
        """This task with the commit that another one read, if both name one backbone and this one says no commit."""
        own, other = self.backbone, there.backbone
        if own.revision or own.name != other.name:
            return self
        return replace(self, backbone=replace(own, revision=other.revision))

    def with_ood(self, ood: str) -> "Task":
        """This task with unknown images, of a folder or "letters"; see `DataSpec.ood`."""
        return replace(self, data=replace(self.data, ood=ood))

    def on_data(self, found: Survey, data_dir: str | None = None) -> tuple["Task", str | None]:
        """This task on other images, as many for each split, and the data directory that it then wants.

        Args:
            found: The images.
            data_dir: Where the backbone's checkpoint is looked up, if the caller needs one; the images are then named
                by their place in it, or by their absolute path.
        """
        spec, own = found.spec(), self.data
        place: str | None = str(found.root.parent)
        if found.source == STORED:
            place = data_dir
        elif data_dir is not None:
            base, place = Path(data_dir).resolve(), data_dir
            root = found.root.relative_to(base) if found.root.is_relative_to(base) else found.root
            spec = replace(spec, root=str(root))
        spec = replace(spec, proxy=own.proxy, validation=own.validation, seed=own.seed)
        spec = replace(spec, views=own.views, shots=own.shots, ood=own.ood)
        return replace(self, name=found.name, data=spec, description=f"images of {found.root.name}"), place

    def to_dict(self) -> dict[str, Any]:
        tables = {"backbone": self.backbone.to_dict(), "data": data_table(self.data), "training": self.recipe.to_dict()}
        return {"name": self.name, "description": self.description, **tables}
