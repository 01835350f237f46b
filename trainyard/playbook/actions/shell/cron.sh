# Have a job (or a variable) in a crontab under a name, or not. The marks are those that others write, so their files are understood.
: "${name?}" "${user?}" "${file?}" "${state?}" "${env?}" "${line?}" "${backup?}"
. ./answer.sh
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
case $file in "" | /*) ;; *) file=/etc/cron.d/$file ;; esac
if [ -n "$file" ]; then
  [ ! -e "$file" ] || cat "$file" >"$work/now" || exit 1
else
  needs crontab "install one first ('package: {name: cron}'), and see that it runs"
  table() { crontab ${user:+-u "$user"} "$@"; }
  table -l >"$work/now" 2>/dev/null </dev/null || :
fi
[ -e "$work/now" ] || : >"$work/now"
# By the environment: awk would take backslashes out of a variable of its own.
MARK="#Ansible: $name" NAME="$name" LINE="$line" STATE="$state" ENV="$env" awk '
  BEGIN { mark = ENVIRON["MARK"]; name = ENVIRON["NAME"]; line = ENVIRON["LINE"]; gone = ENVIRON["STATE"] == "absent" }
  ENVIRON["ENV"] == "1" {
    if (index($0, name "=") == 1) { if (!gone && !done++) print line; next }
    text = text $0 "\n"
    print
    next
  }
  after { after = 0; if (!gone && !done++) { print mark; print line } next }
  $0 == mark { after = 1; next }
  { print }
  END { if (after && !gone && !done++) { print mark; print line } if (!done && !gone && ENVIRON["ENV"] != "1") { print mark; print line } else if (!done && !gone) exit 9 }
' "$work/now" >"$work/new"
case $? in
  0) ;;
  # A variable stands before the jobs that are to have it.
  9) { printf '%s\n' "$line"; cat "$work/now"; } >"$work/new" ;;
  *) exit 1 ;;
esac
cmp -s "$work/now" "$work/new" && exit 0
change
if [ "$backup" = 1 ]; then
  kept=$(mktemp /tmp/crontab.XXXXXX) && cat "$work/now" >"$kept" && say backup_file "$kept"
fi
if [ -z "$file" ]; then
  table - <"$work/new" || exit 1
elif [ "$state" = absent ] && ! grep -q '[^[:space:]]' "$work/new"; then
  rm -f "$file" || exit 1
else
  part=$(mktemp "${file%/*}/.trainyard.XXXXXX") && cat "$work/new" >"$part" && chmod 0644 "$part" && mv -f "$part" "$file" || exit 1
fi
