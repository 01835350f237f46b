# Have a module in the kernel, or not; and if asked for after it begins anew.
: "${name?}" "${params?}" "${state?}" "${persistent?}"
. ./answer.sh
command -v modprobe >/dev/null 2>&1 || fail "this machine has no modprobe (a container takes the kernel of its host as it is)"
word=$(printf %s "$name" | tr - _)
loaded() { grep -qs "^$word " /proc/modules || grep -qs "/$name\.ko" "/lib/modules/$(uname -r)/modules.builtin" || [ -d "/sys/module/$word" ]; }
if [ "$state" = present ] && ! loaded; then
  changed
  # shellcheck disable=SC2086 # words
  [ "$check" = 1 ] || modprobe -- "$name" $params </dev/null || exit 1
elif [ "$state" = absent ] && grep -q "^$word " /proc/modules; then
  changed
  [ "$check" = 1 ] || modprobe -r -- "$name" </dev/null || exit 1
fi
file=/etc/modules-load.d/$name.conf options=/etc/modprobe.d/$name.conf
have() {
  if [ -n "$2" ]; then [ "$(cat "$1" 2>/dev/null)" = "$2" ] || { changed; [ "$check" = 1 ] || printf '%s\n' "$2" >"$1" || exit 1; }
  else [ ! -e "$1" ] || { changed; [ "$check" = 1 ] || rm -f "$1" || exit 1; }; fi
}
case $persistent in
  present) have "$file" "$name"; [ -z "$params" ] || have "$options" "options $name $params" ;;
  absent) have "$file" ''; have "$options" '' ;;
esac
exit 0
