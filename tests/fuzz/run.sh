#!/bin/sh
# Runs one fuzz target for so many seconds: run.sh layer 600. Needs a nightly toolchain and cargo-fuzz
# (cargo install cargo-fuzz). What it finds is in tests/fuzz/artifacts, and becomes a test of the module.
# SANITIZER=none is several times faster; address also sees what C libraries do wrong.
set -eu
cd "$(dirname "$0")"
target=${1:?which target: $(ls targets | sed 's/\.rs$//' | tr '\n' ' ')}
seconds=${2:-600}
mkdir -p "corpus/$target" "seeds/$target"
exec cargo +nightly fuzz run --fuzz-dir . --sanitizer "${SANITIZER:-address}" "$target" "corpus/$target" "seeds/$target" -- \
	-max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1
