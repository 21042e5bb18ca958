#!/usr/bin/env bash
# The scores of models on full-band sound that none has met: speech and noise of 44.1 and 48 kHz at 0 to 10 dB (test split),
# and pairs of Voice Bank and DEMAND.
#   recipes/full_band_scores.sh DATA OUT MODEL...
set -euo pipefail
DATA=${1:?folder with speech/, noise/ and pairs/} OUT=${2:?folder to write}
shift 2
MIASE=${MIASE:-miase} PYTHON=${PYTHON:-python} SPLIT=${SPLIT:-test}

# The noise that has a high band: recordings of a rate above 32 kHz.
"$PYTHON" - "$DATA/noise" "$OUT/noise" <<'PYTHON'
import sys
from pathlib import Path

from miase.audio import probe
from miase.sounds import find_sounds

source, target = map(Path, sys.argv[1:])
for path in (path for name in ("moodist", "clearervoice-samples") for path in find_sounds(source / name)):
    if probe(path).sample_rate > 32000:
        link = target / path.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(path.resolve())
PYTHON
speech=()
for corpus in vctk-48k klettres ktuberling; do speech+=(--speech "$DATA/speech/$corpus"); done
"$MIASE" corpus mix "${speech[@]}" --noise "$OUT/noise/moodist" --noise "$OUT/noise/clearervoice-samples" --split "$SPLIT" \
    --snr 0 10 --synthetic-share 0.3 --copies 2 --max-seconds 6 --seed 9 --sample-rate 48000 -q --overwrite -o "$OUT/full_band"
models=()
for model in "$@"; do models+=(-m "$model"); done
how=(--jobs 2 --metrics si_sdr --metrics pesq_wb --metrics stoi --metrics high_band_snr -q)
"$MIASE" evaluate --noisy "$OUT/full_band" "${models[@]}" "${how[@]}" -o "$OUT/full_band.json"
if [ "$SPLIT" = test ]; then
    pairs=$DATA/pairs/voicebank-demand-train-48k
    "$MIASE" evaluate --noisy "$pairs/noisy" --clean "$pairs/clean" "${models[@]}" "${how[@]}" -o "$OUT/voicebank_48k.json"
fi
