# A port of this machine is looked up in the kernel's own table: no connection is made, no tool is needed.
: "${host?}" "${port?}" "${hex?}"
there() {
  # shellcheck disable=SC2016 # bash expands what stands in quotes
  if [ "$host" = 127.0.0.1 ]; then
    grep -qi "^ *[0-9]*: [0-9A-F]*:$hex [0-9A-F]*:0000 0A " /proc/net/tcp /proc/net/tcp6 2>/dev/null
  elif command -v nc >/dev/null; then nc -z -w 3 "$host" "$port" </dev/null >/dev/null 2>&1
  elif command -v bash >/dev/null; then timeout 3 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$host" "$port" 2>/dev/null
  else echo "neither nc nor bash to ask $host with" >&2; exit 3; fi
}
. ./wait_for.sh
