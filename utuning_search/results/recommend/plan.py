"""How much to train within a given time: images and epochs, from what one image costs on this machine.

Pure arithmetic; what it decides goes into a study's task, and from there on no clock decides anything but when to stop.
"""

import math
from dataclasses import dataclass

from utuning_search.training.recipe import Recipe

DESIGNS = 24  # a search should have time for so many to the last epoch; fewer tell little
FEWEST_DESIGNS = 8
SEARCH_SHARE, FINALS_SHARE = 0.6, 0.3  # of the time; the rest is for reading images and starting
MOST_PROXY, MOST_VALIDATION = 2000, 1000
VALIDATION_SHARE = 0.3  # of the images that are not for the test
ENOUGH = 10_000  # images seen in a training, repeats included: more change accuracies little, and cost designs
FEWEST_EPOCHS, USUAL_EPOCHS, MOST_EPOCHS = 3, 5, 30
STEPS = 100  # a training has so many if a smaller batch gives them
BATCHES = (64, 32, 16)
FEWEST_PROXY = 64  # images to train on, where there are so many
OVERHEAD = 0.3  # seconds a trial besides its images


@dataclass(frozen=True)
class Cost:
    """Seconds an image takes on one worker: to train on with a usual tuner, and to predict."""

    training: float
    inference: float


@dataclass(frozen=True)
class Plan:
    """What fits into the time.

    Attributes:
        proxy: Images to train a trial on.
        validation: Images to compare it on.
        limit: Training images of finals; 0 takes everything.
        recipe: Of trials and finals.
        search_seconds: For the search; the rest is for finals.
        designs: Trainings to the last epoch that fit into them.
    """

    proxy: int
    validation: int
    limit: int
    recipe: Recipe
    search_seconds: float
    designs: int


def plan_search(
    images: int, classes: int, cost: Cost, seconds: float, workers: int, *, learning_rate: float = 0.005
) -> Plan:
    """Sizes of a search whose trials are as large as the time allows, and no larger than they need to be.

    Args:
        images: For training and validation together.
        classes: With at least one image.
        cost: Of an image.
        seconds: For everything.
        workers: Trials at once; at least 1.
        learning_rate: Of known methods.
    """
    worked = SEARCH_SHARE * seconds * workers
    seen = max(worked / DESIGNS - OVERHEAD, 0) / cost.training  # images that one trial may see
    room = int(seen / USUAL_EPOCHS)
    fewest = max(min(classes, images // 2), 1)
    validation = max(min(round(VALIDATION_SHARE * images), MOST_VALIDATION, room), fewest)
    proxy = min(images - validation, MOST_PROXY, max(room, FEWEST_PROXY, 2 * classes))
    wanted = min(max(math.ceil(ENOUGH / proxy), USUAL_EPOCHS), MOST_EPOCHS)
    epochs = min(max(int(seen / proxy), FEWEST_EPOCHS), wanted)
    recipe = _recipe(epochs, proxy, learning_rate)
    once = epochs * proxy * cost.training + (len(recipe.rungs) + 2) * validation * cost.inference + OVERHEAD
    # Of finals one training has to fit, on all images if that can be: it is what a user takes home.
    trained = FINALS_SHARE * seconds / (epochs * cost.training)
    limit = max(proxy + validation, int(trained))
    return Plan(
        proxy=proxy,
        validation=validation,
        limit=0 if limit >= images else limit,
        recipe=recipe,
        search_seconds=SEARCH_SHARE * seconds,
        designs=max(int(worked / once), 1),
    )


def _recipe(epochs: int, proxy: int, learning_rate: float) -> Recipe:
    batch = next((b for b in BATCHES if epochs * proxy / b >= STEPS), BATCHES[-1])
    rungs = tuple(sorted({max(epochs // 6, 1), epochs // 3, 2 * epochs // 3} - {0}))
    return Recipe(
        epochs=epochs,
        batch_size=batch,
        learning_rate=learning_rate,
        warmup_epochs=1.0,
        rungs=tuple(r for r in rungs if r < epochs),
    )
