# Make an account be there as it shall be, or be gone. The hash of its password comes on stdin.
: "${name?}" "${state?}" "${uid?}" "${group?}" "${groups?}" "${has_groups?}" "${append?}" "${shell?}" "${home?}" "${create_home?}" "${move_home?}"
: "${system?}" "${remove?}" "${force?}" "${comment?}" "${has_comment?}" "${update_password?}" "${lock?}" "${non_unique?}" "${skeleton?}" "${expires?}"
: "${key?}" "${key_type?}" "${key_bits?}" "${key_file?}" "${key_comment?}"
. ./answer.sh
IFS= read -r password || :
needs useradd "install it first ('package: {name: shadow}')"
entry() { grep -m 1 "^$name:" /etc/passwd; }
field() { entry | cut -d: -f"$1"; }
shadow() { grep -m 1 "^$name:" /etc/shadow 2>/dev/null | cut -d: -f"$1"; }
number() { case $1 in *[!0-9]*) grep -m 1 "^$1:" /etc/group | cut -d: -f3 ;; *) echo "$1" ;; esac; }
sorted() { sed 's/[ ,]/\n/g' | grep . | sort -u; }
set_password() { [ -z "$password" ] || printf '%s:%s\n' "$name" "$password" | chpasswd -e; }
say name "$name"
say state "$state"
if [ "$state" = absent ]; then
  [ -n "$(entry)" ] || exit 0
  change
  set --
  [ "$remove" = 0 ] || set -- -r
  [ "$force" = 0 ] || set -- "$@" -f
  userdel "$@" -- "$name" || exit 1
  exit 0
fi
for each in $group $(printf %s "$groups" | tr ',' ' '); do
  { [ -n "$(number "$each")" ] && grep -q "^[^:]*:[^:]*:$(number "$each"):" /etc/group; } || lacking "there is no group $each"
done
set --
[ -z "$expires" ] || [ "$(shadow 8)" = "${expires#-1}" ] || set -- -e "$expires"
if [ -z "$(entry)" ]; then
  change
  [ -z "$uid" ] || set -- "$@" -u "$uid"
  [ "$non_unique" = 0 ] || set -- "$@" -o
  if [ -n "$group" ]; then set -- "$@" -g "$group"; elif grep -q "^$name:" /etc/group; then set -- "$@" -N; fi
  [ -z "$groups" ] || set -- "$@" -G "$groups"
  [ -z "$comment" ] || set -- "$@" -c "$comment"
  [ -z "$home" ] || set -- "$@" -d "$home"
  [ -z "$shell" ] || set -- "$@" -s "$shell"
  [ "$system" = 0 ] || set -- "$@" -r
  if [ "$create_home" = 1 ]; then set -- "$@" -m ${skeleton:+-k "$skeleton"}; else set -- "$@" -M; fi
  useradd "$@" -- "$name" || exit 1
  set_password || exit 1
  [ "$lock" != 1 ] || usermod -L -- "$name" || exit 1
else
  [ -z "$uid" ] || [ "$(field 3)" = "$uid" ] || { set -- "$@" -u "$uid"; [ "$non_unique" = 0 ] || set -- "$@" -o; }
  [ -z "$group" ] || [ "$(field 4)" = "$(number "$group")" ] || set -- "$@" -g "$group"
  if [ "$has_groups" = 1 ]; then
    has=$(grep -E "[:,]$name(,|\$)" /etc/group | cut -d: -f1 | sorted)
    wanted=$(printf %s "$groups" | sorted)
    if [ "$append" = 1 ]; then
      missing=$(for each in $wanted; do printf '%s\n' "$has" | grep -qxF -e "$each" || printf '%s,' "$each"; done)
      [ -z "$missing" ] || set -- "$@" -a -G "${missing%,}"
    else
      [ "$has" = "$wanted" ] || set -- "$@" -G "$groups"
    fi
  fi
  [ "$has_comment" = 0 ] || [ "$(field 5)" = "$comment" ] || set -- "$@" -c "$comment"
  if [ -n "$home" ] && [ "$(field 6)" != "$home" ]; then set -- "$@" -d "$home"; [ "$move_home" = 0 ] || set -- "$@" -m; fi
  [ -z "$shell" ] || [ "$(field 7)" = "$shell" ] || set -- "$@" -s "$shell"
  case $lock$(shadow 2) in 1!*) ;; 1*) set -- "$@" -L ;; 0!*) set -- "$@" -U ;; esac
  [ $# -eq 0 ] || { change; usermod "$@" -- "$name" || exit 1; }
  # One that is locked keeps its mark.
  is=$(shadow 2)
  if [ -n "$password" ] && [ "$update_password" = always ] && [ "${is#!}" != "${password#!}" ]; then change; set_password || exit 1; fi
  place=$(field 6)
  if [ "$create_home" = 1 ] && [ ! -d "$place" ]; then
    change
    mkdir -p "$place" && cp -R "${skeleton:-/etc/skel}/." "$place" && chown -R "$name:$(field 4)" "$place" || exit 1
    chmod "$(sed -n 's/^HOME_MODE[[:space:]]*0*\([0-7]*\).*/\1/p' /etc/login.defs 2>/dev/null | grep . || echo 755)" "$place" || exit 1
  fi
fi
say_number uid "$(field 3)"
say_number group "$(field 4)"
say comment "$(field 5)"
say home "$(field 6)"
say shell "$(field 7)"
if [ "$key" = 1 ]; then
  case $key_file in "") key_file=$(field 6)/.ssh/id_$key_type ;; /*) ;; *) key_file=$(field 6)/$key_file ;; esac
  needs ssh-keygen "install OpenSSH's client first"
  if [ ! -e "$key_file" ]; then
    change
    folder=$(dirname "$key_file")
    [ -d "$folder" ] || { mkdir -m 0700 "$folder" && chown "$(field 3):$(field 4)" "$folder"; } || exit 1
    ssh-keygen -q -t "$key_type" ${key_bits:+-b "$key_bits"} -C "${key_comment:-$name@$(uname -n)}" -N '' -f "$key_file" </dev/null || exit 1
    chown "$(field 3):$(field 4)" "$key_file" "$key_file.pub" || exit 1
  fi
  say ssh_key_file "$key_file"
  say ssh_public_key "$(cat "$key_file.pub")"
  say ssh_fingerprint "$(ssh-keygen -l -f "$key_file.pub")"
fi
