"""Every parser that a user's files and words reach: how an odd input for it is made, and how it is given that."""

import argparse
import contextlib
import io
import json
import shutil
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import tomli_w
import torch

from utuning_search.backbones.checkpoint import load_checkpoint
from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.registry import adapter_of
from utuning_search.cli.commands import COMMANDS
from utuning_search.cli.running import budget_of
from utuning_search.data.decoding import Decoder
from utuning_search.data.pixels import UnreadableError, openers, read_file
from utuning_search.designs.design import Design
from utuning_search.designs.presets import parse_presets
from utuning_search.designs.spaces.space import Space
from utuning_search.results.classes import per_class
from utuning_search.results.finalists import select
from utuning_search.results.finals import judge
from utuning_search.results.kept import finals_of, kept_outcomes
from utuning_search.results.load import load_tuned
from utuning_search.results.outcomes import confirmed_metrics
from utuning_search.results.tables import COMPARISONS_CSV, FINALS_CSV
from utuning_search.results.verdicts import kept_advice
from utuning_search.search.budget import spent
from utuning_search.search.layout import LOCAL, SPEC, SPLITS
from utuning_search.search.storage import JOURNAL
from utuning_search.search.study import Study
from utuning_search.testing.models import tiny_vit
from utuning_search.training.runtime import resolve_device
from utuning_search.training.task import Task

from .mutations import (
    ODD_NUMBERS,
    ODD_TEXTS,
    Draw,
    mutated_bytes,
    mutated_json,
    mutated_lines,
    mutated_text,
    mutated_tree,
    mutated_words,
    writable,
)
from .own_images import own_images
from .parser import Parser, said
from .samples import NAME, Samples
from .words import COUNTS, PAIRS, PRESETS, words

SPACES = Path(__file__).resolve().parents[2] / "search_spaces"
HEAD = 512  # bytes of a file in which most of what a parser reads stands
DEPTH = 6


def parsers(samples: Samples, work: Path) -> dict[str, Parser]:
    """All of them by name; they work in copies below `work`."""
    named = {**_texts(samples, work), **_study(samples, work), **_tensors(samples, work), **_pictures(samples, work)}
    return {**named, **own_images(samples.root / "own", work), **words(samples)}


def _texts(samples: Samples, work: Path) -> dict[str, Parser]:
    task, space = work / "task.toml", work / "space.toml"
    tasks = [samples.root / "task.toml", samples.root / "folder.toml"]
    spaces = [samples.root / "space.toml", *sorted(SPACES.glob("*.toml"))]

    shape = adapter_of(tiny_vit()).shape

    def read_task(content: bytes) -> None:
        task.write_bytes(content)
        found = Task.load(str(task))
        found.to_dict()

    def read_space(content: bytes) -> None:
        space.write_bytes(content)
        found = Space.load(str(space))
        found.preset_designs(DEPTH, 0.01)
        str(found.size(DEPTH))

    def read_presets(text: str) -> None:
        for asked in parse_presets(text).values():
            design = Design(*asked).resolve(shape.depth)
            str(design), design.key, design.num_parameters(shape, 3)

    return {
        "task TOML": Parser(lambda draw: _toml(draw, draw.choice(tasks).read_bytes()), read_task),
        "space TOML": Parser(lambda draw: _toml(draw, draw.choice(spaces).read_bytes()), read_space),
        "preset texts": Parser(lambda draw: mutated_words(draw, draw.choice(PRESETS)), read_presets),
        "command line": Parser(lambda draw: _arguments(draw, samples), lambda words: void(said(*words))),
    }


