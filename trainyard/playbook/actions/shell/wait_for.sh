# Wait until there() is as $wanted; exit code 1 when $seconds are over.
: "${wanted?}" "${seconds?}" "${pause?}" "${delay?}"
stop=$(($(date +%s) + seconds))
sleep "$delay"
while :; do
  there; found=$?
  [ "$wanted" = present ] && [ $found -eq 0 ] && exit 0
  [ "$wanted" = absent ] && [ $found -ne 0 ] && exit 0
  [ "$(date +%s)" -lt $stop ] || exit 1
  sleep "$pause"
done
