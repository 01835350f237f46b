# Have a file that an address names: whole, of the promised sum, or not at all. Headers, a line each, come on stdin.
: "${url?}" "${path?}" "${name?}" "${algorithm?}" "${sum?}" "${sums_url?}" "${force?}" "${timeout?}" "${insecure?}" "${agent?}" "${backup?}" "${mode?}"
recurse=0
. ./answer.sh
. ./own.sh
shown=$url
work=$(mktemp -d) || exit 1
part=
trap 'rm -rf "$work" ${part:+"$part"}' EXIT
IFS= read -r login || :
cat >"$work/headers"
. ./transfer.sh
sum_of() { set -- "$("${algorithm}sum" <"$1")" && printf '%s\n' "${1%% *}"; }
say url "$url"
into=0
if [ -d "$path" ]; then into=1 path=${path%/}/$name; fi
say dest "$path"
[ ! -d "$path" ] || fail "$path is a folder"
folder=$(dirname "$path")
[ -d "$folder" ] || [ "$check" = 1 ] || fail "there is no folder $folder (make it by 'file' with 'state: directory')"
if [ -n "$sums_url" ]; then
  load_url "$sums_url" "$work/sums" || fail "the sums at $sums_url cannot be fetched"
  # A file of one sum, or of lines "SUM  NAME".
  file=${url%%[?#]*}
  sum=$(tr -d '\r' <"$work/sums" | awk -v name="${file##*/}" '{ sub(/^[*.\/]+/, "", $2) } NF == 1 && NR == 1 { only = $1 } $2 == name { print $1; found = 1; exit }
    END { if (!found && NR == 1 && only) print only }')
  [ -n "$sum" ] || fail "$sums_url names no sum of ${file##*/}"
fi
sum=$(printf %s "$sum" | tr 'A-F' 'a-f')
new=1
if [ -f "$path" ] && [ $into = 0 ] && [ "$force" = 0 ]; then
  if [ -n "$sum" ]; then
    [ "$(sum_of "$path")" != "$sum" ] || new=0
  else
    since=$(LC_ALL=C date -u -r "$path" '+%a, %d %b %Y %H:%M:%S GMT')
  fi
fi
if [ $new = 1 ] && [ "$check" = 1 ] && [ ! -f "$path" ]; then changed; exit 0; fi
if [ $new = 1 ]; then
  load_url "$url" "$work/file" "${since:-}" || fail "$shown cannot be fetched${status:+ (status $status)}"
  say_number status_code "${status:-200}"
  # 304: nothing newer is there.
  [ "$status" != 304 ] || new=0
fi
if [ $new = 1 ]; then
  [ -e "$work/file" ] || : >"$work/file"
  if [ -n "$sum" ]; then
    is=$(sum_of "$work/file") || exit 1
    [ "$is" = "$sum" ] || fail "what came from $shown has the $algorithm $is, not $sum"
  fi
  if [ ! -f "$path" ] || ! cmp -s "$work/file" "$path"; then
    change
    [ "$backup" -eq 0 ] || [ ! -f "$path" ] || keep_backup "$path"
    # In its folder first: a name is given at one stroke only within a file system.
    part=$(mktemp "$folder/.trainyard.XXXXXX") && cat "$work/file" >"$part" || exit 1
    if [ -f "$path" ]; then
      [ "$(id -u)" -ne 0 ] || chown "$(stat -c %u:%g "$path")" "$part"
      chmod "$(stat -c %a "$path")" "$part" || exit 1
    else
      chmod "$(printf %o $((0666 & ~0$mask)))" "$part" || exit 1
    fi
    own "$part"
    mv -f -- "$part" "$path" || exit 1
    part=
  fi
fi
[ ! -e "$path" ] || own "$path"
[ ! -e "$path" ] || { sha=$(sha1sum <"$path") && say checksum_dest "${sha%% *}"; say checksum_src "${sha%% *}"; }
tell "$path"
