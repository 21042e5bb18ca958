#!/usr/bin/env bash
# The noisy recordings that the model "research" learns from beside those of default_corpus.sh: UrbanSound8K noise of the
# train split, whose licence forbids commercial use. From the repository's root:
#   recipes/research_corpus.sh DATA OUT
# with DATA the folder that holds speech/ and noise/. OUT/noise holds links to the noise, heard (in the recordings) and added (in
# none of them); both are given to refine.sh. Voice Bank's test speakers are never used.
set -euo pipefail
DATA=${1:?folder with speech/ and noise/} OUT=${2:?folder to write}
MIASE=${MIASE:-miase} PYTHON=${PYTHON:-python} HERE=$(cd "$(dirname "$0")" && pwd)

"$PYTHON" "$HERE/halves.py" "$DATA/noise/urbansound8k" "$OUT/noise"
speech=()
for corpus in librispeech librispeech-other ljspeech lombard-grid picovoice-barista vctk-16k vctk-48k; do
    speech+=(--speech "$DATA/speech/$corpus")
done
"$MIASE" corpus mix "${speech[@]}" --noise "$OUT/noise/heard" --exclude-speech '*p232*' --exclude-speech '*p257*' \
    --split train --snr 0 20 --seed 2 --no-clean --workers 2 -o "$OUT/corpus"
