"""What `--data` is: a folder of images, a CSV, or Parquet files, told by what lies there; and what is in it."""

from collections import Counter
from pathlib import Path

from utuning_search.common.errors import DataError, InputError
from utuning_search.common.wording import listed
from utuning_search.data.csv_table import Csv
from utuning_search.data.given import IMAGES, OwnData
from utuning_search.data.layout import differing, refuse_splits
from utuning_search.data.listing import files_below, is_image, writable
from utuning_search.data.parquet import SUFFIX, Parquet
from utuning_search.data.places import fixed, is_there
from utuning_search.data.spec import STORED
from utuning_search.data.survey import Survey, checked, survey
from utuning_search.data.table import TRAIN, VALIDATION, Table

MAGIC = b"PAR1"  # what a Parquet file begins with
KINDS = "it is a folder of images, a .csv, or Parquet files: one, a folder of them or a pattern in quotes"


def look_at(data: Path | OwnData) -> Survey:
    """Look at images in a folder or a table, or at those that are given from Python.

    Raises:
        InputError: There is nothing, or it is something else.
        DataError: It cannot be used: see `survey`, `CsvTable` and `ParquetTable`.
    """
    if isinstance(data, OwnData):
        return survey_given(data)
    source = kind_of(data)
    if source == "imagefolder":
        return survey(data)
    place = data.resolve() if data.exists() else Path.cwd() / data  # of a pattern no link is followed
    if not writable(str(place)):
        raise InputError(f"--data {str(place)!a}", "its path is UTF-8", "other bytes", "Rename it.")
    return survey_table(place, source, (Csv if source == "csv" else Parquet).read(place))


def called(data: Path) -> str:
    """A name for what is made of images: their folder's, their file's, or that of the folder a pattern begins with."""
    place = fixed(data.resolve())
    return place.stem if place.is_file() else place.name


def kind_of(data: Path) -> str:
    """Which of the sources reads it: "imagefolder", "csv" or "parquet"."""
    where = f"--data {data}"
    if not is_there(data):
        raise InputError(
            where, KINDS, "no such folder or file" if fixed(data) == data else "a pattern that nothing fits"
        )
    if data.is_dir():
        files = files_below(data)
        parquet = [f for f in files if f.suffix.lower() == SUFFIX]
        images = [f for f in files if is_image(f.name)]
        if parquet and images:
            got = f"{len(parquet):,} Parquet files and {len(images):,} images, such as {images[0].relative_to(data)}"
            todo = f"Give --data '{data}/**/*{SUFFIX}', or the folder of the images."
            raise InputError(where, "a folder holds images or Parquet files", got, todo)
        return "parquet" if parquet else "imagefolder"
    if data.is_file():
        try:
            with data.open("rb") as file:
                head = file.read(len(MAGIC))
        except OSError as error:
            raise InputError(where, "it can be read", error.strerror or error) from None
        if head == MAGIC:
            return "parquet"
        if data.suffix.lower() == ".csv":
            return "csv"
        raise InputError(where, KINDS, "another file")
    return "parquet"


def survey_given(given: OwnData) -> Survey:
    """What is in images that are given from Python."""
    counts, tested = Counter(given.train.labels), Counter(given.test.labels if given.test else ())
    classes = [name for name in given.classes if counts[name]]
    odd = differing(classes, tested)
    if odd:
        raise DataError("test images", "their classes are among those of training", f"{listed(odd)} in the test only")
    refuse_splits("images", classes)
    test = None if given.test is None else {name: tested[name] for name in classes}
    return checked(Survey(IMAGES, {name: counts[name] for name in classes}, test=test, source=STORED))


def survey_table(place: Path, source: str, table: Table) -> Survey:
    """What is in a table.

    Raises:
        DataError: It has no rows to train on, one class, test rows of other classes, or too few images.
    """
    classes, split = table.classes(), table.tested_on
    if not classes:
        table.refuse("some rows are to train on", f"none with the split '{TRAIN}'")
    counts = Counter(zip(table.splits, table.labels, strict=True))
    test = None
    if split:
        tested = table.classes(split)
        odd = differing(classes, tested)
        if odd:
            rule = f"the classes of '{split}' are among those of '{TRAIN}'"
            raise DataError(table.where, rule, f"{listed(odd)} in '{split}' only", "Rename them, or remove the rows.")
        test = {name: counts[split, name] for name in tested}
    unused = (VALIDATION,) if split not in ("", VALIDATION) and (table.splits == VALIDATION).any() else ()
    found = Survey(
        place,
        {name: counts[TRAIN, name] for name in classes},
        test=test,
        train_folder=TRAIN,
        test_folder=split,
        unused=unused,
        unlabelled=table.unlabelled,
        source=source,
    )
    return checked(found, "Give images of another class.")
