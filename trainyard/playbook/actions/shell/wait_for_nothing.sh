# Just so long.
: "${seconds?}"
sleep "$seconds"
