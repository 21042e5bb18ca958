#!/usr/bin/env bash
# A round of learning from noisy recordings and no clean speech, with targets of a model's own shifted passes:
#   recipes/round.sh NOISY START RUN STEPS SEED NOISE...
# NOISY: noisy/ of a corpus; START: a model; RUN: folder to write; NOISE: sources for --mix-noise, one that is named twice is
# drawn twice as often. The recordings that seem cleanest become targets, most of the way from what was recorded to the mean
# of five passes of TEACHER (START, unless it is set), all of the way where there is only noise; noise is added to them, and
# the network learns to take it away. RUN/run/model is what the round leaves. LOUDNESS is the weight of loudness in the
# loss, 0.7 unless it is set, SHIFTS the passes in place of five, LEAST_SNR_DB what a recording must seem to have, in place of
# 14, PRECISION that of the training. Fifty minutes for 7000 steps on one core of a CPU with AMX.
set -euo pipefail
NOISY=${1:?folder of recordings} START=${2:?name or folder of a model} RUN=${3:?folder to write} STEPS=${4:?steps} SEED=${5:?seed}
shift 5
MIASE=${MIASE:-miase} PYTHON=${PYTHON:-python} HERE=$(cd "$(dirname "$0")" && pwd)

"$MIASE" enhance "$NOISY" -m "${TEACHER:-$START}" --shifts "${SHIFTS:-5}" -o "$RUN/estimates" --jobs 2 --skip-existing -q
"$PYTHON" "$HERE/halfway.py" "$NOISY" "$RUN/estimates" "$RUN/targets" --share 0.85 --speech-share 0.3 \
    --snr-db "${LEAST_SNR_DB:-14}"
[ -e "$RUN/voices" ] || "$PYTHON" "$HERE/voices.py" "$RUN/targets" "$RUN/voices"
how=()
for source in "$@" synthetic white "$RUN/voices"; do how+=(--mix-noise "$source"); done
"$MIASE" train --speech "$RUN/targets" -o "$RUN/run" --start "$START" --objective noise2clean "${how[@]}" \
    --mix-snr-db -5 28 --loudness-weight "${LOUDNESS:-0.7}" --wsdr-weight 2 --time-weight 1.5 --spectrum-weight 4 \
    --freeze-norms --batch-size 4 --patience 0 --lr 5e-4 --lr-schedule linear --lr-decay 1 --average-decay 0.998 \
    --max-steps "$STEPS" --seed "$SEED" --threads 1 --precision "${PRECISION:-bf16-mixed}" -q
