# Keep the program that comes on stdin for as long as it runs.
script=$(mktemp) || exit 1
trap 'rm -f "$script"' EXIT
trap 'exit 143' TERM HUP INT
cat >"$script" && chmod 700 "$script" || exit 1
