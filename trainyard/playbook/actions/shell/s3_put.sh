# Send a file to the address on stdin.
: "${path?}"
. ./answer.sh
IFS= read -r url || [ -n "$url" ] || fail "no address came"
command -v curl >/dev/null || fail "curl is not on this host"
printf 'url = "%s"\n' "$url" | curl -fsS --connect-timeout 20 --speed-time 60 --speed-limit 1 --retry 3 -H 'Expect:' -o /dev/null -T "$path" -K - ||
  fail "curl could not send it (exit code $?)"
