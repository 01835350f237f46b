#!/bin/sh
# Ends with a result that is the same every time.
mkdir -p "$OUTPUT_DIR/model/deep/er"
for step in 1 2 3 4 5; do
  echo "line $step"; sleep 0.1
  echo "{\"time\": 1.0, \"step\": $step, \"total_steps\": 5, \"loss\": 1.5}" >>"$OUTPUT_DIR/metrics.jsonl"
done
seq 1 40000 >"$OUTPUT_DIR/model/weights.bin"
printf 'caf\303\251\n' >"$OUTPUT_DIR/model/deep/er/words.txt"
: >"$OUTPUT_DIR/model/empty"
echo "done"
