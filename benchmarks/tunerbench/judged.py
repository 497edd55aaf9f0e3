"""What cheap looks at a child design know of its whole training: rank correlations, regret, hypervolume per epoch.

Columns are one value a pair of parent and child, in points: accuracies of the parent (`known`, the table's; `parent`,
of another seed; `continued`, trained once more from its own weights) and of the child (`inherited`, short from its
parent's weights; `gentle`, the same at a lower rate; `short`, short from scratch; `rung`, early in the whole training;
`scratch`, at its end), and the child's `parameters`.
"""

import warnings
from collections.abc import Callable

import numpy as np
from scipy.stats import kendalltau, spearmanr

from tunerbench.play import Box, Point
from utuning_search.search.pareto import front

ACCURACIES = ("known", "parent", "continued", "inherited", "gentle", "short", "rung", "scratch")
SCORES = ("inherited", "gentle", "short", "rung", "parent")  # what may predict the child from scratch
RESAMPLED, HALVES = 1000, 200

Columns = dict[str, np.ndarray]
BASES = ("rung", "short", "parent")  # what searches do; the same without inheritance; what costs nothing
# By score: mean volume; by base, the gain over it and its standard error by half samples.
Volumes = dict[str, tuple[float, dict[str, tuple[float, float]]]]


def statistics(c: Columns) -> dict[str, float]:
    """Figures of some pairs; accuracies in points."""
    found = {f"mean {name}": float(c[name].mean()) for name in ACCURACIES}
    for name in SCORES:
        found[f"spearman {name}"] = float(spearmanr(c[name], c["scratch"]).statistic)
        found[f"kendall {name}"] = float(kendalltau(c[name], c["scratch"]).statistic)
        best = np.argsort(-c[name], kind="stable")[: max(len(c[name]) // 4, 1)]
        found[f"regret {name}"] = float(np.sort(c["scratch"])[-len(best) :].mean() - c["scratch"][best].mean())
    for name in ("inherited", "gentle", "short", "rung"):
        # What the edit did, by two trainings of the parent: one alone would be in both sides and agree with itself.
        effects = (c[name] - c["parent"], c["scratch"] - c["known"])
        found[f"effect {name}"] = float(spearmanr(*effects).statistic)
        # How much of the luck of the parent's training the child's accuracy has, half of what two trainings differ by
        # being luck of the one; 0 is expected where nothing is inherited.
        luck = np.cov(c[name] - c["scratch"], c["parent"] - c["known"])
        found[f"parent's luck in {name}"] = float(2 * luck[0, 1] / luck[1, 1])
    for one in ("inherited", "gentle"):
        for other in ("short", "rung", "parent"):
            found[f"spearman {one} - {other}"] = found[f"spearman {one}"] - found[f"spearman {other}"]
    gain = c["scratch"] - c["parent"]
    found["gain scratch over parent"] = float(gain.mean())
    for name, own in (("inherited", "parent"), ("inherited", "continued"), ("gentle", "parent"), ("gentle", "scratch")):
        risen = c[name] - c[own]
        found[f"gain {name} over {own}"] = float(risen.mean())
        if own != "scratch":
            found[f"agree {name} over {own}"] = float(((1 + np.sign(risen) * np.sign(gain)) / 2).mean())  # a tie: half
            found[f"if unrelated, {name} over {own}"] = float((1 + np.sign(risen).mean() * np.sign(gain).mean()) / 2)
    found["sd scratch"] = float(c["scratch"].std(ddof=1))
    found["noise"] = float((c["parent"] - c["known"]).std(ddof=1) / np.sqrt(2))
    return found


def with_errors(c: Columns, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """Figures and their standard errors; NaN where there are too few pairs."""
    count = len(c["scratch"])
    drawn = (rng.integers(count, size=count) for _ in range(RESAMPLED))
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of resamples in which a figure does not vary
        again = [statistics({n: v[rows] for n, v in c.items()}) for rows in drawn]
    return {n: (v, float(np.nanstd([a[n] for a in again]))) for n, v in statistics(c).items()}


class Replay:
    """What a number of epochs buys, replayed on half of the pairs at random: hypervolume of children from scratch.

    Scores are shifted to the mean of whole trainings, which a search would have to learn. Parents are free.

    Args:
        c: Columns.
        box: Of the volumes.
        short, epochs, rung: Epochs of short trainings, of whole ones, and after which these are looked at.
        rng: Draws the halves.
    """

    def __init__(self, c: Columns, box: Box, short: int, epochs: int, rung: int, rng: np.random.Generator) -> None:
        self._c, self._box, self._rng = c, box, rng
        self._costs = {"none": 0, "parent": 0, "inherited": short, "gentle": short, "short": short, "rung": rung}
        self._epochs, self._half = epochs, len(c["scratch"]) // 2
        self.screening = short * self._half + epochs * max(self._half // 3, 1)
        self.believing = short * self._half

    def screened(self) -> Volumes:
        """All are looked at by a score, and the most promising ones trained whole, for `screening` epochs."""
        return self._gains(lambda name, pool: self._best(name, pool, self.screening))

    def believed(self) -> Volumes:
        """Short trainings are taken at their word: the front of all is judged by children from scratch. The others have
        as many epochs (`believing`), and rungs are looked at of half as many children. What these believe is what
        judges them, which flatters them by their luck.
        """

        def chosen(name: str, pool: list[int]) -> list[int]:
            if name in ("inherited", "gentle", "short"):
                return [pool[i] for i in front(np.stack([self._c[name], -self._c["parameters"]], axis=1)[pool])]
            return self._best(name, pool[: self._half // 2] if name == "rung" else pool, self.believing)

        return self._gains(chosen)

    def _best(self, name: str, pool: list[int], budget: int) -> list[int]:
        """As many as can be trained whole once a pool was looked at; each adds most to the volume by the score."""
        cost = self._costs[name]
        # A rung is part of the training that it chooses.
        count = (budget - cost * len(pool)) // (self._epochs - cost if name == "rung" else self._epochs)
        if name == "none":
            return pool[:count]
        guess = self._c[name] + (self._c["scratch"] - self._c[name]).mean()
        found: list[int] = []
        while len(found) < min(count, len(pool)):
            rest = [i for i in pool if i not in found]
            found.append(max(rest, key=lambda i: (self._volume(guess, [*found, i]), guess[i])))
        return found

    def _gains(self, choose: Callable[[str, list[int]], list[int]]) -> Volumes:
        volumes: dict[str, list[float]] = {name: [] for name in self._costs}
        for _ in range(HALVES):
            pool = [int(i) for i in self._rng.permutation(len(self._c["scratch"]))[: self._half]]
            for name, found in volumes.items():
                found.append(self._volume(self._c["scratch"], choose(name, pool)))
        gains = {(n, b): np.array(v) - volumes[b] for n, v in volumes.items() for b in BASES}
        errors = {both: (float(g.mean()), float(g.std())) for both, g in gains.items()}
        return {n: (float(np.mean(v)), {b: errors[n, b] for b in BASES}) for n, v in volumes.items()}

    def _volume(self, accuracies: np.ndarray, rows: list[int]) -> float:
        return self._box.volume([Point(0, accuracies[i] / 100, int(self._c["parameters"][i])) for i in rows])
