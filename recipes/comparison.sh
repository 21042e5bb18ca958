#!/usr/bin/env bash
# The comparison of objectives in docs/experiments.md: UrbanSound8K (mixed) and white noise at 0 to 10 dB, 16 kHz.
#   recipes/comparison.sh DATA OUT [JOBS] [PLAN]
# with DATA the folder that holds speech/librispeech, speech/librispeech-other and noise/urbansound8k, and PLAN one of
# comparison (objectives) and networks (networks x objectives). Speakers and noise recordings of training and test are
# others, and the noise that objectives add is in no noisy file.
set -euo pipefail
DATA=${1:?folder with speech/ and noise/} OUT=${2:?folder to write} JOBS=${3:-2} PLAN=${4:-comparison}
MIASE=${MIASE:-miase} PYTHON=${PYTHON:-python} HERE=$(cd "$(dirname "$0")" && pwd)

mkdir -p "$OUT"
"$PYTHON" "$HERE/halves.py" "$DATA/noise/urbansound8k" "$OUT/noise"
train=(--speech "$DATA/speech/librispeech" --split train --takes 2 --snr 0 10 --seed 1 -q)
test=(--speech "$DATA/speech/librispeech" --speech "$DATA/speech/librispeech-other" --split test --snr 0 10
    --max-seconds 6 --seed 7 -q)
[ -e "$OUT/mixed/train/manifest.jsonl" ] || "$MIASE" corpus urbansound "${train[@]}" --noise "$OUT/noise/heard" -o "$OUT/mixed/train"
[ -e "$OUT/mixed/test/manifest.jsonl" ] || "$MIASE" corpus urbansound "${test[@]}" --noise "$DATA/noise/urbansound8k" -o "$OUT/mixed/test"
[ -e "$OUT/white/train/manifest.jsonl" ] || "$MIASE" corpus white "${train[@]}" -o "$OUT/white/train"
[ -e "$OUT/white/test/manifest.jsonl" ] || "$MIASE" corpus white "${test[@]}" -o "$OUT/white/test"
# For benchmarks/criterion.py, which looks at no test file.
[ -e "$OUT/mixed/valid/manifest.jsonl" ] || "$MIASE" corpus urbansound --speech "$DATA/speech/librispeech" \
    --speech "$DATA/speech/librispeech-other" --noise "$DATA/noise/urbansound8k" --split valid --snr 0 10 --max-seconds 6 \
    --limit 16 --seed 3 -q -o "$OUT/mixed/valid"
cd "$OUT"
"$MIASE" compare "$HERE/$PLAN.toml" -o "$PLAN" --jobs "$JOBS"
