# Make the folders on stdin (each ended by NUL) below a folder; say those that were not there, with $check without making them.
: "${top?}" "${check?}"
case $top in /*) ;; *) top=$PWD/$top ;; esac
export top check
# shellcheck disable=SC2016 # the inner sh expands it
xargs -0 sh -c 'for d; do
  [ ! -d "$top/$d" ] || continue
  [ "$check" -eq 1 ] || mkdir -p -- "$top/$d" || exit 1
  printf "%s\0" "$d"
done' sh