def _study(samples: Samples, work: Path) -> dict[str, Parser]:
    folder = Path(shutil.copytree(samples.study, work / "studies" / NAME))
    place = ("--studies-dir", str(work / "studies"))

    def file(name: str, make: Callable[[Draw, bytes], bytes], look: Callable[[], None]) -> Parser:
        whole = (samples.study / name).read_bytes()

        def feed(content: bytes) -> None:
            for left in folder.glob("journal.damaged*"):
                left.unlink()
            (folder / name).write_bytes(content)
            try:
                look()
            finally:
                (folder / name).write_bytes(whole)
                (folder / JOURNAL).write_bytes((samples.study / JOURNAL).read_bytes())

        return Parser(lambda draw: make(draw, whole), feed)

    def front() -> None:
        said("front", NAME, *place)

    def open_study() -> None:
        study = Study.load(NAME, studies_dir=work / "studies")
        study.front(), study.hypervolume(), study.skipped(), study.notes()

    def resume() -> None:
        """As far as that goes before it trains."""
        study = Study.load(NAME, studies_dir=work / "studies")
        options = argparse.ArgumentParser()
        COMMANDS["resume"].add_options(options)
        budget = budget_of(options.parse_args([NAME]), study.local.get("budget", {}))
        spent(study.scheduler.history, budget, 0.0, 0, 1)
        resolve_device(study.local.get("device", "auto"))

    def repair() -> None:
        said("repair", NAME, *place)
        said("front", NAME, *place)

    def confirm() -> None:
        """As far as that goes where everything that is asked for was trained before, and an export's advice."""
        study = Study.load(NAME, studies_dir=work / "studies")
        count = len(study.classes)
        finalists = select(study.trials(), study.spec, study.shape, count, top=2, presets=())
        found, _ = judge(finals_of(study, finalists, kept_outcomes(study, finalists, 1, True, 2, digest)))
        for final in found:
            per_class(final, count), kept_advice(folder, final.key), confirmed_metrics(folder, final.key)

    outcome = min(samples.study.glob("finals/*_seed0.npy")).with_suffix(".json").relative_to(samples.study)
    digest = json.loads((samples.study / outcome).read_text())["data"]
    return {
        "spec.toml": file(SPEC, _toml, front),
        "run.toml": file(LOCAL, _toml, resume),
        "journal": file(JOURNAL, mutated_lines, open_study),
        "journal, shown": file(JOURNAL, mutated_lines, front),
        "journal, repaired": file(JOURNAL, mutated_lines, repair),
        "splits.json": file(SPLITS, mutated_json, front),
        "finals, outcomes": file(str(outcome), mutated_json, confirm),
        "finals, predictions": file(str(outcome.with_suffix(".npy")), _raw, confirm),
        "finals, comparisons": file(f"finals/{COMPARISONS_CSV}", _table, confirm),
        "finals, table": file(FINALS_CSV, _table, confirm),
        "finals, confidences": file(str(outcome.with_name(f"{outcome.stem}_confidence.npy")), _raw, confirm),
    }


def _tensors(samples: Samples, work: Path) -> dict[str, Parser]:
    export = Path(shutil.copytree(samples.export, work / "export"))
    table, weights = (samples.export / n for n in ("tuner.toml", "tuner.safetensors"))

    def read_export(files: tuple[bytes, bytes]) -> None:
        (export / table.name).write_bytes(files[0])
        (export / weights.name).write_bytes(files[1])
        said("cite", str(export))
        tuned = load_tuned(export)
        tuned(tuned.preprocess(samples.pictures[0]))

    def checkpoint(path: Path) -> Parser:
        where = work / path.name

        def read(content: bytes) -> None:
            where.write_bytes(content)
            load_checkpoint(adapter_of(tiny_vit()), where)

        return Parser(lambda draw: MAKERS[path.suffix](draw, path), read)

    read = {f"checkpoint {path.suffix}": checkpoint(path) for path in samples.checkpoints}
    return {
        "tuner.toml": Parser(lambda draw: (_toml(draw, table.read_bytes()), weights.read_bytes()), read_export),
        "tuner.safetensors": Parser(lambda draw: (table.read_bytes(), _safetensors(draw, weights)), read_export),
        **read,
    }


def _pictures(samples: Samples, work: Path) -> dict[str, Parser]:
    kinds = {
        suffix: [p for p in samples.pictures if p.suffix == suffix] for suffix in {p.suffix for p in samples.pictures}
    }
    colour = Preprocessing(8, 3, (0.5,) * 3, (0.5,) * 3, "bicubic")
    grey = Preprocessing(8, 1, (0.5,), (0.5,), "bilinear")

    def reader(suffix: str) -> Parser:
        path = work / f"picture{suffix}"

        def read(content: bytes) -> None:
            path.write_bytes(content)
            for preprocessing in (colour, grey):
                decoder = Decoder(examples=lambda: openers([path]))
                with contextlib.suppress(UnreadableError):  # which is counted, and named
                    read_file(path, preprocessing, decoder)
                list(decoder.notes())

        return Parser(lambda draw: mutated_bytes(draw, draw.choice(kinds[suffix]).read_bytes(), HEAD), read)

    return {f"picture {suffix}": reader(suffix) for suffix in sorted(kinds)}


def void(_: object) -> None:
    """What is said is not looked at."""


def _raw(draw: Draw, content: bytes) -> bytes:
    return mutated_bytes(draw, content, HEAD)


def _table(draw: Draw, content: bytes) -> bytes:
    return mutated_text(draw, content.decode()).encode("utf-8", "surrogatepass")


def _toml(draw: Draw, content: bytes) -> bytes:
    """TOML of another tree, another text or other bytes."""
    kind = draw.random()
    if kind < 0.1:
        return mutated_bytes(draw, content)
    if kind < 0.4:
        return mutated_text(draw, content.decode()).encode("utf-8", "surrogatepass")
    tree = mutated_tree(draw, tomllib.loads(content.decode()))
    return tomli_w.dumps(writable(tree) if isinstance(tree, dict) else {}).encode("utf-8", "surrogatepass")


