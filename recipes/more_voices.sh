#!/usr/bin/env bash
# More voices for the model "research": prompts, acted and single words, of licences that ask for the same licence or for none
# (CC BY-SA 3.0, CC BY 3.0, CC0, GPL-2+), with free noise and UrbanSound8K's. From the repository's root:
#   recipes/more_voices.sh DATA HEARD OUT
# with DATA the folder that holds speech/ and noise/, HEARD the noise/heard that research_corpus.sh made.
set -euo pipefail
DATA=${1:?folder with speech/ and noise/} HEARD=${2:?noise/heard of research_corpus.sh} OUT=${3:?folder to write}
MIASE=${MIASE:-miase}

speech=()
for corpus in asterisk-prompts emodb klettres ktuberling; do speech+=(--speech "$DATA/speech/$corpus"); done
noise=(--noise "$HEARD")
for corpus in moodist clearervoice-samples picovoice-noise; do noise+=(--noise "$DATA/noise/$corpus"); done
"$MIASE" corpus mix "${speech[@]}" "${noise[@]}" --split train --snr 0 20 --synthetic-share 0.3 --copies 4 --seed 3 \
    --no-clean --workers 2 -o "$OUT"
