#!/bin/bash
# Checks the dependencies against deny.toml; installs cargo-deny, which takes some minutes, if it is missing.
#
# The advisory database is on a public git server. Where it cannot be reached that part is left out and
# said so; DENY_ADVISORIES=1 makes it an error.
set -euo pipefail

version=0.20.2
if ! cargo deny --version >/dev/null 2>&1; then
  echo "deny: installing cargo-deny $version, once"
  cargo install --quiet --locked "cargo-deny@$version"
fi
cargo deny --locked check bans licenses sources
if [ -n "${DENY_ADVISORIES:-}" ] || cargo deny --locked fetch db >/dev/null 2>&1; then
  cargo deny --locked check advisories
else
  echo "deny: ADVISORIES NOT CHECKED: their database cannot be reached from here"
fi
