#!/bin/sh
# Works until it is given the word.
mkdir -p "$OUTPUT_DIR/model"
echo begun
while [ ! -e "$WORKSPACE/go" ]; do sleep 0.1; done
head -c 3000000 /dev/urandom >"$OUTPUT_DIR/model/weights.bin"
echo precious >"$OUTPUT_DIR/model/model.txt"
echo "done"
