# Have a setting of the kernel in a file, and if asked for in the running kernel.
: "${name?}" "${value?}" "${state?}" "${file?}" "${set_now?}" "${reload?}" "${ignore?}"
. ./answer.sh
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
[ -f "$file" ] && cat "$file" >"$work/now" || : >"$work/now"
NAME=$name VALUE=$value STATE=$state awk '
  BEGIN { name = ENVIRON["NAME"]; gone = ENVIRON["STATE"] == "absent" }
  {
    key = $0
    sub(/^[ \t]+/, "", key); sub(/[ \t]*=.*/, "", key)
    if ($0 !~ /^[ \t]*[#;]/ && $0 ~ /=/ && key == name) {
      is = $0; sub(/^[^=]*=[ \t]*/, "", is); sub(/[ \t]+$/, "", is)
      if (gone || done++) next
      print is == ENVIRON["VALUE"] ? $0 : name "=" ENVIRON["VALUE"]
      next
    }
    print
  }
  END { if (!gone && !done) print name "=" ENVIRON["VALUE"] }
' "$work/now" >"$work/new" || exit 1
words() { printf '%s' "$1" | tr -s ' \t' ' '; }
now=$(cat "/proc/sys/$(printf %s "$name" | tr . /)" 2>/dev/null)
if [ "$set_now" = 1 ] && [ "$state" = present ] && [ "$(words "$now")" != "$(words "$value")" ]; then
  changed
  [ "$check" = 1 ] || sysctl -w ${ignore:+-e} "$name=$value" </dev/null || exit 1
fi
cmp -s "$work/now" "$work/new" && exit 0
change
mkdir -p "$(dirname "$file")" || exit 1
part=$(mktemp "$(dirname "$file")/.trainyard.XXXXXX") && cat "$work/new" >"$part" && chmod 0644 "$part" && mv -f "$part" "$file" || exit 1
[ "$reload" = 0 ] || sysctl -p ${ignore:+-e} "$file" </dev/null || exit 1
