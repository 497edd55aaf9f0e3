"""Finals of a study that many machines share, spread over them: whoever is there claims the next training and keeps it.

What is claimed is a design and a seed. What it gives is a function of these and goes through the study's artifact
store, so it does not matter who trains it, nor if two do because one was taken for dead.
"""

import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from utuning_search.common.errors import StudyError
from utuning_search.common.files import make_folder
from utuning_search.data.decoded import Store
from utuning_search.designs.design import Design
from utuning_search.results import metrics
from utuning_search.results.final_training import Job, Trained
from utuning_search.results.outcomes import FINALS, outcome_file, read_outcome
from utuning_search.results.prepared import Prepared, keep, prepare, recipe_of
from utuning_search.results.shared_finals import fetch_finals
from utuning_search.search.layout import IMAGES, removed
from utuning_search.search.leases import Heart
from utuning_search.search.queue import Claim, Queue
from utuning_search.search.storage import is_shared, storage_errors
from utuning_search.search.study import Study
from utuning_search.training.run_each import LOSSES, run_each
from utuning_search.training.runtime import Runtime, default_workers, resolve_device
from utuning_search.training.workers import Lost

LOOK = 2.0  # seconds between looks at what others train
Trainings = Generator[tuple[Job, float, Trained | Lost], None, None]


@dataclass(frozen=True)
class Piece:
    """One training.

    Attributes:
        design: To train.
        seed: From 0.
        epochs: Of the schedule.
        augmented: Whether training images are changed at random.
        metric: What finals are judged by.
        data: Digest of training and test images.
    """

    design: Design
    seed: int
    epochs: int
    augmented: bool
    metric: str
    data: str

    @property
    def name(self) -> str:
        """Of the files that it leaves, without their ends."""
        return outcome_file_of(self).stem

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "design": self.design.to_dict()}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "Piece":
        names = ("seed", "epochs", "augmented", "metric", "data")
        return cls(Design.from_dict(table["design"], "a final"), *(table[n] for n in names))

    def job(self, study: Study, prepared: Prepared) -> Job:
        recipe = recipe_of(study.spec.task.recipe, self.epochs)
        return prepared.job(study, recipe, self.design, (self.seed,), self.augmented)


def outcome_file_of(piece: Piece, folder: Path = Path()) -> Path:
    """Where the outcome of a piece is kept in a study's folder."""
    return outcome_file(folder, piece.design.key, piece.epochs, piece.augmented, piece.seed)


def is_spread(study: Study) -> bool:
    """Whether finals of a study can be trained by many machines: they share its trials, and its files."""
    return study.artifacts is not None and is_shared(study.url)


def spread(study: Study, pieces: Sequence[Piece], prepared: Prepared) -> Trainings:
    """Have pieces trained by this machine and by all others that help; what was found, as it comes.

    Args:
        study: See `is_spread`.
        pieces: To be trained.
        prepared: Of this machine.

    Yields:
        The job of a piece, when it began, and what it gave, or that it was lost too often. What others found lies in
        the study's folder already; the rest is kept by the caller before the next one is asked for.
    """
    left = {piece.name: piece for piece in pieces}
    if not left:
        return
    queue, again = Queue(study.storage, study.name, uuid.uuid4().hex), True
    with storage_errors(study.url, study.folder), Heart(queue.leases.beat):
        while left:
            queue.put({name: piece.to_dict() for name, piece in left.items()}, again=again)
            again = False
            with closing(_own(study, queue, prepared, lambda piece: piece.name in left)) as own:
                for piece, since, found in own:
                    del left[piece.name]
                    yield piece.job(study, prepared), since, found
            fetch_finals(study)
            failed, now = queue.failed(), time.monotonic()
            for name, piece in list(left.items()):
                path = outcome_file_of(piece, study.folder)
                if path.exists():
                    yield left.pop(name).job(study, prepared), now, Trained(read_outcome(path))
                elif name in failed:
                    yield left.pop(name).job(study, prepared), now, Lost(failed[name])
            if left:
                queue.reap()
                time.sleep(LOOK)


