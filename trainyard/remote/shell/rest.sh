# What a file of a job holds from a byte on, if it is there.
: "${job?}" "${path?}" "${first?}"
cd "$job" && [ ! -e "$path" ] || exec tail -c +"$first" "$path"
