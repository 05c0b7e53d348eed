#!/bin/sh
# From a brief to a storyboard in four batches, with one deliverable per row.
#
#     sh chain.sh videos.csv
#
# Run it in a project folder (promptkit init), with keys or with the simulator. videos.csv needs the
# columns brand, product, audience, client and video; other columns pass through.
#
# The output of each step is the input of the next. --text-as names the text of a step, so that the
# next template takes it as a variable. The column `call` links the calls, and the deliverable carries
# over: the report at the end shows the cost of each video over all four steps.
#
# Run it again after a stop: it does not send paid rows again.
set -eu

videos=${1:-videos.csv}
mkdir -p chain

promptkit batch ugc/brief "$videos" -o chain/1-briefs.jsonl --text-as brief --key video \
    --tag client=@client --tag deliverable=@video

promptkit batch ugc/hooks chain/1-briefs.jsonl -o chain/2-hooks.jsonl --text-as hooks --key video --tag client=@client

# A person would choose a hook. This takes the first one, without its number.
python3 - chain/2-hooks.jsonl chain/2-chosen.jsonl <<'PY'
import json, re, sys

with open(sys.argv[1], encoding="utf-8") as hooks, open(sys.argv[2], "w", encoding="utf-8") as chosen:
    for line in hooks:
        row = json.loads(line)
        lines = (row["hooks"] or "").split("\n")
        row["hook"] = re.sub(r"^\W*\d*[.)]?\s*", "", next((hook for hook in lines if hook.strip()), ""))[:300]
        chosen.write(json.dumps(row, ensure_ascii=False) + "\n")
PY

promptkit batch ugc/script chain/2-chosen.jsonl -o chain/3-scripts.jsonl --text-as script --key video --tag client=@client

promptkit batch ugc/storyboard chain/3-scripts.jsonl -o chain/4-boards.jsonl --text-as board --key video --tag client=@client

promptkit report --by deliverable
