# Ask an address by curl (or GNU wget) and say what came. On stdin: the login, the headers a line each, an empty line, the body.
: "${url?}" "${method?}" "${creates?}" "${removes?}" "${dest?}" "${timeout?}" "${insecure?}" "${agent?}" "${follow?}" "${socket?}" "${with_content?}"
: "${status?}"
. ./answer.sh
[ "$check" = 0 ] || { say_flag skipped 1; say msg "nothing is asked for in check mode"; exit 0; }
[ -z "$creates" ] || [ ! -e "$creates" ] || { say_flag skipped 1; say msg "$creates is there already"; exit 0; }
[ -z "$removes" ] || [ -e "$removes" ] || { say_flag skipped 1; say msg "$removes is not there"; exit 0; }
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
IFS= read -r login || :
: >"$work/headers"
while IFS= read -r line && [ -n "$line" ]; do printf '%s\n' "$line" >>"$work/headers"; done
cat >"$work/body"
: >"$work/answer"
say url "$url"
began=$(date +%s)
if command -v curl >/dev/null 2>&1; then
  sed 's/[\\"]/\\&/g; s/.*/header = "&"/' "$work/headers" >"$work/curl"
  [ -z "$login" ] || printf 'user = "%s"\n' "$(printf %s "$login" | sed 's/[\\"]/\\&/g')" >>"$work/curl"
  set -- -sS --connect-timeout "$timeout" --max-time "$timeout" -D "$work/head" -o "$work/answer" -w '%{http_code} %{url_effective}'
  [ "$follow" = 0 ] || set -- "$@" -L
  case $method in HEAD) set -- "$@" -I ;; *) set -- "$@" -X "$method" ;; esac
  [ ! -s "$work/body" ] || set -- "$@" --data-binary "@$work/body"
  said=$(curl "$@" ${insecure:+-k} ${agent:+-A "$agent"} ${socket:+--unix-socket "$socket"} -K "$work/curl" -- "$url" </dev/null 2>"$work/said")
  failed=$?
  code=${said%% *}
  say url "${said#* }"
elif wget --version 2>/dev/null | grep -q GNU; then
  [ -z "$socket" ] || fail "wget knows no unix_socket: install curl"
  sed 's/^/header = /' "$work/headers" >"$work/wgetrc"
  [ -z "$login" ] || printf 'user = %s\npassword = %s\nauth_no_challenge = on\n' "${login%%:*}" "${login#*:}" >>"$work/wgetrc"
  set -- -nv --tries=1 --timeout="$timeout" --content-on-error -S -O "$work/answer" --method="$method"
  [ "$follow" = 1 ] || set -- "$@" --max-redirect=0
  [ ! -s "$work/body" ] || set -- "$@" --body-file="$work/body"
  WGETRC=$work/wgetrc wget "$@" ${insecure:+--no-check-certificate} ${agent:+-U "$agent"} -- "$url" </dev/null 2>"$work/said"
  failed=$?
  sed -n 's/^  //p' "$work/said" >"$work/head"
  code=$(sed -n 's|^HTTP/[0-9.]* \([0-9]*\).*|\1|p' "$work/head" | tail -n 1)
  [ -z "$code" ] || failed=0
else
  fail "neither curl nor GNU wget to ask $url with: install one first ('package: {name: curl}')"
fi
say_number elapsed $(($(date +%s) - began))
if [ $failed -ne 0 ] || [ "${code:-000}" = 000 ]; then
  say_number status -1
  say msg "$url did not answer: $(tail -n 1 "$work/said")"
  exit 0
fi
say_number status "$code"
# Of several answers (redirections) the last one's headers, each by its name as a word.
tr -d '\r' <"$work/head" | awk '/^HTTP\// { n = 0; next } { line[++n] = $0 } END { for (i = 1; i <= n; i++) print line[i] }' >"$work/last"
while IFS= read -r line; do
  case $line in
    *:*) say "$(printf %s "${line%%:*}" | tr 'A-Z-' 'a-z_')" "$(printf %s "${line#*:}" | sed 's/^ *//')" ;;
  esac
done <"$work/last"
case " $status " in
  *" $code "*)
    if [ -n "$dest" ]; then
      [ ! -d "$dest" ] || { dest=${dest%/}/${url##*/}; }
      say path "$dest"
      if [ ! -f "$dest" ] || ! cmp -s "$work/answer" "$dest"; then
        part=$(mktemp "$dest.XXXXXX") && cat "$work/answer" >"$part" && chmod "$(printf %o $((0666 & ~0$(umask))))" "$part" && mv -f "$part" "$dest" || exit 1
        changed
      fi
    fi ;;
  *) with_content=1 ;;
esac
say_flag with_content "$with_content"
{ printf 'content='; tr -d '\000' <"$work/answer"; printf '\0'; } >&3
