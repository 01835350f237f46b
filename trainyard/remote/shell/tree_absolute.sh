# Sourced: make `$top` a path that holds in every folder.
: "${top?}"
case $top in /*) ;; *) top=$PWD/$top ;; esac
