: "${path?}" "${limit?}"
. ./answer.sh
no_other "$path"
[ -f "$path" ] || fail "there is no file $path"
[ "$(wc -c <"$path")" -le "$limit" ] || fail "$path is too big for a variable: fetch it"
cat <"$path" >&3
