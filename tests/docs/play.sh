# shellcheck shell=bash
# Does what the documents say, and looks whether it comes out as they say. To be sourced, with STAGE set to what can be
# done here; then the lines that commands.awk writes are run, in $PLACE or a directory of their own. What needs less is
# done too, in the documents' order.

DONE=0 BAD=0
WORK=$(mktemp -d)

document() { :; }

# file PATH TEXT: a file that the reader is told to write
file() {
  [ "$STAGE" != tree ] || return 0
  mkdir -p "$(dirname "$1")"
  printf '%s' "$2" >"$1"
}

# fault WHERE WHAT
fault() {
  echo "BAD  $1: $2"
  BAD=1
}

# here STAGE: whether what needs it can be done here
here() {
  case $STAGE:$1 in
    vm:built | vm:node | vm:vm | node:built | node:node | built:built | tree:tree) return 0 ;;
    *) return 1 ;;
  esac
}

# pattern TEXT: what a document quotes, as a pattern of the shell: … is anything, alone in a line any lines, also none
pattern() { printf '%s' "$1" | sed -z 's/[][*?\\()|!+@]/\\&/g; s/…/*/g; s/\n\*\(\n\|$\)/*\1/g; s/^\*\n/*/'; }

# try WHERE STAGE WORDS TEXT SAYS: a command, what it is to print, and "fails" among the words if it is to fail
try() {
  local where=$1 words=$3 text=$4 says=${5%$'\n'} status=0 found
  here "$2" || return 0
  DONE=$((DONE + 1))
  (cd "${PLACE:-$WORK}" && timeout "${LIMIT:-60}" bash -c "$text" >"$WORK/.said" 2>&1 </dev/null) || status=$?
  found=$(cat "$WORK/.said")
  if [ "$words" = fails ] && [ $status -eq 0 ]; then
    fault "$where" "$text: ends well, and is to fail: ${found:0:2000}"
  elif [ "$words" != fails ] && [ $status -ne 0 ]; then
    fault "$where" "$text: ends with $status: ${found:0:2000}"
  # shellcheck disable=SC2053
  elif [ -n "$says" ] && ! [[ $found == $(pattern "$says") ]]; then
    fault "$where" "$text: prints"$'\n'"$found"$'\n'"     and not"$'\n'"$says"
  else
    echo "good $where: ${text%%$'\n'*}"
  fi
}

# played: how it went
played() {
  rm -rf "$WORK"
  echo "docs: $DONE commands done, stage $STAGE"
  [ $BAD = 0 ] && [ $DONE -gt 0 ]
}
