"""`front`: what stands on a study's Pareto front."""

import argparse

from utuning_search.cli.console import console
from utuning_search.cli.display import front_lines
from utuning_search.cli.json_output import say_json
from utuning_search.cli.options import FORMATS, JSON, check_format
from utuning_search.cli.picture import wanted
from utuning_search.cli.streams import say
from utuning_search.cli.studies import load_study, title_of
from utuning_search.results.pictures.front import save_front
from utuning_search.results.sampling_error import validation_images
from utuning_search.results.tables import HIGH, LOW, NEAREST, front_table


def run(arguments: argparse.Namespace) -> int:
    check_format(arguments.format, FORMATS)
    wanted(arguments)  # before a study is opened
    study = load_study(arguments)
    picture = wanted(arguments, title_of(study))
    records, images = study.trials(), validation_images(study)
    if picture is not None:
        save_front(records, picture.path, picture.look, study.objectives, images, picture.kind)
    table = front_table(records, study.shape.depth, study.objectives, images)
    if arguments.format == "csv":
        say(table.to_csv(index=False).removesuffix("\n"))
    elif arguments.format == JSON:
        added = table[[NEAREST, LOW, HIGH]].to_dict("records")
        rows = [
            {**r.to_dict(), "design": r.design and r.design.to_dict(), **more}
            for r, more in zip(study.front(), added, strict=True)
        ]
        say_json(rows)
    else:
        for line in front_lines(study, records):
            console.print(line)
    return 0
