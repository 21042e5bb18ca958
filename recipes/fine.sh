#!/usr/bin/env bash
# How the packaged models of 16 kHz got the network dcunet10_ctstm_fine, by noisy recordings and no clean speech:
#   recipes/fine.sh NOISY START RUN STEPS SEED NOISE...
# NOISY: noisy/ of a corpus; START: a model that refine.sh made; RUN: folder to write; NOISE: sources for --mix-noise.
# Targets are five shifted passes of TEACHER (START, unless it is set), all of the way where there is only noise. RUN/full is what the
# round leaves, RUN/half half way back to where it began, both with a gentler mask. The packaged `default` is RUN/half
# of 7000 steps and seed 71; `research` is RUN/full of 6500 steps and seed 72, with the START of `default` as TEACHER and the
# recordings of `default` (docs/experiments.md, 29, 31 and 32). Fifty minutes on one core of a CPU with AMX.
set -euo pipefail
NOISY=${1:?folder of recordings} START=${2:?name or folder of a model} RUN=${3:?folder to write} STEPS=${4:?steps} SEED=${5:?seed}
shift 5
MIASE=${MIASE:-miase} PYTHON=${PYTHON:-python} HERE=$(cd "$(dirname "$0")" && pwd)

"$MIASE" enhance "$NOISY" -m "${TEACHER:-$START}" --shifts 5 -o "$RUN/estimates" --jobs 2 --skip-existing -q
"$PYTHON" "$HERE/halfway.py" "$NOISY" "$RUN/estimates" "$RUN/targets" --share 0.85 --speech-share 0.3
[ -e "$RUN/voices" ] || "$PYTHON" "$HERE/voices.py" "$RUN/targets" "$RUN/voices"
"$PYTHON" "$HERE/finer.py" "$START" "$RUN/start"
how=()
for source in "$@" synthetic white "$RUN/voices"; do how+=(--mix-noise "$source"); done
"$MIASE" train --speech "$RUN/targets" -o "$RUN/run" --start "$RUN/start" --objective noise2clean "${how[@]}" \
    --mix-snr-db -5 28 --loudness-weight 0.7 --wsdr-weight 2 --time-weight 1.5 --spectrum-weight 4 --freeze-norms \
    --batch-size 4 --patience 0 --lr 5e-4 --lr-schedule linear --lr-decay 1 --average-decay 0.998 --max-steps "$STEPS" \
    --seed "$SEED" --threads 1 --precision bf16-mixed -q
"$PYTHON" "$HERE/mean.py" "$RUN/start" "$RUN/run/model" "$RUN/mean"
"$PYTHON" "$HERE/gentler.py" "$RUN/mean" "$RUN/half" 0.9
"$PYTHON" "$HERE/gentler.py" "$RUN/run/model" "$RUN/full" 0.9
