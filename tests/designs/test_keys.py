"""Keys last: 58 of them as they were first given out, and what a tuner that gains an option does to them."""

import dataclasses
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from utuning_search.designs import keys
from utuning_search.designs.design import Design
from utuning_search.designs.placement import Placement
from utuning_search.designs.presets import preset
from utuning_search.tuners import AdapterConfig, LoraConfig

# Never edited: recorded studies, their finals and their training seeds hang on these. A new one may be added.
# Known methods on six blocks at a learning rate of 0.005. A method that is another design since has its old one, at its
# old key, in golden_keys.json.
PRESET_KEYS = {
    "linear-probe": "c7afbd9755ca",
    "bitfit": "7ba4b4d25c9e",
    "ln-tuning": "04d4fa20b805",
    "ssf": "295261a4d5e8",
    "houlsby": "7305f8685da9",
    "pfeiffer": "3bfb75bb217b",
    "adapter": "911774b2ec2f",
    "adaptformer": "979d42a86cc2",
    "adapter-plus": "b108fb7b8e61",
    "parallel-adapter": "273db07a2f33",
    "lora": "9632f8bbf279",
    "lora-all": "e5ce5779a1ff",
    "fact": "a9df96e1d69c",
    "prefix": "cddf5cb81455",
    "vpt-shallow": "f93b8a96b550",
    "vpt-deep": "08382a634f7e",
    "mam": "9fc4dcbabbb7",
    "unipelt": "8e27aeef1871",
    "convpass": "d66f0ecdb4d0",
    "u-tuning-single": "dea999701dfc",
    "u-tuning-dual": "a9c66a23580c",
    "u-tuning-tri": "3e34ab15870d",
    "u-tuning-1": "28a87478f96a",
    "res-tuning": "a9c66a23580c",
    "res-tuning-bypass": "119c4532a164",
    "scedit": "dea999701dfc",
    "mlae": "13566628e73d",
    "repadapter": "ff5794cea84b",
    "arc": "3e86015009f1",
    "sas": "d6b8b8bc0b89",
    "g-adapter": "4386cbb47e39",
    "dora": "104f5e587609",
    "rlrr": "716699e6c69b",
    "ia3": "048b3a5308db",
    "vera": "4bfa32437aa1",
    "oft": "d2f69a95c13b",
    "kadaptation": "ae8857c102bc",
    "compacter": "990bf289dfc3",
    "consolidator": "e2117985cba4",
    "hydra": "bf02d39d6876",
    "adapterbias": "e931350554e0",
    "aim": "bdc56a0ff7dd",
    "e2vpt": "0ce4ad5f093e",
}
DESIGN_KEYS: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("golden_keys.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", PRESET_KEYS)
def test_known_methods_keep_their_keys(name: str) -> None:
    assert Design(preset(name).placements(), 0.005).resolve(6).key == PRESET_KEYS[name]


@pytest.mark.parametrize("key", DESIGN_KEYS)
def test_designs_keep_their_keys(key: str) -> None:
    assert Design.from_dict(DESIGN_KEYS[key]).key == key


@dataclass(frozen=True)
class LaterAdapter(AdapterConfig):
    """The adapter of a later version, with an option more."""

    dropout: float = 0.0


@dataclass(frozen=True)
class LaterPlacement(Placement):
    """The placement of a later version, with a field more."""

    stochastic_depth: float = 0.0


@dataclass(frozen=True)
class LaterDesign(Design):
    """The design of a later version, with a field more."""

    proximal: float = 0.0


def test_placements_and_designs_that_gain_a_field_keep_their_keys() -> None:
    place = ("mlp", AdapterConfig(8), "parallel", "none", (1, 2))
    now = Design((Placement(*place),), 0.01)
    assert Design((LaterPlacement(*place),), 0.01).key == now.key
    assert Design((LaterPlacement(*place, stochastic_depth=0.1),), 0.01).key != now.key
    assert LaterDesign(now.placements, 0.01).key == now.key
    later = LaterDesign(now.placements, 0.01, proximal=0.5)
    assert later.key != now.key
    assert later.at_rate(0.02) == LaterDesign(now.placements, 0.02, proximal=0.5)


def test_a_tuner_that_gains_an_option_keeps_the_keys_of_its_designs() -> None:
    now = Design((Placement("mlp", AdapterConfig(8), "parallel", blocks=(1, 2)),))
    later = Design((Placement("mlp", LaterAdapter(8), "parallel", blocks=(1, 2)),))
    changed = Design((Placement("mlp", LaterAdapter(8, dropout=0.1), "parallel", blocks=(1, 2)),))
    assert later.to_dict() != now.to_dict()  # the option is in the table
    assert later.key == now.key
    assert changed.key != now.key


def test_a_key_does_not_hang_on_what_was_asked_for_before() -> None:
    """Equal numbers of two types are two texts, in whichever order they come."""
    whole, decimal = (Design((Placement("mlp", LaterAdapter(7, dropout=n), blocks=(1,)),)) for n in (1, 1.0))
    hashed = {"whole": whole.key, "decimal": decimal.key}
    keys._placement_text.cache_clear()
    again, first = (Design((Placement("mlp", LaterAdapter(7, dropout=n), blocks=(1,)),)) for n in (1, 1.0))
    assert first.key == hashed["decimal"]
    assert again.key == hashed["whole"]


def test_options_at_another_value_than_the_default_change_the_key() -> None:
    assert (
        Design((Placement("mlp", AdapterConfig(8, "relu")),)).key != Design((Placement("mlp", AdapterConfig(8)),)).key
    )


def test_what_was_written_out_is_still_there() -> None:
    """An option of scheme 1 that a tuner loses would change keys in silence."""
    kinds = {"adapter": AdapterConfig(1), "lora": LoraConfig(1)}
    for kind, tuner in kinds.items():
        assert keys.WRITTEN.get(kind, frozenset()) <= {f.name for f in dataclasses.fields(tuner)}


def test_recorded_keys_are_those_of_their_designs() -> None:
    """The first trial of each recorded study, whose table stands in its exported tuner."""
    checked = 0
    for path in sorted(Path(__file__).parents[2].glob("studies/20*/tuner.toml")):
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        assert Design.from_dict(table["design"]).key == table["provenance"]["key"], path
        checked += 1
    assert checked >= 8
