#!/usr/bin/env bash
# How the packaged models became better than the run they came from, from the same noisy recordings and no clean speech:
#   recipes/refine.sh NOISY START RUN MINUTES NOISE...
# NOISY: noisy/ of a corpus; START: a model; RUN: folder to write, the model is RUN/second; NOISE: sources for --mix-noise.
# The recordings that seem cleanest become targets, half-way between what was recorded and what the model makes of it
# (halfway.py); noise is added to them, and the network learns to take it away, its batch norms as they are when it is
# used. A short first round, whose model makes the targets of the second.
set -euo pipefail
NOISY=${1:?folder of recordings} START=${2:?name or folder of a model} RUN=${3:?folder to write} MINUTES=${4:?of the second round}
shift 4
MIASE=${MIASE:-miase} PYTHON=${PYTHON:-python} HERE=$(cd "$(dirname "$0")" && pwd)
how=(--objective noise2clean --mix-snr-db -5 25 --spectrum-weight 4 --freeze-norms --batch-size 4 --patience 0
    --lr-schedule linear --lr-decay 1 --valid-steps 500 --threads 1 -q)
for source in "$@"; do how+=(--mix-noise "$source"); done

targets() {  # of MODEL, in FOLDER
    "$MIASE" enhance "$NOISY" -m "$1" -o "$2/estimates" --jobs 2 --skip-existing -q
    "$PYTHON" "$HERE/halfway.py" "$NOISY" "$2/estimates" "$2/targets"
}
targets "$START" "$RUN/first_targets"
"$MIASE" train --speech "$RUN/first_targets/targets" -o "$RUN/first" --start "$START" --lr 3e-4 --average-decay 0.995 \
    --max-steps 1000 --seed 1 "${how[@]}"
targets "$RUN/first" "$RUN/second_targets"
"$MIASE" train --speech "$RUN/second_targets/targets" -o "$RUN/second" --start "$RUN/first" --lr 5e-4 --average-decay 0.998 \
    --max-minutes "$MINUTES" --seed 2 "${how[@]}"
