echo "probed $1"
touch probed
