#!/usr/bin/env bash
# The packaged model "default-48k": "default" at three times its rate (full_band.py), trained on by recordings of the full
# band. No clean speech is heard.
#   recipes/full_band.sh DATA NOISY RUN
# DATA: folder with speech/ and noise/; NOISY: noisy/ of what default_corpus.sh made; RUN: folder to write, the model is
# RUN/mean. As a round of refine.sh: recordings part of the way to their estimates become targets. Speech of the full band
# is scarce (11 utterances of CSTR VCTK, four takes each), so its targets lie there twenty times over; those of narrower
# bands, LJ Speech and NOISY, keep what "default" knows, and are mixed with noise of their own band.
set -euo pipefail
DATA=${1:?folder with speech/ and noise/} NOISY=${2:?folder of recordings at 16 kHz} RUN=${3:?folder to write}
MIASE=${MIASE:-miase} PYTHON=${PYTHON:-python} HERE=$(cd "$(dirname "$0")" && pwd)
work=$RUN-work
mkdir -p "$work"

corpus() {  # NAME RATE
    "$MIASE" corpus mix --speech "$DATA/speech/$1" --noise "$DATA/noise/moodist" --noise "$DATA/noise/clearervoice-samples" \
        --exclude-speech '*p232*' --exclude-speech '*p257*' --split train --snr 0 20 --synthetic-share 0.4 --copies 4 \
        --seed 2 --no-clean --sample-rate "$2" -o "$work/$1" -q
}
targets() {  # NAME NOISY MODEL SNR_DB COPIES
    "$MIASE" enhance "$2" -m "$3" -o "$work/estimates/$1" --jobs 2 --skip-existing -q
    for ((copy = 1; copy <= $5; copy++)); do
        "$PYTHON" "$HERE/halfway.py" "$2" "$work/estimates/$1" "$work/targets/$1/$copy" --share 0.85 --snr-db "$4"
    done
}
corpus vctk-48k 48000
corpus ljspeech 22050
"$PYTHON" "$HERE/full_band.py" default "$work/start"
targets full "$work/vctk-48k/noisy" "$work/start" 8 20
targets half "$work/ljspeech/noisy" "$work/start" 11 2
targets third "$NOISY" default 14 1
"$PYTHON" "$HERE/voices.py" "$work/targets/third" "$work/voices"

how=()
for source in moodist moodist moodist clearervoice-samples; do how+=(--mix-noise "$DATA/noise/$source"); done
for source in synthetic white "$work/voices"; do how+=(--mix-noise "$source"); done
"$MIASE" train --speech "$work/targets" -o "$RUN" --start "$work/start" --objective noise2clean "${how[@]}" --mix-snr-db -5 28 \
    --spectrum-weight 4 --loudness-weight 0.7 --wsdr-weight 2 --time-weight 1.5 --freeze-norms --batch-size 4 --patience 0 \
    --lr 4e-4 --lr-schedule linear --lr-decay 1 --average-decay 0.998 --seed 1 --threads 1 --precision bf16-mixed \
    --max-minutes "${MINUTES:-40}" -q
# Half way back to the start: all scores of the validation split are better there than at the start (docs/experiments.md, 30).
"$PYTHON" "$HERE/mean.py" "$work/start" "$RUN" "$RUN/mean"
