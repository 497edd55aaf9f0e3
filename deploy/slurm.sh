#!/usr/bin/env bash
# The study's first worker and three more, each a task of an array; the database is elsewhere.
#SBATCH --job-name=utuning-big
#SBATCH --array=0-3
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@60
set -euo pipefail

: "${OPTUNA_STORAGE:?give the URL of the database: postgresql+psycopg://me:secret@host/studies}"
export UTUNING_ARTIFACTS=${UTUNING_ARTIFACTS:-/studies/artifacts}
cd "${SLURM_SUBMIT_DIR:-.}"

# srun hands SIGTERM on to the worker; a shell would keep it to itself.
if [[ ${SLURM_ARRAY_TASK_ID:-0} != 0 ]] || utuning-search front big >/dev/null 2>&1; then
    exec srun utuning-search worker big --wait 10m --workers 1 -q
fi
exec srun utuning-search run --space full --task digits --name big --trials 200 --workers 1 -q
