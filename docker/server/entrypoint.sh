#!/bin/sh
# A command of Trainyard's in the repository of the volume, which the first one makes.
set -eu
[ -e Pulumi.yaml ] || trainyard init . >&2
exec trainyard "$@"
