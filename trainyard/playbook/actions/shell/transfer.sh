# load_url URL FILE [SINCE]: by curl or GNU wget (busybox's asks nobody for a certificate), whichever is there; $status is what the server
# said. Headers stand in $work/headers, a line each: what may be a key is in no argument list. Comes after answer.sh.
: "${timeout?}" "${insecure?}" "${agent?}" "${work?}"
# shellcheck disable=SC2329 # each program calls what it needs
load_url() {
  status=
  case $1 in
    file://*)
      [ -f "${1#file://}" ] || lacking "there is no file ${1#file://}"
      cat "${1#file://}" >"$2" && return ;;
  esac
  [ -z "${3:-}" ] || printf 'If-Modified-Since: %s\n' "$3" >>"$work/headers"
  if command -v curl >/dev/null 2>&1; then
    sed 's/[\\"]/\\&/g; s/.*/header = "&"/' "$work/headers" >"$work/curl"
    [ -z "${login:-}" ] || printf 'user = "%s"\n' "$(printf %s "$login" | sed 's/[\\"]/\\&/g')" >>"$work/curl"
    status=$(curl -sSL --fail --retry 2 --connect-timeout "$timeout" --speed-time "$timeout" --speed-limit 1 ${insecure:+-k} ${agent:+-A "$agent"} \
      -K "$work/curl" -w '%{http_code}' -o "$2" -- "$1" </dev/null)
    set -- $?
    status=${status#000}
  elif wget --version 2>/dev/null | grep -q GNU; then
    sed 's/^/header = /' "$work/headers" >"$work/wgetrc"
    [ -z "${login:-}" ] || printf 'user = %s\npassword = %s\nauth_no_challenge = on\n' "${login%%:*}" "${login#*:}" >>"$work/wgetrc"
    WGETRC=$work/wgetrc wget -nv -S --tries=3 --timeout="$timeout" ${insecure:+--no-check-certificate} ${agent:+-U "$agent"} -O "$2" -- "$1" \
      2>"$work/said" </dev/null
    set -- $?
    status=$(sed -n 's|^ *HTTP/[0-9.]* \([0-9]*\).*|\1|p' "$work/said" | tail -n 1)
    [ "$status" != 304 ] || set -- 0
    [ "$1" -eq 0 ] || grep -v '^  ' "$work/said"
  else
    lacking "neither curl nor GNU wget to fetch $1 with: install one first ('package: {name: curl}')"
  fi
  return "$1"
}
