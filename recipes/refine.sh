#!/usr/bin/env bash
# How the packaged models became better than the run that they came from, by the same noisy recordings and no clean speech:
#   recipes/refine.sh NOISY START RUN NOISE...
# NOISY: noisy/ of a corpus; START: a model; RUN: folder to write, the model is RUN/mean; NOISE: sources for --mix-noise,
# one that is named twice is drawn twice as often.
# The recordings that seem cleanest become targets, part of the way from what was recorded to what the model makes of it
# (halfway.py); noise is added to them, and the network learns to take it away, its batch norms as they are when it is
# used. Each round's model makes the targets of the next. The fourth trains for loudness as the ear has it, too, and the
# fifth and sixth go nearer to the estimates, which are better by then; the mean of the weights that these two leave is the
# model (docs/experiments.md, 12 and 14 to 16). Four and a half hours on one thread of a CPU.
set -euo pipefail
NOISY=${1:?folder of recordings} START=${2:?name or folder of a model} RUN=${3:?folder to write}
shift 3
MIASE=${MIASE:-miase} PYTHON=${PYTHON:-python} HERE=$(cd "$(dirname "$0")" && pwd)
how=(--objective noise2clean --spectrum-weight 4 --freeze-norms --batch-size 4 --patience 0
    --lr-schedule linear --threads 1 -q)
for source in "$@"; do how+=(--mix-noise "$source"); done

round() {  # NAME START FLAG...
    local name=$1 start=$2
    shift 2
    "$MIASE" enhance "$NOISY" -m "$start" -o "$RUN/$name-estimates" --jobs 2 --skip-existing -q
    "$PYTHON" "$HERE/halfway.py" "$NOISY" "$RUN/$name-estimates" "$RUN/$name-targets" --share "${SHARE:-0.5}"
    [ -e "$RUN/voices" ] || "$PYTHON" "$HERE/voices.py" "$RUN/$name-targets" "$RUN/voices"
    "$MIASE" train --speech "$RUN/$name-targets" -o "$RUN/$name" --start "$start" "${how[@]}" \
        --mix-snr-db ${SNR_DB:--5 25} "$@"
}
round first "$START" --seed 1 --lr 3e-4 --lr-decay 0 --average-decay 0.995 --max-steps 1000
round second "$RUN/first" --seed 2 --lr 4e-4 --lr-decay 0 --average-decay 0.998 --max-steps 6000
round third "$RUN/second" --seed 3 --lr 2.5e-4 --lr-decay 1 --average-decay 0.998 --max-steps 7000 --mix-noise "$RUN/voices"
SHARE=0.6 round fourth "$RUN/third" --seed 4 --lr 6e-4 --lr-decay 1 --average-decay 0.998 --max-steps 12000 --mix-noise "$RUN/voices" \
    --loudness-weight 0.7 --wsdr-weight 2 --time-weight 1.5
SHARE=0.85 SNR_DB="-5 28" round fifth "$RUN/fourth" --seed 5 --lr 6e-4 --lr-decay 1 --average-decay 0.998 --max-steps 17000 --mix-noise "$RUN/voices" \
    --loudness-weight 0.9 --wsdr-weight 2 --time-weight 1.5
SHARE=0.85 SNR_DB="-5 28" round sixth "$RUN/fifth" --seed 6 --lr 6e-4 --lr-decay 1 --average-decay 0.998 --max-steps 11000 --mix-noise "$RUN/voices" \
    --loudness-weight 0.7 --wsdr-weight 2 --time-weight 1.5
"$PYTHON" "$HERE/mean.py" "$RUN/fifth" "$RUN/sixth" "$RUN/mean"
