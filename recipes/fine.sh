#!/usr/bin/env bash
# How the packaged models of 16 kHz got the network dcunet10_ctstm_fine, by noisy recordings and no clean speech:
#   recipes/fine.sh NOISY START RUN STEPS SEED NOISE...
# START: a model that refine.sh made; the others as for round.sh. RUN/full is what the round leaves, RUN/half half way back to
# where it began, both with a gentler mask. The packaged `default` is RUN/half of 7000 steps and seed 71; `research` is
# RUN/full of 6500 steps and seed 72, with the START of `default` as TEACHER and the recordings of `default`
# (docs/experiments.md, 29, 31 and 32).
set -euo pipefail
NOISY=${1:?folder of recordings} START=${2:?name or folder of a model} RUN=${3:?folder to write} STEPS=${4:?steps} SEED=${5:?seed}
PYTHON=${PYTHON:-python} HERE=$(cd "$(dirname "$0")" && pwd)

"$PYTHON" "$HERE/finer.py" "$START" "$RUN/start"
TEACHER=${TEACHER:-$START} "$HERE/round.sh" "$NOISY" "$RUN/start" "$RUN" "$STEPS" "$SEED" "${@:6}"
"$PYTHON" "$HERE/mean.py" "$RUN/start" "$RUN/run/model" "$RUN/mean"
"$PYTHON" "$HERE/rebuilt.py" "$RUN/mean" "$RUN/half" --mask-exponent 0.9
"$PYTHON" "$HERE/rebuilt.py" "$RUN/run/model" "$RUN/full" --mask-exponent 0.9
