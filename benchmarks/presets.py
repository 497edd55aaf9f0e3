"""How do the known methods rank, and how much of that is the seed? Mean ± sd over studies of several seeds.

    for seed in 0 1 2; do
        utuning-search run --space smoke --preset all --trials 27 --no-pruning --seed $seed --name presets-$seed
    done
    python benchmarks/presets.py studies/presets-0 studies/presets-1 studies/presets-2 --out table.csv

A preset that is the same design as another one has its values. Prints a Markdown table, the most accurate first.
"""

import argparse
from pathlib import Path

import pandas as pd

from utuning_search.designs.presets import parse_presets, preset
from utuning_search.results.tables import TRIALS_CSV, read_table


def table(folders: list[Path]) -> pd.DataFrame:
    """One row a preset: validation accuracy in percent over the studies, parameters, seconds a trial."""
    trials = pd.concat([read_table(folder / TRIALS_CSV).assign(study=folder.name) for folder in folders])
    trials = trials[(trials["preset"] != "") & (trials["state"] == "complete")]
    trained = trials[trials["epochs"] > 0].drop_duplicates(["study", "key"]).set_index(["study", "key"])["seconds"]
    trials["seconds"] = [trained[study, key] for study, key in zip(trials["study"], trials["key"], strict=True)]
    groups = trials.groupby("preset")
    found = pd.DataFrame(
        {
            "accuracy": 100 * groups["accuracy"].mean(),
            "sd": 100 * groups["accuracy"].std(),
            "seeds": groups["accuracy"].count(),
            "parameters": groups["parameters"].first(),
            "seconds": groups["seconds"].mean(),
        }
    )
    return found.sort_values(["accuracy", "parameters"], ascending=[False, True])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="+", type=Path, help="folders with trials.csv")
    parser.add_argument("--out", type=Path, help="write the table as CSV as well")
    arguments = parser.parse_args()
    found = table(arguments.studies)
    print("| method | preset | accuracy % | parameters | seconds |\n|---|---|---|---|---|")
    for name, row in found.iterrows():
        spread = "" if row["seeds"] < 2 else f" ± {row['sd']:.2f}"
        title = preset(next(iter(parse_presets(str(name)))).split(":")[0]).title
        accuracy = f"{row['accuracy']:.2f}{spread}"
        print(f"| {title} | `{name}` | {accuracy} | {int(row['parameters']):,} | {row['seconds']:.0f} |")
    if arguments.out:
        found.round(4).to_csv(arguments.out)


if __name__ == "__main__":
    main()
