#!/bin/sh
# A real, small training for tests: STEPS steps of PAUSE seconds, a metrics line each, a model at the end.
# TERM makes it save what it has and exit 75, as recipes do. LEFT_OVER=1 starts a daemon that nobody waits for.
STEPS=${1:-5} PAUSE=${2:-0.1} LEFT_OVER=${3:-0}
mkdir -p "$OUTPUT_DIR/model"
save() { printf 'steps %s\n' "$step" >"$OUTPUT_DIR/model/model.txt"; head -c 300000 /dev/zero >"$OUTPUT_DIR/model/weights.bin"; }
trap 'save; echo "stopped at step $step"; exit 75' TERM
[ "$LEFT_OVER" = 1 ] && setsid sh -c 'trap "" TERM HUP INT; while :; do sleep 1; done' >/dev/null 2>&1 </dev/null &
step=0
while [ "$step" -lt "$STEPS" ]; do
    step=$((step + 1))
    sleep "$PAUSE" &
    wait $!
    printf '{"time": %s, "step": %s, "total_steps": %s, "loss": %s, "tokens": %s, "tokens_per_second": 10}\n' \
        "$(date +%s)" "$step" "$STEPS" "$((STEPS - step)).5" "$((step * 7))" >>"$OUTPUT_DIR/metrics.jsonl"
    echo "step $step of $STEPS"
done
save
echo "done"
