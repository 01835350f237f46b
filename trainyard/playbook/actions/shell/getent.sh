# An entry of one of the system's databases, or all of it.
: "${database?}" "${key?}" "${fail_key?}"
. ./answer.sh
command -v getent >/dev/null 2>&1 || fail "this machine has no getent"
lines=$(getent "$database" ${key:+"$key"} 2>&1)
code=$?
case $code in
  0) printf '%s\n' "$lines" | while IFS= read -r line; do [ -z "$line" ] || say_item entries "$line"; done ;;
  1) fail "there is no database $database here" ;;
  2) [ "$fail_key" = 0 ] || fail "$database has no $key"; say_item missing "$key" ;;
  *) fail "$database cannot be read: $lines" ;;
esac
