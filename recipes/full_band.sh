#!/usr/bin/env bash
# The packaged model "default-48k": "default" at three times its rate (full_band.py), trained on in two rounds by recordings
# of the full band. No clean speech is heard.
#   recipes/full_band.sh DATA NOISY RUN [START]
# DATA: folder with speech/ and noise/; NOISY: noisy/ of what default_corpus.sh made; RUN: folder to write, the model is
# RUN/mean; START: a model of 16 kHz. The packaged one began with "default" as refine.sh had left it, before fine.sh.
# As the rounds of refine.sh: recordings part of the way to their estimates become targets. Speech of the full band
# is scarce (11 utterances of CSTR VCTK, four takes each), so its targets lie there many times over, in the second round at
# five speeds; those of narrower bands, LJ Speech and NOISY, keep what "default" knows, and are mixed with noise of their own
# band. An hour and a half on one thread of a CPU with AMX.
set -euo pipefail
DATA=${1:?folder with speech/ and noise/} NOISY=${2:?folder of recordings at 16 kHz} RUN=${3:?folder to write} START=${4:-default}
MIASE=${MIASE:-miase} PYTHON=${PYTHON:-python} HERE=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$RUN"

corpus() {  # NAME RATE
    [ -e "$RUN/$1/noisy" ] || "$MIASE" corpus mix --speech "$DATA/speech/$1" --noise "$DATA/noise/moodist" \
        --noise "$DATA/noise/clearervoice-samples" --exclude-speech '*p232*' --exclude-speech '*p257*' --split train \
        --snr 0 20 --synthetic-share 0.4 --copies 4 --seed 2 --no-clean --sample-rate "$2" -o "$RUN/$1" -q
}
targets() {  # ROUND NAME NOISY MODEL SHIFTS COPIES FLAG...
    local estimates=$RUN/$1-estimates/$2 out=$RUN/$1-targets/$2 noisy=$3 copies=$6
    "$MIASE" enhance "$noisy" -m "$4" --shifts "$5" -o "$estimates" --jobs 2 --skip-existing -q
    shift 6
    for ((copy = 1; copy <= copies; copy++)); do
        "$PYTHON" "$HERE/halfway.py" "$noisy" "$estimates" "$out/$copy" "$@"
    done
}
how=()
for source in moodist moodist moodist clearervoice-samples; do how+=(--mix-noise "$DATA/noise/$source"); done
for source in synthetic white "$RUN/voices"; do how+=(--mix-noise "$source"); done
round() {  # ROUND START FLAG...
    local name=$1 start=$2
    shift 2
    "$MIASE" train --speech "$RUN/$name-targets" -o "$RUN/$name" --start "$start" --objective noise2clean "${how[@]}" \
        --mix-snr-db -5 28 --loudness-weight 0.7 --wsdr-weight 2 --time-weight 1.5 --freeze-norms --batch-size 4 \
        --patience 0 --lr-schedule linear --lr-decay 1 --average-decay 0.998 --threads 1 --precision bf16-mixed -q "$@"
}
corpus vctk-48k 48000
corpus ljspeech 22050
"$PYTHON" "$HERE/full_band.py" "$START" "$RUN/start"

targets first full "$RUN/vctk-48k/noisy" "$RUN/start" 1 20 --share 0.85 --snr-db 8
targets first half "$RUN/ljspeech/noisy" "$RUN/start" 1 2 --share 0.85 --snr-db 11
targets first third "$NOISY" "$START" 1 1 --share 0.85
[ -e "$RUN/voices" ] || "$PYTHON" "$HERE/voices.py" "$RUN/first-targets/third" "$RUN/voices"
round first "$RUN/start" --spectrum-weight 4 --lr 4e-4 --max-steps "${STEPS:-2779}" --seed 1
"$PYTHON" "$HERE/mean.py" "$RUN/start" "$RUN/first" "$RUN/first-mean"

targets second full "$RUN/vctk-48k/noisy" "$RUN/first-mean" 4 5 --share 0.8 --speech-share 0.3 --snr-db 9
"$PYTHON" "$HERE/speeds.py" "$RUN/second-targets/full" 0.84 0.92 1.09 1.18
targets second half "$RUN/ljspeech/noisy" "$RUN/first-mean" 4 2 --share 0.8 --speech-share 0.3 --snr-db 11
targets second third "$NOISY" "$START" 5 1 --share 0.85 --speech-share 0.3
round second "$RUN/first-mean" --spectrum-weight 8 --lr 6e-4 --max-steps "${STEPS:-2986}" --seed 2
# Half way back to the start (docs/experiments.md, 30).
"$PYTHON" "$HERE/mean.py" "$RUN/start" "$RUN/second" "$RUN/mean"
