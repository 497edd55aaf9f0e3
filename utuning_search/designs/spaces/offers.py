"""What is left to choose of one variant: where it is legal, in which forms and scales, and its options."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import cast

from utuning_search.designs.placement import Placement
from utuning_search.designs.spaces.domains import Choice, Value
from utuning_search.designs.spaces.variants import Leaf, Variant
from utuning_search.tuners import Form, Operation, Scale, TunerConfig, tuner_class, tuner_config

Group = tuple[Operation, ...]


@dataclass(frozen=True)
class Offer:
    """A variant that places something, as its slot offers it. What is not legal is no choice.

    Attributes:
        slot: The slot's name, prefix of its variables.
        variant: The alternative of its tuner.
        groups: Operations to choose from; each is one, or several that get equal tuners.
        leaves: The slot's sets for `form`, `scale` and the tuners' options.
    """

    slot: str
    variant: Variant
    groups: tuple[Group, ...]
    leaves: Mapping[str, Leaf]

    @cached_property
    def options(self) -> dict[str, Leaf]:
        """The tuner's options that are chosen rather than fixed or left at their default."""
        names = {f.name for f in fields(tuner_class(self.variant.kind, self.slot))} - {k for k, _ in self.variant.fixed}
        return {name: leaf for name, leaf in self.leaves.items() if name in names}

    @cached_property
    def config(self) -> TunerConfig:
        """The tuner at some legal size: legality never depends on the size."""
        options: dict[str, Value] = dict(self.variant.fixed)
        for name, leaf in self.options.items():
            domain = leaf.domain
            options[name] = domain.values[0] if isinstance(domain, Choice) else domain.low
        return tuner_config(self.variant.kind, options, f"slot '{self.slot}'")

    @cached_property
    def forms(self) -> dict[str, tuple[Form, ...]]:
        """The forms to choose from at each group of operations, such as "fc1+fc2", where there are any."""
        found = {}
        for group in self.groups:
            if set(group) <= set(self.config.operations):
                at = [self.config.forms_at(operation) for operation in group]
                forms = self._allowed(tuple(f for f in at[0] if all(f in others for others in at)))
                if forms:
                    found["+".join(group)] = forms
        return found

    @cached_property
    def forms_at(self) -> dict[Operation, set[Form]]:
        """The forms to choose from at each single operation, whatever others are tuned with it."""
        found: dict[Operation, set[Form]] = {}
        for label, forms in self.forms.items():
            for operation in self.group(label):
                found.setdefault(operation, set()).update(forms)
        return found

    @cached_property
    def scales(self) -> tuple[Scale, ...]:
        """The scales to choose from."""
        if not self.config.scalable or "scale" not in self.leaves:
            return ("none",)
        return cast(tuple[Scale, ...], cast(Choice, self.leaves["scale"].domain).values)

    @cached_property
    def operation(self) -> Leaf:
        """The choice of a group of operations."""
        name = f"{self.slot}.operation"
        if len(self.forms) < len(self.groups):
            name = f"{name}.{self.variant.label}"  # Optuna wants one set of choices a name
        return Leaf(name, Choice(tuple(self.forms)))

    def group(self, label: str) -> Group:
        """The operations of a group, by its label."""
        return cast(Group, tuple(label.split("+")))

    def choices(self, operation: str) -> dict[str, Leaf]:
        """What else is chosen at a group of operations, by key: the tuner's options, "form" and "scale"."""
        scale = self.leaves["scale"].variable if "scale" in self.leaves else f"{self.slot}.scale"
        scales = Choice(cast(tuple[Value, ...], self.scales))
        return {**self.options, "form": self._form(operation), "scale": Leaf(scale, scales)}

    def fits(self, placement: Placement) -> bool:
        """Whether it can place a tuner of its kind in this form and scale at this operation, in whatever blocks."""
        tuner = placement.tuner
        return (
            placement.form in self.forms_at.get(placement.operation, ())
            and placement.scale in self.scales
            and all(getattr(tuner, name) == value for name, value in self._fixed)
            and all(leaf.domain.contains(getattr(tuner, name)) for name, leaf in self.options.items())
        )

    @cached_property
    def _fixed(self) -> tuple[tuple[str, Value], ...]:
        """Options that are not chosen, those left at their default too."""
        return tuple((k, v) for k, v in self.config.options().items() if k not in self.options)

    def _form(self, operation: str) -> Leaf:
        forms, form = self.forms[operation], self.leaves.get("form")
        variable = form.variable if form is not None else f"{self.slot}.form"
        # Optuna wants one set of choices a name.
        if forms != self._allowed(self.config.forms):
            variable = f"{self.slot}.form.{self.variant.label}.{operation}"
        elif form is not None and form.domain.size != len(forms) > 1:
            variable = f"{variable}.{self.variant.label}"
        return Leaf(variable, Choice(forms))

    def _allowed(self, legal: tuple[Form, ...]) -> tuple[Form, ...]:
        """Those of the legal forms that the variant or else the slot allows; the customary one if neither says any."""
        if self.variant.form is not None:
            return tuple(f for f in legal if f == self.variant.form)
        if len(self.config.forms) == 1 or "form" not in self.leaves:
            return legal[:1]
        domain = cast(Choice, self.leaves["form"].domain)
        return tuple(f for f in legal if f in domain.values)
