"""What the rungs of a task say of its last epoch: agreement, the best that are found, and what stopping loses."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from tunerbench.evidence import PROBE, Evidence
from tunerbench.ranks import Bools, Floats, best_kept, lost, noise_factor, places, redrawn, tau, weightings

SIZE, RATE = 2.0, 1.5  # factors within which sizes and rates are similar
LEAST = 15  # designs, or pairs of trainings, of which anything is said
BOOTSTRAPS, DRAWS = 200, 20
NOISE = 0.65  # see `noise_factor`, where a task has too few repeats
FEW = 100  # designs below which the best are a third
SHARES = {"third": 1 / 3, "half": 1 / 2}  # that are stopped at a rung
FAIR = ("", "fair to rates", "fair to rates and tuners")  # what a rung is corrected for
SAVED = (0.25, 1 / 3, 0.4)  # shares of epochs at which ways to stop are compared
Figure = list[float]  # estimate and standard error


def figure(values: Floats) -> Figure:
    """Of an estimate and those of bootstrap samples after it."""
    return [round(float(values[0]), 4), round(float(values[1:].std()), 4)]


class Rungs:
    """The whole trainings of a task, one a design.

    Args:
        known: At least `LEAST` designs.
    """

    def __init__(self, known: Evidence) -> None:
        self.known, first = known, known.first
        *self.rungs, self.last = known.epochs
        self._curves = {e: np.array([t.curve[e] for t in first]) for e in known.epochs}
        self.end = self._curves[self.last]
        rate, size = (np.log2([getattr(t, n) for t in first]) for n in ("rate", "parameters"))
        suits = [t.suits for t in first if t.suits is not None]
        handicaps = [rate] if len(suits) < len(first) else [rate, np.log2(suits)]
        self._handicaps = [np.stack([np.ones(len(first)), *handicaps[:n]], axis=1) for n in range(len(handicaps) + 1)]
        self._kinds = np.array([t.kind for t in first])
        self._often = np.array([len(t.curve) > len(known.epochs) for t in first])
        self._pairs = ~np.eye(len(first), dtype=bool)
        self._sized = self._pairs & (np.abs(size[:, None] - size) <= np.log2(SIZE))
        self._paced = self._pairs & (np.abs(rate[:, None] - rate) <= np.log2(RATE))
        self._weights = weightings(len(first), BOOTSTRAPS)
        index = {t.name: t for t in first}
        self.twice = [(index[t.name].curve, t.curve) for t in known.again]
        ends = np.array([[one[self.last], other[self.last]] for one, other in self.twice]).reshape(-1, 2)
        ends = ends[ends.min(axis=1) > 0.5]  # of those that learned anything
        self.noise = noise_factor(ends[:, 0], ends[:, 1], known.images) if len(ends) >= LEAST else NOISE
        self._redrawn = redrawn(self.end, known.images, self.noise, DRAWS)
        self.ahead = {e: [self._ahead(self._curves[e], h) for h in self._handicaps] for e in self.rungs}
        self._best = _best(len(first))
        self._top = places(self.end, self._sized, self._weights) >= 1 - self._best

    def _ahead(self, rung: Floats, handicaps: Floats) -> Floats:
        """Accuracy that twice each handicap is ahead by at a rung, of designs with the same end; 0 of the constant."""
        usual = self.end > np.quantile(self.end, 0.05)  # a few that failed would decide it all
        columns = np.concatenate([self.end[:, None], handicaps], axis=1)[usual]
        return np.array([0.0, *np.linalg.lstsq(columns, rung[usual])[0][2:]])

    def _score(self, epoch: int, fair: int) -> Floats:
        """A rung, less what handicaps explain."""
        return np.asarray(self._curves[epoch] - self._handicaps[fair] @ self.ahead[epoch][fair])

    def report(self) -> dict[str, Any]:
        """All there is to say, as JSON has it."""
        return {
            "designs": len(self.known.first),
            "short": self.known.short,
            "epochs": self.last,
            "rungs": self.rungs,
            "repeats": len(self.twice),
            "noise_factor": round(self.noise, 3),
            "ahead": {e: [a[1:].round(4).tolist() for a in fair] for e, fair in self.ahead.items()},
            "agreement": {name: self._agreement(*group) for name, group in self._groups().items()},
            "across_seeds": self._across_seeds(),
            "best": self._best,
            "stopping": {FAIR[n]: self._stopping(n) for n in range(len(self._handicaps))},
            "schedules": {FAIR[n]: self._schedules(n) for n in range(len(self._handicaps))},
        }

    def _groups(self) -> dict[str, tuple[Bools, int]]:
        """Which pairs are compared, and what rungs are corrected for."""
        levels = list(range(len(self._handicaps)))
        groups = {
            "all": (self._pairs, levels),
            "similar rate": (self._paced, [0]),
            "similar size": (self._sized, levels),
            "similar rate and size": (self._sized & self._paced, [0]),
        }
        if self._often.sum() >= LEAST:  # a pruned search measures at its rungs alone
            groups["surely of unpruned searches"] = self._pairs & self._often & self._often[:, None], [0]
        for kind in sorted(set(self._kinds) - {"", PROBE}, key=lambda k: -int((self._kinds == k).sum())):
            chosen = self._kinds == kind
            if chosen.sum() >= LEAST:
                groups[kind] = self._pairs & chosen & chosen[:, None], levels[:: len(levels) - 1]
        return {f"{name} {FAIR[n]}".strip(): (pairs, n) for name, (pairs, fair) in groups.items() for n in fair}

    def _agreement(self, pairs: Bools, fair: int) -> dict[str, Any]:
        """Tau and recall of the best, by rung and of another seed's end."""
        inside = pairs.any(axis=1)
        pairs, weights, end = pairs[np.ix_(inside, inside)], self._weights[:, inside], self.end[inside]
        best = _best(len(end))
        rungs = {e: self._score(e, fair)[inside] for e in self.rungs}
        ones, again = weights[:1], [(one[inside], other[inside]) for one, other in self._redrawn]
        return {
            "designs": len(end),
            "tau": {e: figure(tau(x, end, pairs, weights)) for e, x in rungs.items()},
            "tau_another_seed": round(float(np.mean([tau(x, y, pairs, ones) for x, y in again])), 4),
            "best": best,
            "recall": {e: figure(best_kept(x, end, best, pairs, weights)) for e, x in rungs.items()},
            "recall_another_seed": round(float(np.mean([best_kept(x, y, best, pairs, ones) for x, y in again])), 4),
        }

    def _across_seeds(self) -> dict[int, Figure]:
        """Tau between each epoch of one training and the end of another with its own seed, as measured."""
        count = len(self.twice)
        if count < LEAST:
            return {}
        weights, pairs = weightings(count, BOOTSTRAPS), ~np.eye(count, dtype=bool)
        found = {}
        for epoch in self.known.epochs:
            both = [[np.array([t[i][e] for t in self.twice]) for i in (0, 1)] for e in (epoch, self.last)]
            taus = [tau(both[0][i], both[1][1 - i], pairs, weights) for i in (0, 1)]
            found[epoch] = figure(np.mean(taus, axis=0))
        return found

    def _stopping(self, fair: int) -> dict[str, dict[str, Figure]]:
        """Share of the best that is lost where a share of designs of similar size is stopped at a rung."""
        found = {}
        for epoch in self.rungs:
            place = places(self._score(epoch, fair), self._sized, self._weights)
            found[str(epoch)] = {n: figure(lost(place >= s, self._top, self._weights)) for n, s in SHARES.items()}
        again, ones = {}, self._weights[:1]
        for name, share in SHARES.items():
            both = [[places(v, self._sized, ones) for v in drawn] for drawn in self._redrawn]
            again[name] = [round(float(np.mean([lost(x >= share, y >= 1 - self._best, ones) for x, y in both])), 4)]
        return {**found, "another seed": again}

    def _schedules(self, fair: int) -> dict[str, dict[str, Figure]]:
        """Share of the best that is lost by asking at some rungs, where a share of all epochs is saved by it."""
        every = [some for n in range(1, len(self.rungs) + 1) for some in combinations(self.rungs, n)]
        possible = [some for some in every if some[0] <= self.last * (1 - max(SAVED))]
        return {
            " ".join(map(str, some)): {f"{saved:.0%}": figure(self._lost(some, fair, saved)) for saved in SAVED}
            for some in possible
        }

    def _lost(self, rungs: Sequence[int], fair: int, saved: float) -> Floats:
        """At each rung an equal share of those still running is stopped, found by bisection for each weighting."""
        scores = [self._score(e, fair) for e in rungs]
        beaten = [(1 + np.sign(s[:, None] - s)) / 2 * self._sized for s in scores]
        sized, weights = self._sized.astype(float), self._weights
        low, high = np.zeros(len(weights)), np.ones(len(weights))
        for _ in range(9):
            share = (low + high) / 2
            going, spent = np.ones(self._top.shape, dtype=bool), np.zeros(len(weights))
            for against, epochs in zip(beaten, np.diff([0, *rungs]), strict=True):
                running = weights * going
                spent += epochs * running.sum(axis=1)
                peers = running @ sized
                going &= (running @ against.T >= share[:, None] * peers) | (peers == 0)
            spent += (self.last - rungs[-1]) * (weights * going).sum(axis=1)
            more = 1 - spent / self.last / weights.sum(axis=1) < saved
            low, high = np.where(more, share, low), np.where(more, high, share)
        return lost(going, self._top, weights)


def _best(designs: int) -> float:
    return 1 / 3 if designs < FEW else 0.1
