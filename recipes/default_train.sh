#!/usr/bin/env bash
# The training of the packaged model "default", on what default_corpus.sh made. No clean file exists there.
#   recipes/default_train.sh DATA CORPUS RUN
# One thread of a CPU: 60 minutes, then 14 more with a wider range of SNR and more weight on the spectrum.
set -euo pipefail
DATA=${1:?folder with noise/} CORPUS=${2:?folder that default_corpus.sh wrote} RUN=${3:?folder of the run}
MIASE=${MIASE:-miase}

"$MIASE" train "$CORPUS" -o "$RUN" --model dcunet10_ctstm --n-blocks 2 --level-seconds 4 --compression 1 \
    --objective iddp --prior average --average-decay 0.995 --warmup noisy_target --warmup-steps 300 --target-share 0.2 \
    --first-share 1 --cleanest-of 1 --cleanest-share 1 --removed-weight 1 \
    --noise "$DATA/noise/moodist" --noise "$DATA/noise/moodist" --noise synthetic --noise white --snr-db -5 20 \
    --batch-size 4 --excerpt-seconds 2 --spectrum-weight 2 --max-minutes 60 --seed 1 --threads 1 -q
"$MIASE" train "$CORPUS" -o "$RUN" --resume --max-minutes 74 --spectrum-weight 4 --snr-db -5 25 -q
