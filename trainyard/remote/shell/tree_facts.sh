# Say the hashes of a folder's files, then their sizes without names in the order of the hashes: each tool has its own way
# to write an odd name.
: "${folder?}"
cd "$folder" || exit 1
find . -type f -exec sha256sum {} + || exit 1
echo
find . -type f -exec stat -c %s {} +
true
