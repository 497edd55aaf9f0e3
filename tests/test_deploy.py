"""Three ways to start many workers say the same, in commands that parse, and in files that their programs read."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from utuning_search.cli.parser import make_parser

yaml = pytest.importorskip("yaml", reason="no PyYAML here; mkdocs brings it")
DEPLOY = Path(__file__).parents[1] / "deploy"
COMPOSE, KUBERNETES, SLURM = "compose.yaml", "kubernetes.yaml", "slurm.sh"
RUN = "run --space full --task digits --name big --trials 200 --workers 1 -q"
WORKER = "worker big --wait 10m --workers 1 -q"
LOOK = "front big"
WORKERS = 3  # beside the first one


def text(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text(COMPOSE))
    return found


def kubernetes() -> dict[str, Any]:
    found = {part["kind"]: part for part in yaml.safe_load_all(text(KUBERNETES))}
    assert set(found) == {"PersistentVolumeClaim", "Job"}
    return found


def scripts() -> dict[str, str]:
    """What a shell runs, by file."""
    services = compose()["services"]
    (script,) = services["first"]["command"]
    (container,) = kubernetes()["Job"]["spec"]["template"]["spec"]["containers"]
    return {
        COMPOSE: f"{script}\nutuning-search {shlex.join(services['worker']['command'])}\n",
        KUBERNETES: container["args"][0],
        SLURM: text(SLURM),
    }


@pytest.mark.parametrize("name", [COMPOSE, KUBERNETES, SLURM])
def test_each_says_the_same_in_commands_that_parse(name: str) -> None:
    lines = re.findall(r"utuning-search ((?:run|worker|front) [^>\n;]*)", scripts()[name])
    assert {line.strip() for line in lines} == {RUN, WORKER, LOOK}
    for line in lines:
        make_parser().parse_args(shlex.split(line))
    replaced = re.findall(r"(\S+ )?(\S+ )utuning-search (?:run|worker)", text(SLURM))
    assert all(words == ("exec ", "srun ") for words in replaced), "a shell keeps SIGTERM to itself"
    for script in (scripts()[COMPOSE].rpartition("utuning-search worker")[0], scripts()[KUBERNETES]):
        assert len(re.findall("exec utuning-search", script)) == 2, "likewise"


def test_each_starts_as_many_workers() -> None:
    job = kubernetes()["Job"]["spec"]
    assert compose()["services"]["worker"]["deploy"]["replicas"] == WORKERS
    assert (job["completionMode"], job["completions"], job["parallelism"]) == ("Indexed", WORKERS + 1, WORKERS + 1)
    assert f"#SBATCH --array=0-{WORKERS}\n" in text(SLURM)


def test_each_names_the_database_and_the_store() -> None:
    services = compose()["services"]
    (container,) = kubernetes()["Job"]["spec"]["template"]["spec"]["containers"]
    given = {variable["name"]: variable for variable in container["env"]}
    for environment in (services["first"]["environment"], services["worker"]["environment"], given):
        assert set(environment) == {"OPTUNA_STORAGE", "UTUNING_ARTIFACTS"}
    stores = {
        services["worker"]["environment"]["UTUNING_ARTIFACTS"],
        given["UTUNING_ARTIFACTS"]["value"],
        *re.findall(r"UTUNING_ARTIFACTS:-([^}]*)", text(SLURM)),
    }
    assert stores == {"/studies/artifacts"}
    assert "secretKeyRef" in given["OPTUNA_STORAGE"]["valueFrom"], "a password stands in a file"


def test_volumes_that_are_mounted_are_declared() -> None:
    found = compose()
    mounted = {v.partition(":")[0] for service in found["services"].values() for v in service["volumes"]}
    assert mounted == set(found["volumes"])
    pods = kubernetes()
    spec = pods["Job"]["spec"]["template"]["spec"]
    assert {m["name"] for m in spec["containers"][0]["volumeMounts"]} == {v["name"] for v in spec["volumes"]}
    assert {v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"]} == {
        pods["PersistentVolumeClaim"]["metadata"]["name"]
    }
    assert pods["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]


def test_the_scripts_are_shell_s(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    for name, script in scripts().items():
        path = tmp_path / f"{name}.sh"
        path.write_text(script)
        subprocess.run([bash, "-n", str(path)], check=True)
    shellcheck = shutil.which("shellcheck")
    if shellcheck is not None:
        subprocess.run([shellcheck, str(DEPLOY / SLURM)], check=True)


def test_docker_compose_reads_its_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("no Docker Compose here")
    environment = {"POSTGRES_PASSWORD": "x", "PATH": "/usr/bin:/usr/local/bin:/bin", "HOME": "/nonexistent"}
    command = [docker, "compose", "-f", str(DEPLOY / COMPOSE), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
