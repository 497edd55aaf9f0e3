"""Finals of a study that many machines share: what one of them trained is there for all."""

from pathlib import Path

from utuning_search.common.files import make_folder
from utuning_search.results.outcomes import FINALS, WEIGHTS
from utuning_search.search.study import Study

OUTCOMES = ".json"
KINDS = (WEIGHTS, ".npy", OUTCOMES)  # the last ones last: who finds an outcome finds what belongs to it


def send_finals(study: Study) -> None:
    """Send what is in the study's folder and was not sent by anybody, if the study has an artifact store."""
    if study.artifacts is not None:
        known = study.artifacts.names()
        found = (p for p in (study.folder / FINALS).glob("*") if not p.name.startswith(".") and p.suffix in KINDS)
        for path in sorted(found, key=lambda p: (KINDS.index(p.suffix), p.name)):
            if path.name not in known:
                study.artifacts.send(path)


def fetch_finals(study: Study) -> None:
    """Fetch what others sent and is not in the study's folder, if the study has an artifact store."""
    if study.artifacts is not None:
        found = (Path(study.folder / FINALS / name) for name in study.artifacts.names())
        missing = [p for p in found if p.suffix in KINDS and not p.exists()]
        if missing:
            make_folder(study.folder / FINALS)
        for path in sorted(missing, key=lambda p: (KINDS.index(p.suffix), p.name)):
            study.artifacts.fetch(path)
