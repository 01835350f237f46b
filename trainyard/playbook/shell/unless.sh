# Say $nonce and end when there is nothing to do. The nonce tells it from anything that the command itself might print.
: "${creates?}" "${removes?}" "${nonce?}"
there() {
  # shellcheck disable=SC2086 # the names that fit the pattern
  case $1 in *[*?[]*) (IFS=; set -- $1; [ -e "$1" ]) ;; *) [ -e "$1" ] ;; esac
}
[ -z "$creates" ] || ! there "$creates" || { printf %s "$nonce"; exit 0; }
[ -z "$removes" ] || there "$removes" || { printf %s "$nonce"; exit 0; }