def _arguments(draw: Draw, samples: Samples) -> list[str]:
    """A command with odd values for some of its options; it is one that only looks, or stops before it begins."""
    command = draw.choice(("run", "resume", "confirm", "recommend", *LOOKING))
    parser = argparse.ArgumentParser()
    COMMANDS[command].add_options(parser)
    options = [a for a in parser._actions if a.option_strings and a.dest != "help"]
    words = [command]
    for action in draw.sample(options, min(len(options), draw.randint(1, 4))):
        words += [action.option_strings[-1]] if action.nargs == 0 else [f"{action.option_strings[-1]}={_word(draw)}"]
    # Nothing is started: where there is a name, no study has it.
    named = {"front": NAME, "export": NAME, "repair": NAME}.get(command, _word(draw))
    if command in ("run", "recommend"):
        words += ["--data-dir=/nowhere", "--space=/nowhere.toml"] if command == "run" else ["--data=/nowhere"]
    elif draw.random() < 0.9:
        words += ["--", named]
    if command in ("front", "export", "repair"):
        words[1:1] = ["--studies-dir", str(samples.root / "studies")]
        words = [w for w in words if not w.startswith(("--out", "--png", "--storage", "--studies-dir="))]
    return [w for w in words if "\x00" not in w]


LOOKING = ("front", "spaces", "presets", "cite", "tasks", "repair")


def _word(draw: Draw) -> str:
    odd = (*ODD_TEXTS, *map(str, ODD_NUMBERS))
    if draw.random() < 0.5:
        return mutated_words(draw, draw.choice((*COUNTS, *PAIRS, "full", "digits", "adapter", "accuracy,flops")))
    return draw.choice(odd)


def _safetensors(draw: Draw, path: Path) -> bytes:
    """Other tensors in a sound file, or a damaged file."""
    if draw.random() < 0.4:
        return mutated_bytes(draw, path.read_bytes(), 4 * HEAD)
    changed = _changed(draw, safetensors.torch.load_file(path))
    return safetensors.torch.save({name: tensor.contiguous().clone() for name, tensor in changed.items()})


def _pth(draw: Draw, path: Path) -> bytes:
    if draw.random() < 0.4:
        return mutated_bytes(draw, path.read_bytes(), 4 * HEAD)
    stored = torch.load(path, weights_only=True)
    changed: Any = _changed(draw, stored["state_dict"])
    for _ in range(draw.randrange(3)):
        names = list(changed) if isinstance(changed, dict) and changed else [None]
        name = draw.choice(names)
        odd = draw.choice((None, 1, "text", [], {}, changed, {1: 2}, torch.nn.Linear(2, 2).state_dict()))
        if name is None or draw.random() < 0.2:
            changed = odd
        else:
            changed = {**changed, draw.choice((name, 5, ("a", 1), "")): odd}
    content = io.BytesIO()
    torch.save(changed if draw.random() < 0.5 else {draw.choice(("state_dict", "model", "ema", 0)): changed}, content)
    return content.getvalue()


def _npz(draw: Draw, path: Path) -> bytes:
    if draw.random() < 0.4:
        return mutated_bytes(draw, path.read_bytes(), 4 * HEAD)
    with np.load(path) as arrays:
        found: dict[str, Any] = {k: torch.from_numpy(arrays[k]) for k in arrays.files}
    changed = {k: v.float().numpy() for k, v in _changed(draw, found).items() if not v.is_complex()}
    if draw.random() < 0.2:
        changed[draw.choice(list(changed) or ["a"])] = draw.choice(
            (np.array("text"), np.array([object()]), np.array([("a", 1)], dtype="U1,i4"), np.array([], dtype="M8[s]"))
        )
    content = io.BytesIO()
    np.savez(content, **{k.replace("\x00", "") or "a": v for k, v in changed.items()})
    return content.getvalue()


def _changed(draw: Draw, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Named tensors of which some are gone, renamed, or of another type, shape or content."""
    found = dict(tensors)
    for _ in range(draw.randint(1, 4)):
        if not found:
            break
        name = draw.choice(list(found))
        tensor, kind = found.pop(name), draw.randrange(9)
        if kind == 1:
            name = draw.choice((f"module.{name}", name[:-1], "head.weight", "pos_embed", name.upper(), "猫"))
        elif kind == 2:
            tensor = tensor.to(draw.choice(TYPES))
        elif kind == 3:
            tensor = tensor.flatten()[: draw.randrange(tensor.numel() + 1)]
        elif kind == 4:
            tensor = tensor.reshape(-1, *draw.choice(((), (1,), (1, 1), (1, 1, 1, 1))))
        elif kind == 5 and tensor.is_floating_point():
            most = torch.finfo(tensor.dtype).max
            tensor = torch.full_like(tensor, draw.choice((float("nan"), float("inf"), min(1e38, most), 0.0)))
        elif kind == 6:
            tensor = torch.cat([tensor, tensor]) if tensor.ndim else tensor[None]
        elif kind == 7:
            tensor = torch.zeros(draw.choice(((), (0,), (1, 0), (2, 3, 0, 1))))
        if kind:
            found[name] = tensor
    return found


TYPES = (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int8, torch.bool, torch.complex64)
MAKERS: Mapping[str, Callable[[Draw, Path], bytes]] = {".safetensors": _safetensors, ".pth": _pth, ".npz": _npz}
