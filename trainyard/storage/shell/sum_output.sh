# Say the sha256 of the files below $root whose names come on stdin, each with a NUL behind it.
: "${root?}"
cd "$root" || exit 1
# shellcheck disable=SC2016 # the inner sh expands it
xargs -0 sh -c 'for path do sha256sum <"./$path" || exit 1; done' sh
