: "${use?}" "${enablerepo?}" "${disablerepo?}" "${unsigned?}" "${downgrade?}" "${recommends?}"
get() {
  [ "$unsigned" = 0 ] || set -- --nogpgcheck "$@"
  for each in $enablerepo; do set -- "--enablerepo=$each" "$@"; done
  for each in $disablerepo; do set -- "--disablerepo=$each" "$@"; done
  case $use$recommends in dnf0) set -- --setopt=install_weak_deps=False "$@" ;; dnf1) set -- --setopt=install_weak_deps=True "$@" ;; esac
  "$use" -y -q "$@" </dev/null
}
updated_at() { echo 0; }
refresh() { get makecache; }
named() { case $1 in /*.rpm | *://*) rpm -qp --nosignature --qf '%{name}-%{version}-%{release}.%{arch}' "$1" 2>/dev/null ;; *) printf %s "$1" ;; esac; }
there() { rpm -q --whatprovides "$(named "$1")" >/dev/null 2>&1 || rpm -q "$(named "$1")" >/dev/null 2>&1; }
provided() { false; }
# A pattern is asked of what is there; a group (@name) is known to the manager alone.
left() { case $1 in @*) ;; *[*?[]*) [ -n "$(rpm -qa "$1")" ] ;; *) there "$1" ;; esac; }
snapshot() { rpm -qa --qf '%{nevra}\n' | sort; }
act() {
  how=$1
  shift
  case $how in
    absent) get remove "$@" ;;
    all | full) get upgrade ;;
    autoremove) get autoremove ;;
    latest)
      # "upgrade" leaves out what is not there, "install" what is there.
      get install "$@" && get upgrade "$@" ;;
    *) get install "$@" ;;
  esac
}
planned() {
  how=$1
  shift
  case $how in
    latest) for each; do there "$each" || return 0; done ;;
    all | full) ;;
    autoremove)
      [ -n "$(get repoquery --unneeded 2>/dev/null)" ]
      return ;;
    *) return 0 ;;
  esac
  get check-update "$@" >/dev/null
  [ $? -eq 100 ]
}
