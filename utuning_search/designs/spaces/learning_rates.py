"""Learning rates of a space: which there are, and to how many digits they are told apart."""

from typing import cast

from utuning_search.common.errors import InputError
from utuning_search.designs.design import Design
from utuning_search.designs.spaces.domains import Choice, Domain, FloatRange, parse_domain


def parse_rates(raw: object, where: str) -> Domain:
    """Learning rates that a design can have, as floats."""
    domain = parse_domain(raw, where)
    ends = domain.values if isinstance(domain, Choice) else (domain.low, domain.high)
    for rate in ends:
        try:
            Design(learning_rate=cast(float, rate))
        except InputError:
            raise InputError(where, "learning rates are numbers above 0 and below 1000", repr(rate)) from None
    if isinstance(domain, Choice):
        return parse_domain([float(rate) for rate in ends], where)
    return FloatRange(float(domain.low), float(domain.high), domain.log)


def rounded(rate: float, domain: Domain) -> float:
    """A rate of a range with as few significant digits as keep it there; a listed rate as it is.

    More digits would only hide that two designs are the same.
    """
    while not isinstance(domain, Choice):
        fewer = (float(f"{rate:.{digits}g}") for digits in range(1, 18))
        shorter = next((r for r in fewer if domain.contains(r)), rate)
        if shorter == rate:
            break
        rate = shorter  # rounded once more, it may need fewer digits yet
    return rate
