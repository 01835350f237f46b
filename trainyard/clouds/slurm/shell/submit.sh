# On the login node: ask for a job once and print its id behind a mark. Before it stand $name, $top (the folder of all jobs'
# folders, below the home folder unless it is absolute), $comment, $words (sbatch's options, quoted for sh) and script(),
# which prints the batch script. Ends with 4 only when nothing was asked for, with 3 when that is not known.
: "${name?}" "${top?}" "${comment?}" "${words?}"
umask 077
cd && mkdir -p "$top" && cd "$top" && top=$(pwd -P) || exit 4
escaped=$(printf %s "$top/$name" | sed 's/%/%25/g; s/&/%26/g; s/+/%2B/g')
eval "set -- $words"
set -- "$@" --output="$name-%j.log" --chdir="$top" --comment="$comment&folder=$escaped"
if id=$(script | sbatch --parsable "$@"); then
  printf '\036%s\n' "$id"
  exit 0
fi
# Its words are no answer. That a mere trial of the same request fails at a cluster that answers, and lists no such job, is one.
squeue --me -h -o %i >/dev/null || exit 3
script | sbatch --test-only "$@" && exit 3
known=$(squeue --me -h -t all --name="$name" -o %i) || exit 3
[ -z "$known" ] || exit 3
exit 4
