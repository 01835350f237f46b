# Make packages be there, be the newest, or be gone, by whichever manager this machine has.
: "${use?}" "${names?}" "${state?}" "${update?}" "${valid_for?}" "${upgrade?}" "${deb?}" "${autoremove?}" "${clean?}" "${lock_timeout?}"
. ./answer.sh
set -f
for each in apt-get dnf yum apk; do
  [ -z "$use" ] && command -v $each >/dev/null 2>&1 && use=$each
done
case $use in
  apt | apt-get)
    use=apt-get
    . ./packages_apt.sh
    ;;
  dnf | yum)
    . ./packages_dnf.sh
    ;;
  apk)
    . ./packages_apk.sh
    ;;
  *) fail "this machine has neither apt-get, dnf, yum nor apk" ;;
esac
command -v "$use" >/dev/null 2>&1 || fail "this machine has no $use: 'package' takes whichever manager is there"
[ "$check" = 1 ] || [ "$(id -u)" = 0 ] || fail "who is not root installs nothing: write 'become: true'"
IFS='
'
wait_for_none() { [ "$use" != apt-get ] || unlocked; }
carry_out() {
  if [ "$check" = 1 ]; then
    ! planned "$@" || changed
  else
    before=$(snapshot)
    act "$@" || exit 1
    [ "$before" = "$(snapshot)" ] || changed
  fi
}

at=$(updated_at)
cache_updated=0
if [ "$update" = 1 ] && [ $((at + valid_for)) -le "$(date +%s)" ]; then
  if [ "$check" = 1 ]; then
    cache_updated=1
  else
    wait_for_none
    refresh || exit 1
    now=$(updated_at)
    [ "$now" = "$at" ] || cache_updated=1
    # What found nothing new counts for cache_valid_time as well.
    [ "$use" != apt-get ] || [ "$now" != "$at" ] || touch "$lists" 2>/dev/null
    at=$(updated_at)
  fi
fi
say_flag cache_updated $cache_updated
say_number cache_update_time "$at"
[ -n "$names$deb$upgrade$clean" ] || [ "$autoremove" = 1 ] || [ $cache_updated = 0 ] || changed

[ -z "$upgrade" ] || carry_out "$upgrade"
if [ -n "$deb" ]; then
  case $deb in
    *://*)
      work=$(mktemp -d) || exit 1
      trap 'rm -rf "$work"' EXIT
      timeout=30 insecure='' agent=''
      : >"$work/headers"
      . ./transfer.sh
      load_url "$deb" "$work/package.deb" || fail "$deb cannot be fetched"
      deb=$work/package.deb ;;
  esac
  { deb=$(readlink -f "$deb") && version=$(dpkg-deb -f "$deb" Version) && name=$(dpkg-deb -f "$deb" Package); } || fail "$deb is no package of Debian"
  there "$name=$version" || carry_out present "$deb"
fi
case $use$state$names in apt-getabsent* | apt-getlatest\*) ;; apt-get*) names=$(called_like) || exit 1 ;; esac
set --
for each in $names; do
  case $state in
    present) there "$each" || provided "$each" || set -- "$@" "$each" ;;
    absent) ! left "$each" || set -- "$@" "$each" ;;
    *) set -- "$@" "$each" ;;
  esac
done
if [ $# -gt 0 ] || [ "$state" = fixed ]; then
  case $state$names in latest\*) carry_out all ;; *) carry_out "$state" "$@" ;; esac
fi
[ "$autoremove" = 0 ] || [ -n "$names$deb" ] || carry_out autoremove
[ -z "$clean" ] || [ "$check" = 1 ] || get "$clean" || exit 1
exit 0
