#!/bin/sh
mkdir -p "$OUTPUT_DIR/model" "$OUTPUT_DIR/checkpoints/step-10" "$OUTPUT_DIR/checkpoints/step-20"
head -c 300000 /dev/urandom > "$OUTPUT_DIR/model/weights.bin"
head -c 200000 /dev/urandom > "$OUTPUT_DIR/checkpoints/step-10/state.pt"
head -c 200000 /dev/urandom > "$OUTPUT_DIR/checkpoints/step-20/state.pt"
(cd "$OUTPUT_DIR" && sha256sum -- */*.bin */*/*.pt)
echo left
