"""Words of the command line that mean something: counts, durations, picks, trials, limits, storage URLs."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote_plus

from utuning_search.cli.confirm_options import trials_of
from utuning_search.cli.options import seconds
from utuning_search.cli.run import _limits
from utuning_search.common.counts import parse_count
from utuning_search.results.pick import pick_trial
from utuning_search.search.callbacks.registry import logger
from utuning_search.search.masking import mask, masked
from utuning_search.search.objectives.registry import Objectives
from utuning_search.search.storage import open_storage
from utuning_search.search.study import Study

from .mutations import ODD_NUMBERS, ODD_TEXTS, Draw, mutated_words
from .parser import Parser
from .samples import NAME, Samples

PRESETS = ("adapter-plus:rank=4,ssf:learning_rate=0.01", "lora:rank=2", "vpt-deep:length=5", "adapter", "all")
COUNTS = ("50000", "50k", "1.2M", "0.3G", "10m", "90s", "2h", "0.9", "3", "auto", "cpu", "best", "knee", "trial=1")
PAIRS = ("flops=3G", "parameters=50k", "max-params=50k", "min-accuracy=0.9", "max-flops=1M", "max-parameters=1")
OTHERS = ("0,1,2", "accuracy,flops,parameters", "tensorboard=runs", "full", "digits")  # importing mlflow takes seconds
URLS = (
    *("sqlite:///studies.db", "sqlite:///?timeout=5", "postgresql://me:{}@127.0.0.1:1/studies"),
    *("mysql+pymysql://me:{}@127.0.0.1:1/s?charset=utf8", "postgresql+psycopg://127.0.0.1:1/s?user=me&password={}"),
    *("mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3D{}", "me:{}@127.0.0.1", "redis://:{}@127.0.0.1:1/0"),
)
SECRET = "s3cr3t"


def words(samples: Samples) -> dict[str, Parser]:
    """Parsers of one word or URL; none of them trains or reaches a network."""
    records = Study.load(NAME, studies_dir=samples.root / "studies").trials()
    readers: tuple[Callable[[str], object], ...] = (
        lambda text: parse_count(text, "--max-params"),
        seconds,
        lambda text: pick_trial(records, text),
        lambda text: trials_of(text),
        lambda text: _limits([text]),
        lambda text: Objectives(tuple(text.split(","))),
        logger,
    )

    def read(given: tuple[int, str]) -> None:
        readers[given[0]](given[1])

    def make(draw: Draw) -> tuple[int, str]:
        known = draw.choice((*COUNTS, *PAIRS, *OTHERS))
        text = mutated_words(draw, known) if draw.random() < 0.8 else draw.choice((*ODD_TEXTS, *map(str, ODD_NUMBERS)))
        return draw.randrange(len(readers)), text

    return {
        "option values": Parser(make, read),
        "storage URLs": Parser(_url, _open),
        "secrets in URLs": Parser(_with_secret, _hide),
    }


def _url(draw: Draw) -> str:
    """A mutated URL; of a file below the working directory."""
    url = mutated_words(draw, draw.choice(URLS).replace("{}", SECRET))
    return url.replace("..", "").replace("sqlite:////", "sqlite:///").replace("///dev", "///d")


def _open(url: str) -> None:
    mask(url), masked(f"cannot open {url}", url)
    if url:
        open_storage(url, Path.cwd())


def _with_secret(draw: Draw) -> tuple[str, str, str]:
    """URL, password, and what a driver says of it."""
    odd = draw.choice(ODD_TEXTS)[:300]
    password = draw.choice((SECRET + odd, odd + SECRET, f"{SECRET}{odd}{SECRET}", f"a{odd}{SECRET}"))
    password = password.replace("/dev/null", "x").replace("\ud800", "")
    form = draw.choice((str, quote_plus))
    url = draw.choice([u for u in URLS if "{}" in u]).replace("{}", form(password))
    part = draw.choice((password, form(password), repr(password), password.split("@")[-1], url))
    return url, password, f"FATAL: cannot log in with {part}: no such user"


def _hide(given: tuple[str, str, str]) -> None:
    url, password, message = given
    for shown in (mask(url), masked(message, url)):
        if SECRET in shown:
            raise AssertionError(f"{password!r} of {url!r} is shown: {shown!r}")
