# Make a file or a folder a copy of another one of this host; of a folder with $content only what it holds.
: "${path?}" "${from?}" "${content?}"
[ -e "$from" ] || { echo "there is no $from on this host" >&2; exit 1; }
if [ -d "$from" ]; then
  recurse=1
  . ./answer.sh
  . ./own.sh
  [ "$content" -eq 1 ] || path=${path%/}/${from##*/}
  say dest "$path"
  case $path in /*) ;; *) path=$PWD/$path ;; esac
  export path check
  cd "$from" || exit 1
  # shellcheck disable=SC2016 # the inner sh expands it
  find . -type d -exec sh -c 'for f; do
    [ -d "$path/$f" ] || { printf "changed?1\0" >&3; [ "$check" -eq 1 ] || mkdir -p -- "$path/$f" || exit 1; }
  done' sh {} + || exit 1
  # shellcheck disable=SC2016
  find . ! -type d -exec sh -c 'for f; do
    if [ -L "$f" ]; then [ ! -L "$path/$f" ] || [ "$(readlink "$f")" != "$(readlink "$path/$f")" ] || continue
    elif [ ! -f "$f" ]; then echo "$f is neither a file nor a folder" >&2; exit 1
    elif [ ! -L "$path/$f" ] && cmp -s "$f" "$path/$f"; then continue; fi
    printf "changed?1\0" >&3
    [ "$check" -eq 0 ] || continue
    part=$path/${f%/*}/.part-$$
    cp -pP -- "$f" "$part" && mv -f -- "$part" "$path/$f" || { rm -f "$part"; exit 1; }
  done' sh {} + || exit 1
  [ -e "$path" ] || exit 0
  # Owner and group are of all that lies there, the mode is of the folder.
  wished=$mode mode=
  own "$path"
  mode=$wished owner='' group='' only=-prune
  own "$path"
  tell "$path"; exit 0
fi
. ./put.sh
