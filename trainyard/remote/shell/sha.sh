# The sha256 of stdin. openssl uses what the processor has for it and takes a tenth of the time of sha256sum, which is asked where
# there is none, or one that does not know what nothing hashes to.
case $(openssl dgst -sha256 -r </dev/null 2>/dev/null) in
  e3b0c442*) sha() { openssl dgst -sha256 -r; } ;;
  *) sha() { sha256sum; } ;;
esac
