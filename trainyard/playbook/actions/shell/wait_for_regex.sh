: "${path?}" "${regex?}"
there() { grep -qE -e "$regex" -- "$path" 2>/dev/null; }
. ./wait_for.sh
