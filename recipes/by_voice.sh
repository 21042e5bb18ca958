#!/usr/bin/env bash
# A round of at_speeds.sh whose recordings are chosen by voice: of each utterance the cleanest takes, of each speaker not too
# many utterances, and four in five of them read aloud.
#   recipes/by_voice.sh NOISY START RUN STEPS SEED NOISE...
# NOISY: folder with what default_corpus.sh, research_corpus.sh and more_voices.sh wrote, each in a folder of its own; the rest
# as for at_speeds.sh. docs/experiments.md, 39, has what the packaged `research` did otherwise.
set -euo pipefail
NOISY=${1:?folder of recordings} START=${2:?name or folder of a model} RUN=${3:?folder to write}
shift 3
MIASE=${MIASE:-miase} PYTHON=${PYTHON:-python} HERE=$(cd "$(dirname "$0")" && pwd)

"$MIASE" enhance "$NOISY" -m "$START" -o "$RUN/first" --jobs 2 --skip-existing -q
choose() { # corpus, takes of an utterance, utterances of a speaker (0: all)
    "$PYTHON" "$HERE/cleanest_takes.py" "$NOISY" "$RUN/first" "$RUN/chosen" --within "$1" --takes "$2" --most "$3"
}
choose librispeech 2 0
choose librispeech-other 2 8
choose picovoice-barista 1 20
choose asterisk-prompts 1 3
choose ljspeech 1 2
for corpus in vctk-16k vctk-48k emodb klettres ktuberling lombard-grid; do choose "$corpus" 1 1; done
SHIFTS=4 LEAST_SNR_DB=3 "$HERE/at_speeds.sh" "$RUN/chosen" "$START" "$RUN" "$@"
