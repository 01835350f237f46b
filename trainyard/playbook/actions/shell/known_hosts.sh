# Have a host's key in a file of known hosts (or none of it). The line comes on stdin.
: "${name?}" "${path?}" "${state?}" "${hashed?}"
. ./answer.sh
[ -n "$path" ] || path=$HOME/.ssh/known_hosts
IFS= read -r line || :
needs ssh-keygen "install OpenSSH's client first"
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
: >"$work/has"
[ ! -f "$path" ] || ssh-keygen -F "$name" -f "$path" 2>/dev/null | grep -v '^#' >"$work/has"
kind=$(printf '%s\n' "$line" | awk '{ print $2 }')
if [ "$state" = absent ]; then
  cp "$work/has" "$work/old"
else
  ! awk -v line="$line" 'BEGIN { split(line, new, " ") } $2 == new[2] && $3 == new[3] { found = 1 } END { exit !found }' "$work/has" || exit 0
  awk -v kind="$kind" '$2 == kind' "$work/has" >"$work/old"
fi
[ "$state" = present ] || [ -s "$work/old" ] || exit 0
change
folder=$(dirname "$path")
[ -d "$folder" ] || mkdir -m 0700 "$folder" || exit 1
mode=644
[ ! -f "$path" ] || mode=$(stat -c %a "$path")
part=$(mktemp "$folder/.trainyard.XXXXXX") || exit 1
[ ! -f "$path" ] || grep -vxF -f "$work/old" -- "$path" >"$part"
[ -s "$work/old" ] || [ ! -f "$path" ] || cat "$path" >"$part"
if [ "$state" = present ]; then
  printf '%s\n' "$line" >"$work/line"
  [ "$hashed" = 0 ] || ssh-keygen -q -H -f "$work/line" >/dev/null 2>&1 || exit 1
  cat "$work/line" >>"$part"
fi
chmod "$mode" "$part" && mv -f "$part" "$path" || exit 1
