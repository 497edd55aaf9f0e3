"""What a slot's tables say before anything is checked: sets of values with a name, and alternatives of a tuner."""

from dataclasses import dataclass
from functools import cached_property

from utuning_search.designs.spaces.domains import Domain, Value
from utuning_search.tuners import Form

NONE = "none"


@dataclass(frozen=True)
class Leaf:
    """A set of values, and the name of the search variable that chooses from it."""

    variable: str
    domain: Domain

    @property
    def searched(self) -> bool:
        """Whether it is a search variable: what has one value is not chosen."""
        return self.domain.size != 1


@dataclass(frozen=True)
class Variant:
    """One alternative of a slot's tuner; what is not fixed is chosen.

    Attributes:
        kind: Of the tuner; None places nothing.
        fixed: Options and their values.
        form: The only form it takes; None where the slot's set decides. A bypass is always fixed as such: it stands
            alone, so it is no form among others.
    """

    kind: str | None
    fixed: tuple[tuple[str, Value], ...] = ()
    form: Form | None = None

    @cached_property
    def label(self) -> str:
        """The value of the slot's `tuner` variable, such as "prefix-exact"."""
        if self.kind is None:
            return NONE
        return "-".join([self.kind, *(str(v) for _, v in self.fixed), *([] if self.form is None else [self.form])])

    @property
    def is_bypass(self) -> bool:
        """Whether it is a side network, beside which no other slot places anything."""
        return self.form == "bypass"
