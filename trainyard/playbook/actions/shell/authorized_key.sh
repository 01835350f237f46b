# Have keys in a user's authorized_keys (or not). The lines come on stdin.
: "${user?}" "${path?}" "${state?}" "${exclusive?}" "${manage_dir?}"
. ./answer.sh
entry=$(grep -m 1 "^$user:" /etc/passwd) || lacking "there is no user $user"
owner=$(printf %s "$entry" | cut -d: -f3,4)
[ -n "$path" ] || path=$(printf %s "$entry" | cut -d: -f6)/.ssh/authorized_keys
say keyfile "$path"
[ ! -L "$path" ] || path=$(readlink -f "$path")
folder=$(dirname "$path")
now=/dev/null
[ ! -f "$path" ] || now=$path
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cat >"$work/lines"
# A key is its kind and its letters; what stands before and behind is how it is used.
STATE=$state EXCLUSIVE=$exclusive awk '
  function id(line) { return match(line, /(ssh-|ecdsa-|sk-)[a-z0-9@.-]+[ \t]+AAAA[0-9A-Za-z+\/=]+/) ? substr(line, RSTART, RLENGTH) : "" }
  NR == FNR { order[++n] = id($0); wanted[id($0)] = $0; next }
  {
    key = id($0)
    if (key in wanted) {
      if (ENVIRON["STATE"] == "absent") next
      if ($0 != wanted[key] || done[key]) next
      done[key] = 1
      print
    } else if (ENVIRON["EXCLUSIVE"] != "1") print
  }
  END { if (ENVIRON["STATE"] != "absent") for (i = 1; i <= n; i++) if (!done[order[i]]++) print wanted[order[i]] }
' "$work/lines" "$now" >"$work/new" || exit 1
if [ "$state" = absent ] && [ "$now" = /dev/null ]; then exit 0; fi
if ! cmp -s "$work/new" "$now" || [ "$now" = /dev/null ]; then
  change
  if [ ! -d "$folder" ]; then
    [ "$manage_dir" = 1 ] || fail "there is no folder $folder"
    mkdir -m 0700 "$folder" && chown "$owner" "$folder" || exit 1
  fi
  part=$(mktemp "$folder/.trainyard.XXXXXX") && cat "$work/new" >"$part" && chmod 0600 "$part" && chown "$owner" "$part" && mv -f "$part" "$path" || exit 1
fi