def help_confirm(
    study: Study,
    *,
    workers: int | None = None,
    device: str | None = None,
    data_dir: str | None = None,
    on_final: Callable[[Trained], None] | None = None,
) -> int:
    """Train what a confirmation on another machine asks for, until nothing is left of it.

    Args:
        study: Whose; without an artifact store there is nothing to help with.
        workers, device, data_dir: As of `confirm`.
        on_final: Called after each training here.

    Returns:
        How many were trained here.

    Raises:
        StudyError: The images are others than those of the confirmation, or one training after the other is lost here:
            each was given back, and others may fare better.
        DataError: No test images, or unreadable ones.
    """
    if not is_spread(study) or not Queue.exists(study.storage, study.name):
        return 0
    queue, trained = Queue(study.storage, study.name, uuid.uuid4().hex), 0
    kind = resolve_device(device or study.local.get("device", "auto"))
    count = default_workers(kind) if workers is None else workers
    runtime = Runtime(kind, study.spec.precision, data_dir or study.local.get("data_dir"))
    with storage_errors(study.url, study.folder), Heart(queue.leases.beat):
        while asked := queue.unfinished():
            metric = asked[0]["metric"]
            store = Store.beside(study.folder / FINALS / IMAGES)
            with removed(store):
                prepared = prepare(study, runtime, count, store, metrics.measured(study.objectives, metric))
                make_folder(study.folder / FINALS)
                while asked := [a for a in queue.unfinished() if a["metric"] == metric]:
                    _check(study, prepared, asked)
                    with closing(_own(study, queue, prepared, partial(_is_of, metric), LOSSES)) as own:
                        for _, _, found in own:
                            keep(study, found)
                            trained += 1
                            if on_final is not None:
                                on_final(found)
                    if queue.unfinished():
                        queue.reap()
                        time.sleep(LOOK)
    return trained


def _is_of(metric: str, piece: Piece) -> bool:
    return piece.metric == metric


def _own(
    study: Study, queue: Queue, prepared: Prepared, wanted: Callable[[Piece], bool], most: int | None = None
) -> Generator[tuple[Piece, float, Trained], None, None]:
    """Claim pieces and train them here until none waits; the caller keeps each before it asks for the next.

    Raises:
        StudyError: So many in a row were lost, as told by `most`.
    """
    fetch_finals(study)
    claims: list[tuple[Claim, Piece, float]] = []
    held: set[int] = set()
    lost = 0  # since one was trained

    def jobs() -> Iterator[Job]:
        while (claim := queue.claim(lambda table: wanted(Piece.from_dict(table)))) is not None:
            piece = Piece.from_dict(claim.piece)
            if outcome_file_of(piece, study.folder).exists():  # kept by a process that was stopped before it said so
                queue.done(claim)
                continue
            held.add(len(claims))
            claims.append((claim, piece, time.monotonic()))
            yield piece.job(study, prepared)

    try:
        for index, found in run_each(prepared.work, jobs(), prepared.count):
            claim, piece, since = claims[index]
            if isinstance(found, Lost):
                queue.give_back(claim, found.reason)
                lost += 1
            else:
                yield piece, since, found
                queue.done(claim)
                lost = 0
            held.discard(index)
            if lost == most:
                todo = "Mend the cause, then join again; with fewer --workers if memory was short."
                got = f"{lost} lost in a row; the last: {found.reason if isinstance(found, Lost) else ''}"
                raise StudyError(f"study '{study.name}'", "finals are trained to their end", got, todo)
    finally:
        for claim, piece, _ in (claims[index] for index in sorted(held)):
            if outcome_file_of(piece, study.folder).exists():
                queue.done(claim)
            else:
                queue.give_back(claim)


def _check(study: Study, prepared: Prepared, asked: Sequence[Mapping[str, Any]]) -> None:
    """Refuse to help with images that are not those of the confirmation."""
    for one in asked:
        if one["data"] != prepared.digest:
            where, rule = f"study '{study.name}', data", f"the digest of training and test images is {one['data']}"
            todo = "Give the images that are confirmed on elsewhere."
            raise StudyError(where, rule, prepared.digest, todo)
