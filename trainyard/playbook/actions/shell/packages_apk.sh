: "${repository?}" "${lock_timeout?}"
get() {
  [ -z "$repository" ] || set -- --repository "$repository" "$@"
  apk --no-progress --wait "$lock_timeout" "$@" </dev/null
}
updated_at() { date -r /lib/apk/db/installed +%s 2>/dev/null || echo 0; }
refresh() { get update; }
there() { apk info -e "$1" >/dev/null 2>&1; }
provided() { false; }
left() { there "$1"; }
snapshot() { apk info -v 2>/dev/null | sort; }
verb() {
  how=$1
  shift
  case $how in
    absent) get del ${simulated:+-s} "$@" ;;
    latest) get add -u ${simulated:+-s} "$@" ;;
    all | full) get upgrade ${simulated:+-s} ;;
    autoremove) : ;;
    *) get add ${simulated:+-s} "$@" ;;
  esac
}
act() {
  simulated=
  verb "$@" || return 1
  shift
  # What others need apk leaves where it is, and ends well.
  [ "$how" != absent ] || for each; do ! there "$each" || fail "$each is still there: other packages need it"; done
}
planned() {
  simulated=-s
  plan=$(verb "$@") || fail "$plan"
  printf '%s\n' "$plan" | grep -q '^('
}
