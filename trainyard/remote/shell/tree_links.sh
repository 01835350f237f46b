# Make links below a folder: pairs (name, what it leads to) on stdin, each word ended by NUL; say those that were not so, with
# $check without making them.
: "${top?}" "${check?}"
case $top in /*) ;; *) top=$PWD/$top ;; esac
export top check
# shellcheck disable=SC2016 # the inner sh expands it
xargs -0 -n 400 sh -c 'while [ $# -gt 1 ]; do
  at=$top/$1
  if [ ! -L "$at" ] || [ "$(readlink "$at" && echo x)" != "$(printf "%s\nx" "$2")" ]; then
    [ ! -d "$at" ] || [ -L "$at" ] || { echo "$1 is a directory" >&2; exit 1; }
    [ "$check" -eq 1 ] || { rm -f -- "$at" && ln -s -- "$2" "$at"; } || exit 1
    printf "%s\0" "$1"
  fi
  shift 2
done' sh
