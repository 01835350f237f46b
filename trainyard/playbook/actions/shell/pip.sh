# Make packages of Python be there, be the newest, or be gone; by uv where it is, else by pip.
: "${names?}" "${state?}" "${requirements?}" "${virtualenv?}" "${virtualenv_command?}" "${virtualenv_python?}" "${site_packages?}" "${more?}" "${editable?}"
: "${executable?}" "${chdir?}" "${break_system?}"
. ./answer.sh
set -f
[ -z "$chdir" ] || cd "$chdir" 2>/dev/null || lacking "there is no folder $chdir"
[ -z "$requirements" ] || [ -e "$requirements" ] || [ "$check" = 0 ] || change
uv=$(command -v uv || command -v "$HOME/.local/bin/uv" || command -v /root/.local/bin/uv) || uv=
# Of an index that is set for pip uv would not know.
[ -z "${PIP_INDEX_URL:-}" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-$PIP_INDEX_URL}}"
[ -z "${PIP_EXTRA_INDEX_URL:-}" ] || export UV_EXTRA_INDEX_URL="${UV_EXTRA_INDEX_URL:-$PIP_EXTRA_INDEX_URL}"
case $more in *--user*) uv= ;; esac
python=${virtualenv_python:-python3}
if [ -n "$virtualenv" ] && [ ! -x "$virtualenv/bin/python" ]; then
  [ "$state" != absent ] || exit 0
  change
  if [ -n "$virtualenv_command" ]; then
    # shellcheck disable=SC2086 # a command with its words
    $virtualenv_command ${site_packages:+--system-site-packages} ${virtualenv_python:+-p "$virtualenv_python"} "$virtualenv" </dev/null || exit 1
  elif [ -n "$uv" ]; then
    "$uv" venv -q ${site_packages:+--system-site-packages} ${virtualenv_python:+--python "$virtualenv_python"} "$virtualenv" </dev/null || exit 1
  else
    "$python" -m venv ${site_packages:+--system-site-packages} "$virtualenv" </dev/null || exit 1
  fi
fi
[ -z "$virtualenv" ] || { case $virtualenv in /*) python=$virtualenv/bin/python ;; *) python=./$virtualenv/bin/python ;; esac; say virtualenv "$virtualenv"; }
if [ -n "$executable" ]; then
  by=pip
  pip() { "$executable" "$@" </dev/null; }
elif [ -n "$uv" ]; then
  by=uv
  pip() {
    how=$1
    shift
    "$uv" pip "$how" -q --python "$python" "$@" </dev/null
  }
elif "$python" -m pip --version >/dev/null 2>&1; then
  by=pip
  pip() { "$python" -m pip --disable-pip-version-check "$@" </dev/null; }
elif [ -n "$virtualenv" ] && "$python" -m ensurepip >/dev/null 2>&1; then
  by=pip
  pip() { "$python" -m pip --disable-pip-version-check "$@" </dev/null; }
else
  lacking "this machine has neither uv nor pip for $python: install one first ('package: {name: python3-pip}')"
fi
IFS='
'
listed() { pip list --format=freeze 2>/dev/null; }
plain() { printf '%s' "$1" | sed 's/[^A-Za-z0-9._-].*//' | tr 'A-Z_.' 'a-z--'; }
has() { listed | sed 's/[ =@].*//' | tr 'A-Z_.' 'a-z--' | grep -qxF -e "$(plain "$1")"; }

if [ "$state" = absent ]; then
  set --
  for each in $names; do ! has "$each" || set -- "$@" "$each"; done
  [ $# -gt 0 ] || exit 0
  change
  [ $by = uv ] || set -- -y "$@"
  [ "$break_system" = 0 ] || set -- --break-system-packages "$@"
  pip uninstall "$@" || exit 1
  exit 0
fi

set --
[ -z "$requirements" ] || set -- "$@" -r "$requirements"
for each in $names; do
  [ "$editable" = 0 ] || set -- "$@" -e
  set -- "$@" "$each"
done
[ $# -gt 0 ] || exit 0
for each in $more; do set -- "$each" "$@"; done
case $state$by in
  latest*) set -- --upgrade "$@" ;;
  forcereinstalluv) set -- --reinstall "$@" ;;
  forcereinstall*) set -- --force-reinstall --upgrade "$@" ;;
esac
[ "$break_system" = 0 ] || set -- --break-system-packages "$@"
[ "$state" != forcereinstall ] || change
if [ "$check" = 0 ]; then
  before=$(listed)
  pip install "$@" || exit 1
  [ "$before" = "$(listed)" ] || changed
elif [ $by = uv ]; then
  plan=$("$uv" pip install --python "$python" --dry-run "$@" 2>&1 </dev/null) || fail "$plan"
  ! printf '%s\n' "$plan" | grep -q '^ [-+~] ' || changed
else
  plan=$(pip install --quiet --dry-run --report - "$@") || exit 1
  printf '%s\n' "$plan" | grep -q '"install": \[\]' || changed
fi
