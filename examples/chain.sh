#!/bin/sh
# From a brief to a storyboard, one deliverable a row: each step's output is the next one's input.
# --text-as names a step's text, so that the next step takes it by that name. The column `call` of
# an output makes its calls the parents of the next step's, and the deliverable carries through: the
# report at the end tells what each video cost, all four steps together.
#
#     sh chain.sh videos.csv        in a project folder (promptkit init), with keys or a simulator
#
# videos.csv has the columns brand, product, audience, client and video; other columns pass through.
# Run it again after a stop: what is paid is not sent again.
set -eu

videos=${1:-videos.csv}
mkdir -p chain

promptkit batch ugc/brief "$videos" -o chain/1-briefs.jsonl --text-as brief --key video \
    --tag client=@client --tag deliverable=@video

promptkit batch ugc/hooks chain/1-briefs.jsonl -o chain/2-hooks.jsonl --text-as hooks --key video --tag client=@client

# A human would choose; here it is the first hook, without its number.
python3 - chain/2-hooks.jsonl chain/2-chosen.jsonl <<'PY'
import json, re, sys

with open(sys.argv[1], encoding="utf-8") as hooks, open(sys.argv[2], "w", encoding="utf-8") as chosen:
    for line in hooks:
        row = json.loads(line)
        lines = (row["hooks"] or "").split("\n")
        row["hook"] = re.sub(r"^\W*\d*[.)]?\s*", "", next((one for one in lines if one.strip()), ""))[:300]
        chosen.write(json.dumps(row, ensure_ascii=False) + "\n")
PY

promptkit batch ugc/script chain/2-chosen.jsonl -o chain/3-scripts.jsonl --text-as script --key video --tag client=@client

promptkit batch ugc/storyboard chain/3-scripts.jsonl -o chain/4-boards.jsonl --text-as board --key video --tag client=@client

promptkit report --by deliverable
