#!/usr/bin/env bash
# The scores of a model on unseen speakers, with one pass and four: UrbanSound8K noise and white noise at 0 to 10 dB, and
# what it does to clean speech.
#   recipes/default_scores.sh DATA OUT MODEL
set -euo pipefail
DATA=${1:?folder with speech/ and noise/} OUT=${2:?folder to write} MODEL=${3:?name or folder of a model}
MIASE=${MIASE:-miase}

speech=(--speech "$DATA/speech/librispeech" --speech "$DATA/speech/librispeech-other")
how=(--split test --snr 0 10 --max-seconds 6 --seed 7 -q --overwrite)
"$MIASE" corpus urbansound "${speech[@]}" --noise "$DATA/noise/urbansound8k" "${how[@]}" -o "$OUT/urbansound8k"
"$MIASE" corpus white "${speech[@]}" "${how[@]}" -o "$OUT/white"
for corpus in urbansound8k white; do
    "$MIASE" evaluate --noisy "$OUT/$corpus" -m "$MODEL" -m "$MODEL@4" -m wiener --jobs 2 \
        --metrics si_sdr --metrics pesq_wb --metrics stoi -q -o "$OUT/$corpus.json"
done
"$MIASE" evaluate --noisy "$OUT/white/clean" --clean "$OUT/white/clean" -m "$MODEL" -m "$MODEL@4" --jobs 2 \
    --metrics si_sdr -q -o "$OUT/clean.json"
