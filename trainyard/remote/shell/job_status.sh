# Say the state of a job, then what its files hold, one a line.
: "${job?}"
unknown() { echo "unknown $1"; exit 0; }
if ! cd "$job" 2>/dev/null; then
  [ -e "$job" ] && unknown "$job cannot be entered"
  ls -d "${job%/*}/" >/dev/null 2>&1 || [ ! -e "${job%/*}" ] || unknown "${job%/*} cannot be read"
  echo absent; exit 0
fi
ls >/dev/null 2>&1 || unknown "$job cannot be read"
[ -e started_at ] || { echo absent; exit 0; }
verdict() {
  [ -e exit ] || return 1
  value=; read -r value 2>/dev/null <./exit
  case $value in '' | *[!0-9]*) unknown "$job/exit holds no exit code" ;; esac
}
. ./running.sh
if running; then echo running
elif verdict; then echo exited
elif [ $held -gt 1 ]; then unknown "whether it runs cannot be asked (${said:-flock: exit code $held})"
elif [ -e lock ]; then echo lost
else echo absent; fi
for file in exit started_at ended_at pid boot_id; do
  value=; [ -e $file ] && read -r value 2>/dev/null <$file; echo "$file $value"
done
echo "boot_now $now"
