#!/usr/bin/env bash
# The noisy recordings that the model "default" learns from: speech and noise whose licence lets anyone use the result
# (CC BY 4.0, CC0, Apache 2.0, public domain, Pixabay Content License). Run from the repository's root:
#   recipes/default_corpus.sh DATA OUT
# with DATA the folder that holds speech/ and noise/. Voice Bank's test speakers are never used.
set -euo pipefail
DATA=${1:?folder with speech/ and noise/} OUT=${2:?folder to write}
MIASE=${MIASE:-miase}

speech=()
for corpus in librispeech librispeech-other ljspeech lombard-grid picovoice-barista vctk-16k vctk-48k; do
    speech+=(--speech "$DATA/speech/$corpus")
done
noise=()
for corpus in moodist clearervoice-samples picovoice-noise; do
    noise+=(--noise "$DATA/noise/$corpus")
done
"$MIASE" corpus mix "${speech[@]}" "${noise[@]}" --exclude-speech '*p232*' --exclude-speech '*p257*' \
    --split train --snr 0 20 --synthetic-share 0.4 --copies 3 --seed 1 --no-clean --workers 2 -o "$OUT"
