#!/usr/bin/env bash
# A round of round.sh whose noise is heard at five speeds:
#   recipes/at_speeds.sh NOISY START RUN STEPS SEED NOISE...
# as for round.sh. Each folder among NOISE is copied to RUN/noise with neighbours at 0.7, 0.84, 1.19 and 1.41 times its speed:
# another engine turns faster, another dog is smaller. Targets are of six passes, of recordings that seem to have 12 dB or more,
# unless LEAST_SNR_DB says otherwise; float32 unless PRECISION does. RUN/most is 0.7 of the way from START to what the round
# leaves. The packaged `default` is that of 7500 steps and seed 111 from the one that fine.sh made (NOISE: one folder with those of
# default_corpus.sh, twice, and "synthetic"). `research` went through two rounds from the one of fine.sh, 5000 steps and seed 91
# with LEAST_SNR_DB=14, then 10000 and seed 101; it is 0.7 of the way from where the first began to what the second left
# (NOISE: one folder with all of its noise, four times; docs/experiments.md, 38, has what else the packaged run did).
set -euo pipefail
NOISY=${1:?folder of recordings} START=${2:?name or folder of a model} RUN=${3:?folder to write} STEPS=${4:?steps} SEED=${5:?seed}
shift 5
PYTHON=${PYTHON:-python} HERE=$(cd "$(dirname "$0")" && pwd)

sources=()
for source in "$@"; do
    if [ -d "$source" ]; then
        copy=$RUN/noise/$(basename "$source")
        if [ ! -e "$copy" ]; then
            rm -rf "$copy.part" && mkdir -p "$copy.part"
            cp -rL "$source/." "$copy.part"
            "$PYTHON" "$HERE/speeds.py" "$copy.part" 0.7 0.84 1.19 1.41
            mv "$copy.part" "$copy"
        fi
        source=$copy
    fi
    sources+=("$source")
done
SHIFTS=6 LEAST_SNR_DB=${LEAST_SNR_DB:-12} PRECISION=${PRECISION:-32-true} \
    "$HERE/round.sh" "$NOISY" "$START" "$RUN" "$STEPS" "$SEED" "${sources[@]}"
"$PYTHON" "$HERE/mean.py" "$START" "$RUN/run/model" "$RUN/most" 0.7
