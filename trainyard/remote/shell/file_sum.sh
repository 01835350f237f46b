# Say a file's hash.
: "${path?}"
. ./sha.sh
sha <"$path"
