# Drop what a job does not inherit of the login's variables: all but $keeps and the patterns $kept, and of those the
# patterns $never. Before the supervisor is started, so that /proc shows no more of it either.
: "${keeps?}" "${kept?}" "${never?}"
set -f
for name in $(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'); do
  case " $keeps " in *" $name "*) continue ;; esac
  for pattern in $never; do
    # shellcheck disable=SC2254 # patterns are meant
    case $name in $pattern) unset "$name"; continue 2 ;; esac
  done
  for pattern in $kept; do
    # shellcheck disable=SC2254 # patterns are meant
    case $name in $pattern) continue 2 ;; esac
  done
  unset "$name"
done
set +f
