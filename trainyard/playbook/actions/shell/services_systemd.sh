: "${check?}" "${name?}" "${state?}" "${enabled?}" "${scope?}" "${no_block?}" "${reload?}" "${reexec?}" "${force?}"
# Over SSH a user's own services are reached by this folder.
[ "$scope" != --user ] || export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$(id -u)}"
ctl() {
  # shellcheck disable=SC2086 # either may be nothing
  systemctl $scope $no_block "$@" </dev/null
}
[ "$reload" = 0 ] || [ "$check" = 1 ] || ctl daemon-reload || exit 1
[ "$reexec" = 0 ] || [ "$check" = 1 ] || ctl daemon-reexec || exit 1
loaded() {
  case $scope in
    # For all users' managers at once nothing is loaded; there are only files.
    --global) ctl is-enabled -- "$name" 2>/dev/null ;;
    *) ctl show -p LoadState -- "$name" 2>/dev/null | sed 's/^LoadState=//' ;;
  esac
}
exists() {
  case $(loaded) in
    not-found | "") [ -x "/etc/init.d/$name" ] ;;
    masked)
      # What is masked can be stopped and kept from beginning with the machine, which it does not.
      case $enabled$state in *1* | *started | *reloaded) [ "$check" = 1 ] || fail "the service $name is masked: write 'masked: false'" ;; esac ;;
  esac
}
is_running() { case $(ctl is-active -- "$name" 2>/dev/null) in active | activating | reloading) return 0 ;; *) return 1 ;; esac; }
is_enabled() { ctl is-enabled -- "$name" >/dev/null 2>&1 && echo 1 || echo 0; }
is_masked() { [ "$(loaded)" = masked ] && echo 1 || echo 0; }
set_enabled() {
  set -- "$([ "$1" = 1 ] && echo enable || echo disable)"
  [ "$force" = 0 ] || set -- "$1" --force
  ctl "$@" -- "$name"
}
set_masked() { ctl "$([ "$1" = 1 ] && echo mask || echo unmask)" -- "$name"; }
act() { ctl "$1" -- "$name"; }
