# Make a file hold what comes on stdin, or what $from of this host holds: whole or not at all. With $sha256 and neither, only say
# whether it is needed. With $name a folder at $path gets the file below it.
: "${diff?}" "${path?}" "${name?}" "${into?}" "${directory_mode?}" "${part?}" "${from?}" "${take?}" "${sha256?}" "${size?}" "${was?}"
: "${fresh?}" "${backup?}" "${force?}" "${follow?}" "${validate?}" "${unsafe?}" "${parents?}" "${limit?}"
recurse=0
. ./answer.sh
. ./own.sh
shown=$path
case $path in /*) ;; *) path=./$path ;; esac
if [ "$into" -eq 1 ] && [ ! -d "$path" ]; then
  [ ! -e "$path" ] && [ ! -L "$path" ] || fail "$shown is there and is not a folder"
  will || { say dest "${shown%/}/$name"; exit 0; }
  top=$path
  while up=${top%/*}; [ -n "$up" ] && [ ! -d "$up" ]; do top=$up; done
  mkdir -p "$path" || exit 1
  # Each folder that was made gets the mode.
  while [ -z "$directory_mode" ] || chmod -- "$directory_mode" "$top" || exit 1; [ "$top" != "$path" ]; do
    rest=${path#"$top"/}; top=$top/${rest%%/*}
  done
fi
[ -z "$name" ] || [ ! -d "$path" ] || { path=${path%/}/$name; shown=${shown%/}/$name; }
if [ "$follow" -eq 1 ] && [ -L "$path" ]; then
  real=$(readlink -f -- "$path" && echo x) || fail "$shown is a link that leads nowhere"
  path=${real%?x} shown=${real%?x}
fi
say dest "$shown"
[ ! -d "$path" ] || fail "$shown is a folder"
[ ! -e "$path" ] || [ -f "$path" ] || fail "$shown is neither a file nor a folder (a pipe or a device?)"
if [ "$force" -eq 0 ] && [ -e "$path" ]; then say msg "it is there already"; tell "$path"; exit 0; fi
[ -z "$from" ] || no_other "$from"
[ -z "$from" ] || [ -f "$from" ] || fail "there is no file $from on this host"
folder=${path%/*}
folder=${folder:-/}
if [ ! -d "$folder" ]; then
  [ "$parents" -eq 1 ] || [ "$check" -eq 1 ] || fail "there is no folder $folder (make it by 'file' with 'state: directory')"
  will || exit 0
  mkdir -p "$folder" || exit 1
fi
umask 077
trap 'rm -f "$part"' EXIT
part=$folder/$part
sum_of() { [ -e "$path" ] || { echo absent; return; }; sum=$(sha256sum <"$path") && echo "${sum%% *}"; }
if [ -n "$sha256" ]; then same() { [ "$(sum_of)" = "$sha256" ]; }
elif [ -n "$from" ]; then same() { cmp -s -- "$from" "$path"; }
elif [ "$check" -eq 1 ]; then same() { cmp -s - "$path"; }
else
  cat >"$part" || exit 1
  [ "$(wc -c <"$part")" -eq "$size" ] || fail "$shown did not arrive whole"
  same() { cmp -s "$part" "$path"; }
fi
[ -z "$was" ] || [ "$(sum_of)" = "$was" ] || fail "$shown was changed by something else meanwhile"
if [ "$mode" = preserve ]; then mode=$(stat -L -c %a "$from") || exit 1; fi
if [ -f "$path" ] && [ ! -L "$path" ] && same; then
  [ "$take" -eq 0 ] || rm -f "$from"
  own "$path"; tell "$path"; exit 0
fi
changed
if [ "$diff" -eq 1 ]; then
  if [ ! -f "$path" ]; then say before ""
  elif there=$(wc -c <"$path"); [ "$there" -gt "$limit" ] || [ "$(tr -d '\000' <"$path" | wc -c)" -ne "$there" ]; then say_flag binary 1
  else { printf before=; cat "$path"; printf '\0'; } >&3; fi
fi
if [ "$check" -eq 1 ]; then
  [ ! -f "$path" ] || [ -L "$path" ] || own "$path"
  tell "$path"; exit 0
fi
if [ -n "$sha256" ] && [ -z "$from" ]; then say needs "$path"; exit 0; fi
if [ "$take" -eq 1 ]; then mv -f -- "$from" "$part" || exit 1
elif [ -n "$from" ]; then cp -- "$from" "$part" || exit 1; fi
[ "$backup" -eq 0 ] || [ ! -f "$path" ] || keep_backup "$path"
if [ -n "$from" ] && [ "$take" -eq 0 ] && [ -f "$path" ]; then chmod "$(stat -L -c %a "$from")" "$part" || exit 1
elif [ -f "$path" ] && [ ! -L "$path" ]; then
  [ "$(id -u)" -ne 0 ] || chown "$(stat -c %u:%g "$path")" "$part" 2>/dev/null
  chmod "$(stat -c %a "$path")" "$part" || exit 1
else
  # A mode of digits alone is there at once, and nothing is left for own to look after.
  case $mode in ""|*[!0-7]*) now=$(printf %o $((0$fresh & ~0$mask))) ;; *) now=0$mode mode="" ;; esac
  chmod "$now" "$part" || exit 1
fi
if [ -n "$mode$owner$group" ]; then
  [ -f "$path" ] || diff=0
  named=$(printf %s "$shown" | sed 's/%/%%/g')
  own "$part"
fi
if [ -n "$validate" ]; then
  said=$(eval "$validate" 2>&1) || fail "$shown stays as it is, for what it was to become is not valid: $said"
fi
mv -f -- "$part" "$path" || { [ "$unsafe" -eq 1 ] && cat "$part" >"$path"; } || fail "$shown cannot be replaced"
[ -e "$part" ] || trap - EXIT
# What nobody could remove any more, a day ago or earlier: its shell was killed, or its machine went down.
hex='[0-9a-f][0-9a-f][0-9a-f]'
for old in "$folder"/.part-$hex$hex$hex$hex; do
  [ ! -f "$old" ] || [ -z "$(find "$old" -prune -mtime +0)" ] || rm -f "$old"
done
tell "$path"
