#!/bin/bash
# Prints the licences of the libraries that are part of the program, with their texts: licences.sh SBOM
#
# From the sources that cargo unpacked; the SBOM says which of them are part. A text that many libraries have is
# printed once. A library without a text of its own is under one of the texts its expression names.
set -euo pipefail
cd "$(dirname "$0")/.."
sbom=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# name, version, licence, directory of each library
cargo metadata --locked --format-version 1 |
  jq -r --slurpfile sbom "$sbom" '
    ([$sbom[0].components[].purl] | map({key: ., value: true}) | from_entries) as $part
    | [.packages[] | select($part["pkg:cargo/\(.name)@\(.version)"])
        | [.name, .version, .license // "see its text", (.manifest_path | sub("/Cargo.toml$"; ""))]]
    | sort[] | @tsv' >"$work/libraries"
[ "$(wc -l <"$work/libraries")" = "$(jq '.components | length' "$sbom")" ]

cat <<'END'
The program is made of its own code, of Rust's standard library (MIT OR Apache-2.0, The Rust Project Developers)
and of the libraries below, each with its licence. The texts that came with them follow.

END
: >"$work/texts"
while IFS=$'\t' read -r name version licence directory; do
  printf '%s %s: %s\n' "$name" "$version" "$licence"
  # aws-lc-sys has C code of several origins below it.
  (cd "$directory" && find . -type f \( -iname 'licen[sc]e*' -o -iname 'copying*' -o -iname 'notice*' -o -iname 'copyright*' \
    -o -iname 'unlicense*' \) ! -name '*.rs' ! -name '*.go' ! -name '*.py' | LC_ALL=C sort) >"$work/files"
  while read -r file; do
    sum=$(sha256sum <"$directory/$file" | cut -d' ' -f1)
    [ -e "$work/$sum" ] || cp "$directory/$file" "$work/$sum"
    printf '%s\t%s %s %s\n' "$sum" "$name" "$version" "${file#./}" >>"$work/texts"
  done <"$work/files"
done <"$work/libraries"

cut -f1 "$work/texts" | awk '!seen[$0]++' | while read -r sum; do
  printf '\n%s\n' '------------------------------------------------------------------------------'
  awk -F'\t' -v sum="$sum" '$1 == sum {print $2}' "$work/texts"
  printf '%s\n\n' '------------------------------------------------------------------------------'
  cat "$work/$sum"
done
