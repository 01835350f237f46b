# Put the files of a pack in their places, none before the whole pack has come: f/NAME, and where there is a store to keep
# them in, s/SHA256 as a second name. A store that is full or cannot be written keeps nothing.
: "${top?}" "${id?}" "${store?}"
. ./tree_place.sh
part="$top/.part-$id"
trap 'rm -rf "$part" ${store:+"$store/.part-$id"}' EXIT
umask 077
mkdir -p "$part" && cd "$part" && tar -xpzof - || exit 1
# shellcheck disable=SC2016 # the inner sh expands it
if [ -n "$store" ]; then
  mkdir -p "$store/.part-$id" && cp -R s/. "$store/.part-$id/" &&
    find "$store/.part-$id" -type f -exec sh -c 'mv -f -- "$@" "$0/"' "$store" {} +
fi 2>/dev/null
place f
