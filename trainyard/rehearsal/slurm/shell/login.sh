# Stands for ssh to the login node: its options are passed over, its command runs here.
while :; do
    case $1 in
        -o | -F | -p) shift 2 ;;
        -G) exit 1 ;;
        -*) shift ;;
        *) break ;;
    esac
done
shift
cd && exec sh -c "$*"
