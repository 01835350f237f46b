: "${path?}"
there() { [ -e "$path" ]; }
. ./wait_for.sh
