"""`repair`: cut a damaged journal back to its last sound line."""

import argparse
from pathlib import Path

from utuning_search.search.storage import JOURNAL, repair_journal


def run(arguments: argparse.Namespace) -> int:
    path = Path(arguments.studies_dir) / arguments.name / JOURNAL
    kept, cut = repair_journal(path)
    if cut:
        print(f"{path}: kept {kept} bytes, cut off {cut} into {path.with_suffix('.damaged').name}.")
        print(f"Go on with: utuning-search resume {arguments.name}")
    else:
        print(f"{path}: sound, nothing to repair.")
    return 0
