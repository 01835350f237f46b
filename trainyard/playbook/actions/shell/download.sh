# download URL FILE [HEADER...]: by curl or wget, whichever is there; headers may hold keys, so they are in no argument list.
# shellcheck disable=SC2329 # each program calls what it needs
download() {
  url=$1 file=$2
  shift 2
  if command -v curl >/dev/null 2>&1; then
    for each; do printf 'header = "%s"\n' "$(printf %s "$each" | sed 's/[\\"]/\\&/g')"; done |
      curl -fsSL --retry 2 --connect-timeout "${connect_timeout:-10}" ${insecure:+-k} -K - -o "$file" -- "$url"
  elif command -v wget >/dev/null 2>&1; then
    settings=$(mktemp) || return 1
    for each; do printf 'header = %s\n' "$each"; done >"$settings"
    WGETRC=$settings wget -q --tries=3 --connect-timeout="${connect_timeout:-10}" ${insecure:+--no-check-certificate} -O "$file" -- "$url"
    set -- $?
    rm -f "$settings"
    return "$1"
  else
    echo "neither curl nor wget to fetch $url with" >&2
    return 1
  fi
}
