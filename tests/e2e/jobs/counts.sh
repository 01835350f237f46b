#!/bin/sh
# A training of five steps with a checkpoint each; $1 is the step at which it dies. It goes on from where TRAINYARD_RESUME says.
mkdir -p "$OUTPUT_DIR/checkpoints" "$OUTPUT_DIR/model"
n=0
[ -z "${TRAINYARD_RESUME:-}" ] || n=$(cat "$TRAINYARD_RESUME/step")
echo "from $n"
while [ "$n" -lt 5 ]; do
    n=$((n + 1))
    mkdir "$OUTPUT_DIR/.new" && echo "$n" >"$OUTPUT_DIR/.new/step" && mv "$OUTPUT_DIR/.new" "$OUTPUT_DIR/checkpoints/step-$n"
    echo "step $n"
    [ "$1" != "$n" ] || exit 3
done
cp "$OUTPUT_DIR/checkpoints/step-$n/step" "$OUTPUT_DIR/model/last"
