: "${data?}"
. ./answer.sh
say ping "$data"
