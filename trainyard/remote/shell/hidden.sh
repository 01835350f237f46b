# Take the first line of the input as commands that set values: no ps shows them there. What follows is the input of what comes next.
# Each sh reads a line of a pipe byte by byte, so that nothing behind it is lost; one that was cut with its link has no end.
IFS= read -r trainyard_hidden || exit 255
eval "$(printf %b "$trainyard_hidden")"
unset trainyard_hidden
