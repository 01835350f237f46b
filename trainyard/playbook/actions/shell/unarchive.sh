# Unpack an archive below a folder, unless all of it lies there already. The archive comes on stdin, or is $src of this host.
: "${src?}" "${dest?}" "${creates?}" "${options?}" "${members?}" "${exclude?}" "${mode?}" "${owner?}" "${group?}" "${timeout?}" "${insecure?}" "${agent?}"
recurse=0
. ./answer.sh
. ./own.sh
[ -z "$creates" ] || [ ! -e "$creates" ] || { say_flag skipped 1; say msg "$creates is there already"; exit 0; }
[ -d "$dest" ] || lacking "there is no folder $dest (make it by 'file' with 'state: directory')"
say dest "$dest"
work=$(mktemp -d "$dest/.trainyard.XXXXXX" 2>/dev/null || mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
: >"$work/headers"
. ./transfer.sh
case $src in
  "") src=$work/archive; cat >"$src" || exit 1 ;;
  *://*) load_url "$src" "$work/archive" || fail "$src cannot be fetched${status:+ (status $status)}"; src=$work/archive ;;
  *) no_other "$src"; [ -f "$src" ] || lacking "there is no file $src on this host" ;;
esac
IFS='
'
set -f
set --
for each in $options; do set -- "$@" "$each"; done
if [ "$(head -c 2 "$src")" = PK ]; then
  say handler zip
  needs unzip "install it first ('package: {name: unzip}')"
  # shellcheck disable=SC2086 # lists, an item a line
  unpack_into() { unzip -q -o "$@" "$src" $members ${exclude:+-x $exclude} -d "$work/new" </dev/null; }
  gnu=
else
  say handler tar
  for each in $exclude; do set -- "$@" "--exclude=$each"; done
  gnu=$(tar --version 2>/dev/null | grep GNU)
  # shellcheck disable=SC2086
  unpack_into() {
    # There is a tar (of busybox) that wants to be told how an archive is packed.
    for packed in '' -z -j -J; do ! tar -t $packed -f "$src" >"$work/said" 2>&1 || break; done
    tar -x $packed -C "$work/new" "$@" -f "$src" $members </dev/null
  }
fi
if [ -n "$gnu" ]; then
  # shellcheck disable=SC2086
  names=$(tar -t --show-transformed-names "$@" -f "$src" $members) || fail "$src is no archive that tar or unzip can read"
  names=$(printf '%s\n' "$names" | sed 's|^/*||; s|/$||' | grep -v '^\.*$')
  # shellcheck disable=SC2086
  same() {
    LC_ALL=C tar --diff -C "$dest" "$@" -f "$src" $members >"$work/said" 2>&1 && return 0
    # What is given below belongs to nobody of the archive; who is not root owns what he unpacks.
    # Of a folder that --strip-components takes off tar says so without a name.
    skip='^tar: : '
    { [ "$(id -u)" -eq 0 ] && [ -z "$owner" ]; } || skip="$skip|: Uid differs\$"
    { [ "$(id -u)" -eq 0 ] && [ -z "$group" ]; } || skip="$skip|: Gid differs\$"
    [ -z "$mode" ] || skip="$skip|: Mode differs\$"
    ! grep -Evq "$skip" "$work/said"
  }
  # shellcheck disable=SC2086
  unpack() { tar -x -C "$dest" "$@" -f "$src" $members </dev/null; }
else
  mkdir "$work/new" || exit 1
  unpack_into "$@" || fail "$src is no archive that tar or unzip can read"
  names=$(cd "$work/new" && find . ! -name . -print)
  same() {
    for each in $names; do
      if [ -L "$work/new/$each" ]; then [ "$(readlink "$work/new/$each")" = "$(readlink "$dest/$each")" ] || return 1
      elif [ -d "$work/new/$each" ]; then [ -d "$dest/$each" ] || return 1
      else cmp -s "$work/new/$each" "$dest/$each" || return 1; fi
    done
  }
  # One by one: the folder itself stays as it is.
  unpack() { find "$work/new/." ! -name . -prune -exec cp -R -P -p {} "$dest/" \;; }
fi
if ! same "$@"; then
  change
  unpack "$@" || fail "the archive cannot be unpacked"
fi
if [ -n "$mode$owner$group" ]; then
  set --
  for each in $names; do [ ! -e "$dest/$each" ] || set -- "$@" "$dest/$each"; done
  unset IFS
  [ $# -eq 0 ] || own "$@"
fi
