# Have a line among the sources of apt, or in none of its files; what cannot be read is taken back.
: "${repo?}" "${file?}" "${state?}" "${mode?}" "${update?}"
. ./answer.sh
command -v apt-get >/dev/null 2>&1 || fail "this machine has no apt-get"
folder=/etc/apt/sources.list.d
say repo "$repo"
plain() { sed 's/#.*//; s/[[:space:]][[:space:]]*/ /g; s/^ //; s/ $//' "$@"; }
wanted=$(printf '%s\n' "$repo" | plain)
holding() {
  for each in /etc/apt/sources.list "$folder"/*.list; do
    [ -f "$each" ] && plain "$each" | grep -qxF -e "$wanted" && printf '%s\n' "$each"
  done
}
held=$(holding)
update() {
  tries=0
  while inode=$(ls -i /var/lib/apt/lists/lock 2>/dev/null) && grep -q ":${inode%% *} " /proc/locks && [ $tries -lt 60 ]; do
    tries=$((tries + 1))
    sleep 1
  done
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=60 -o APT::Update::Error-Mode=any update </dev/null
}
if [ "$state" = absent ]; then
  [ -n "$held" ] || exit 0
  change
  IFS='
'
  for each in $held; do
    rest=$(while IFS= read -r line || [ -n "$line" ]; do
      [ "$(printf '%s\n' "$line" | plain)" = "$wanted" ] || printf '%s\n' "$line"
    done <"$each")
    if [ -n "$rest" ]; then printf '%s\n' "$rest" >"$each.new" && mv -f "$each.new" "$each"; else rm -f "$each"; fi || exit 1
  done
  [ "$update" = 0 ] || update || exit 1
  exit 0
fi
[ -z "$held" ] || exit 0
change
mkdir -p "$folder" || exit 1
path=$folder/$file.list
part=$(mktemp "$folder/.trainyard.XXXXXX") || exit 1
old=$(cat "$path" 2>/dev/null; echo x)
{ printf %s "${old%x}"; printf '%s\n' "$repo"; } >"$part" && chmod "$mode" "$part" && mv -f "$part" "$path" || exit 1
say_item sources_added "$path"
if [ "$update" = 1 ] && ! update; then
  if [ "$old" = x ]; then rm -f "$path"; else printf %s "${old%x}" >"$path"; fi
  fail "$repo cannot be read (see above): the line was taken back"
fi
