# Make the folders on stdin (each ended by NUL) below a folder.
: "${top?}"
mkdir -p "$top" && cd "$top" && xargs -0 mkdir -p --
