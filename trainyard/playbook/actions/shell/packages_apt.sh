: "${names?}" "${recommends?}" "${release?}" "${force?}" "${downgrade?}" "${unsigned?}" "${options?}" "${lock_timeout?}" "${purge?}" "${autoremove?}" "${only_upgrade?}"
# apt-get waits for dpkg's lock by itself, not for that of its own lists.
get() {
  set -- -qq -y -o "DPkg::Lock::Timeout=$lock_timeout" -o APT::Update::Error-Mode=any "$@"
  case $recommends in 1) set -- -o APT::Install-Recommends=yes "$@" ;; 0) set -- --no-install-recommends "$@" ;; esac
  [ -z "$release" ] || set -- -t "$release" "$@"
  [ "$force" = 0 ] || set -- --allow-downgrades --allow-remove-essential --allow-change-held-packages --allow-unauthenticated "$@"
  [ "$downgrade" = 0 ] || set -- --allow-downgrades "$@"
  [ "$unsigned" = 0 ] || set -- --allow-unauthenticated "$@"
  [ "$only_upgrade" = 0 ] || set -- --only-upgrade "$@"
  for each in $options; do set -- -o "Dpkg::Options::=--$each" "$@"; done
  DEBIAN_FRONTEND=noninteractive DEBIAN_PRIORITY=critical NEEDRESTART_MODE=a apt-get "$@" </dev/null
}
lists=/var/lib/apt/lists/
eval "$(apt-config shell lists Dir::State::lists/d)"
unlocked() {
  tries=0
  while inode=$(ls -i "${lists}lock" 2>/dev/null) && grep -q ":${inode%% *} " /proc/locks 2>/dev/null && [ $tries -lt "$lock_timeout" ]; do
    tries=$((tries + 1))
    sleep 1
  done
}
# Lists that an image was shipped without are of no time, whatever their folder says.
updated_at() {
  case $(ls "$lists") in *Packages*) ;; *) echo 0 && return ;; esac
  stamp=/var/lib/apt/periodic/update-success-stamp
  [ "$lists" = /var/lib/apt/lists/ ] && [ -e $stamp ] || stamp=$lists
  date -r "$stamp" +%s 2>/dev/null || echo 0
}
refresh() { get update || { sleep 1; get update; }; }
# A pattern means all packages of such a name that the lists know.
called_like() {
  for each in $names; do
    pattern=${each%%=*}
    case $pattern in
      *[*?[]*)
        # shellcheck disable=SC2254 # it is a pattern
        apt-cache pkgnames | { while IFS= read -r package; do case $package in $pattern) printf '%s%s\n' "$package" "${each#"$pattern"}" ;; esac; done; } |
          grep . || fail "no package is called like $each" ;;
      *) printf '%s\n' "$each" ;;
    esac
  done
}
there() {
  package=${1%%=*}
  version='*'
  [ "$package" = "$1" ] || version=${1#*=}
  # shellcheck disable=SC2254 # a version may be a pattern
  dpkg-query -W -f '${db:Status-Status} ${Version}\n' "${package%%/*}" 2>/dev/null |
    { while IFS=' ' read -r status at; do [ "$status" = installed ] && case $at in $version) exit 0 ;; esac; done; exit 1; }
}
provided() {
  dpkg-query -W -f '${db:Status-Status}, ${Provides}\n' 2>/dev/null |
    { while read -r line; do case "$line," in installed*", $1,"* | installed*", $1 ("*) exit 0 ;; esac; done; exit 1; }
}
left() { there "$1" || { [ "$purge" = 1 ] && [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = config-files ]; }; }
snapshot() { dpkg-query -W -f '${Package}:${Architecture} ${Version} ${db:Status-Abbrev}\n' 2>/dev/null; }
verb() {
  how=$1
  shift
  case $how in
    absent)
      [ "$purge" = 0 ] || set -- --purge "$@"
      [ "$autoremove" = 0 ] || set -- --auto-remove "$@"
      set -- remove "$@" ;;
    build-dep) set -- build-dep "$@" ;;
    fixed) set -- -f install "$@" ;;
    all) set -- --with-new-pkgs upgrade ;;
    full) set -- dist-upgrade ;;
    autoremove)
      set -- autoremove
      [ "$purge" = 0 ] || set -- --purge "$@" ;;
    *) set -- install "$@" ;;
  esac
  get ${simulated:+-s} "$@"
}
act() { simulated=; unlocked; verb "$@"; }
planned() {
  simulated=-s
  plan=$(verb "$@") || fail "$plan"
  printf '%s\n' "$plan" | grep -Eq '^(Inst|Remv|Purg) '
}
