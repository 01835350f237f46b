#!/bin/sh
# A real small training for tests: counts to N, saves each step, goes on where it was, stops on TERM.
# usage: count.sh [steps] [seconds a step]
steps=${1:-5}
pause=${2:-0.05}
done_before=0
[ -f "$OUTPUT_DIR/checkpoints/step" ] && done_before=$(cat "$OUTPUT_DIR/checkpoints/step")
trap 'echo "stopping at step $step"; exit 75' TERM
step=$done_before
while [ "$step" -lt "$steps" ]; do
    step=$((step + 1))
    sleep "$pause"
    printf '{"time": %s, "step": %d, "total_steps": %d, "epoch": 1, "loss": %d, "lr": 0.1, "tokens": %d, "tokens_per_second": 10}\n' \
        "$(date +%s)" "$step" "$steps" "$((steps - step))" "$((step * 10))" >>"$OUTPUT_DIR/metrics.jsonl"
    echo "$step" >"$OUTPUT_DIR/checkpoints/.step" && mv "$OUTPUT_DIR/checkpoints/.step" "$OUTPUT_DIR/checkpoints/step"
    echo "step $step of $steps"
done
echo "counted to $steps" >"$OUTPUT_DIR/model/count.txt"
