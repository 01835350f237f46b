# Sourced: place FOLDER moves every file below it to the same name below `$top`, a few processes for each of its folders.
: "${top?}"
case $top in /*) ;; *) top=$PWD/$top ;; esac
export top
place() {
  # shellcheck disable=SC2016 # the inner sh expands it
  (cd "$1" && find . -type d -print0 | xargs -0 sh -c 'for d; do
    find "$d" -maxdepth 1 -type f -print0 | xargs -0 sh -c "[ \$# -eq 0 ] || mv -f -- \"\$@\" \"\$0/\"" "$top/$d" || exit 1
  done' sh)
}
