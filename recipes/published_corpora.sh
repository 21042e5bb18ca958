#!/usr/bin/env bash
# The corpora of the published tables: white noise, UrbanSound8K mixed, and its ten classes, at 0 to 10 dB.
#   recipes/published_corpora.sh SPEECH URBANSOUND8K OUT [RATE]
# For each: OUT/NOISE/train with two takes (noise2noise needs the second) and OUT/NOISE/test, other speakers and
# other recordings. Voice Bank's test speakers are only ever in test, when SPEECH has them.
set -euo pipefail
SPEECH=${1:?folder of clean speech} NOISE=${2:?folder of UrbanSound8K} OUT=${3:?folder to write} RATE=${4:-16000}
MIASE=${MIASE:-miase}

make() { # NAME KIND ARGUMENTS...
    local name=$1 kind=$2
    shift 2
    "$MIASE" corpus "$kind" --speech "$SPEECH" "$@" --split train --takes 2 --sample-rate "$RATE" --seed 1 \
        --exclude-speech '*p232*' --exclude-speech '*p257*' -q -o "$OUT/$name/train"
    "$MIASE" corpus "$kind" --speech "$SPEECH" "$@" --split test --sample-rate "$RATE" --seed 2 -q -o "$OUT/$name/test"
}

make white white
make mixed urbansound --noise "$NOISE"
for class in air_conditioner car_horn children_playing dog_bark drilling engine_idling gun_shot jackhammer siren \
    street_music; do
    make "$class" urbansound --noise "$NOISE" --noise-class "$class"
done
