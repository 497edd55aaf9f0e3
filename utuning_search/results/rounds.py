"""Finals within a time: in rounds, each design once a round, as long as the next training fits into what is left.

Each training is a function of (spec, design, seed), so the clock decides only how many there are. Stopped and run
again, the rounds go on behind what is kept.
"""

import time
from collections.abc import Callable, Iterator, Mapping

from utuning_search.results.outcomes import Outcome

AFTER = 2  # times what loading takes is left to what comes after finals


class Rounds:
    """Says which training comes next, and that there is no time for another.

    Args:
        expected: About how many seconds a training takes, by key; designs take turns in this order.
        seconds: For everything from now on. The first design is trained once in any case.
        clock: In seconds.
    """

    def __init__(
        self, expected: Mapping[str, float], seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._expected, self._clock = dict(expected), clock
        self._began = clock()
        self._seconds = seconds
        self._measured: dict[str, float] = {}

    @property
    def keys(self) -> tuple[str, ...]:
        """Of the designs, in their order."""
        return tuple(self._expected)

    def turns(self, kept: Mapping[tuple[str, int], Outcome], seeds: int) -> Iterator[tuple[str, int]]:
        """Key and seed of one training after the other, each decided when it is asked for.

        Args:
            kept: Outcomes by key and seed; it grows as trainings end. A design of which one failed has no further turn.
            seeds: Trainings a design at most.
        """
        # Backbone and images have been loaded by now. An export loads them again, and tables and pictures take time.
        end = self._began + self._seconds - AFTER * (self._clock() - self._began)
        first = (self.keys[0], 0)
        for seed in range(seeds):
            for key in self.keys:
                failed = any(kept[key, s].accuracy is None for s in range(seeds) if (key, s) in kept)
                if failed or (key, seed) in kept:
                    continue
                if (key, seed) != first and self._clock() + self.about(key) > end:
                    return
                yield key, seed

    def took(self, key: str, seconds: float) -> None:
        """A training of a design took so long, with everything that belongs to it."""
        self._measured[key] = max(seconds, self._measured.get(key, 0.0))

    def about(self, key: str) -> float:
        """Seconds of another training: as measured; else as expected, and off by as much as the worst of the others."""
        off = [seconds / max(self._expected[known], 1e-9) for known, seconds in self._measured.items()]
        return self._measured.get(key, self._expected[key] * max(off, default=1.0))
