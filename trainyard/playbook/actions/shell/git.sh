# Make a folder be a checkout of a repository at a version: a branch, a tag or a commit.
: "${repo?}" "${dest?}" "${version?}" "${depth?}" "${force?}" "${update?}" "${clone?}" "${remote?}" "${single_branch?}" "${recursive?}" "${refspec?}"
: "${accept_new?}" "${key_file?}"
. ./answer.sh
needs git "install it first ('package: {name: git}')"
export GIT_TERMINAL_PROMPT=0 LC_ALL=C
ssh=${GIT_SSH_COMMAND:-ssh}" -o BatchMode=yes"
[ "$accept_new" = 0 ] || ssh="$ssh -o StrictHostKeyChecking=accept-new"
if [ -n "$key_file" ]; then
  [ -r "$key_file" ] || lacking "there is no key $key_file that can be read"
  ssh="$ssh -o IdentitiesOnly=yes -i '$key_file'"
fi
export GIT_SSH_COMMAND="$ssh"
at() { git -C "$dest" rev-parse -q --verify "$1^{commit}" 2>/dev/null; }
bad() { fail "$repo has no branch, tag or commit '$version'"; }

# What the version is at the other end: its kind, its commit, and the branch's name.
kind=commit target='' branch=''
look() {
  case $version in
    HEAD)
      answer=$(git ls-remote --symref -- "$repo" HEAD </dev/null) || exit 1
      branch=$(printf '%s\n' "$answer" | sed -n 's|^ref: refs/heads/\(.*\)\tHEAD$|\1|p')
      target=$(printf '%s\n' "$answer" | sed -n 's|^\([0-9a-f]*\)\tHEAD$|\1|p')
      kind=branch
      [ -n "$branch" ] || kind=commit ;;
    *)
      answer=$(git ls-remote -- "$repo" "refs/heads/$version" "refs/tags/$version" "refs/tags/$version^{}" </dev/null) || exit 1
      tab=$(printf '\t')
      while IFS="$tab" read -r sha ref; do
        case $ref in
          "refs/heads/$version") kind=branch target=$sha branch=$version ;;
          "refs/tags/$version"*) [ $kind = branch ] || { kind=tag target=$sha; } ;;
        esac
      done <<END
$answer
END
      [ -n "$target" ] || target=$(printf '%s\n' "$version" | grep -xE '[0-9a-f]{40}|[0-9a-f]{64}') || : ;;
  esac
}

# Submodules as they are checked out, to tell whether something has moved.
modules() { [ "$recursive" = 1 ] && [ -e "$dest/.gitmodules" ] && git -C "$dest" submodule status --recursive 2>/dev/null; }
submodules() {
  [ "$recursive" = 1 ] && [ -e "$dest/.gitmodules" ] || return 0
  git -C "$dest" submodule --quiet sync --recursive </dev/null || exit 1
  set -- update --quiet --init --recursive
  [ "$force" = 0 ] || set -- "$@" --force
  git -C "$dest" submodule "$@" </dev/null || exit 1
}
fetch() {
  set -- --quiet --force
  [ -z "$depth" ] || set -- "$@" --depth "$depth"
  if [ -n "$depth" ] || [ "$single_branch" = 1 ]; then
    case $kind in
      branch) git -C "$dest" fetch "$@" -- "$remote" "+refs/heads/$branch:refs/remotes/$remote/$branch" </dev/null && return ;;
      tag) git -C "$dest" fetch "$@" -- "$remote" "+refs/tags/$version:refs/tags/$version" </dev/null && return ;;
      *) [ -n "$target" ] && git -C "$dest" fetch "$@" -- "$remote" "$target" </dev/null && return ;;
    esac
    # A server may refuse to hand out a single commit: then all of it.
    set -- --quiet --force
    [ ! -e "$dest/.git/shallow" ] || set -- "$@" --unshallow
  fi
  git -C "$dest" fetch "$@" --tags -- "$remote" "+refs/heads/*:refs/remotes/$remote/*" </dev/null
}
# shellcheck disable=SC2086 # a refspec is one word
fetch_more() { [ -z "$refspec" ] || git -C "$dest" fetch --quiet ${depth:+--depth "$depth"} -- "$remote" $refspec </dev/null; }
check_out() {
  case $kind in
    branch) git -C "$dest" checkout --quiet --force -B "$branch" "refs/remotes/$remote/$branch" -- || exit 1 ;;
    tag) git -C "$dest" checkout --quiet --force "refs/tags/$version" -- || exit 1 ;;
    *) git -C "$dest" checkout --quiet --force "${target:-$version}" -- || bad ;;
  esac
}

if [ ! -e "$dest/.git" ]; then
  say before ''
  if [ "$clone" = 0 ] || [ "$check" = 1 ]; then
    look
    [ -n "$target" ] || bad
    say after "$target"
    changed
    exit 0
  fi
  changed
  look
  mkdir -p "$(dirname "$dest")" || exit 1
  set -- --quiet --origin "$remote"
  [ $kind = commit ] || [ "$version" = HEAD ] || set -- "$@" --branch "$version"
  if [ -n "$depth" ]; then set -- "$@" --depth "$depth" --no-local; fi
  [ "$single_branch" = 0 ] || set -- "$@" --single-branch
  [ $kind != commit ] || set -- "$@" --no-checkout
  git clone "$@" -- "$repo" "$dest" </dev/null || exit 1
  fetch_more || exit 1
  if [ $kind = commit ]; then
    [ -z "$target" ] || at "$target" >/dev/null || fetch || exit 1
    check_out
  fi
  submodules
  say after "$(at HEAD)"
  exit 0
fi

before=$(at HEAD)
say before "$before"
if [ "$update" = 0 ]; then
  say after "$before"
  exit 0
fi
# HEAD is the branch that is checked out; only where none is, it is that of the other end.
if [ "$version" = HEAD ] && on=$(git -C "$dest" symbolic-ref -q --short HEAD); then version=$on; fi
if [ -n "$(git -C "$dest" status --porcelain --untracked-files=no)" ]; then
  [ "$force" = 1 ] || fail "local changes in $dest: commit them, or write 'force: true' to throw them away"
  change
  git -C "$dest" reset --quiet --hard || exit 1
fi
url=$(git -C "$dest" remote get-url "$remote" 2>/dev/null)
if [ "$url" != "$repo" ]; then
  say_flag remote_url_changed 1
  changed
  if [ "$check" = 0 ]; then
    if [ -n "$url" ]; then git -C "$dest" remote set-url "$remote" "$repo"; else git -C "$dest" remote add "$remote" "$repo"; fi || exit 1
  fi
fi
# A commit that is checked out already is asked for nowhere.
if [ "$before" = "$version" ] && [ -z "$refspec" ]; then
  kind=commit target=$version
else
  look
fi
if [ "$check" = 1 ]; then
  [ -n "$target" ] || target=$(at "$version") || bad
  [ "$target" = "$before" ] || changed
  say after "$target"
  exit 0
fi
old_modules=$(modules)
on=$(git -C "$dest" symbolic-ref -q --short HEAD) || on=
if [ "$target" != "$before" ] || { [ $kind = branch ] && [ "$on" != "$branch" ]; } || [ -n "$refspec" ]; then
  { [ $kind = commit ] && [ -n "$target" ] && at "$target" >/dev/null; } || fetch || exit 1
  fetch_more || exit 1
  check_out
fi
submodules
after=$(at HEAD)
say after "$after"
[ "$before" = "$after" ] && [ "$old_modules" = "$(modules)" ] || changed
