#!/bin/bash
# Prints what the program is made of, as CycloneDX 1.5: sbom.sh TARGET
#
# From the locked dependencies alone: no network, no time, no random number, so it can be made again.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo metadata --locked --format-version 1 --filter-platform "$1" | jq -S '
  (.resolve.root) as $root
  | (.packages | map({key: .id, value: .}) | from_entries) as $packages
  | (.resolve.nodes | map({key: .id, value: [.deps[] | select(any(.dep_kinds[]; .kind == null)) | .pkg]}) | from_entries) as $edges
  | def reach($seen; $new): if ($new | length) == 0 then $seen
      else ($seen + $new | unique) as $all
      | reach($all; ([$new[] | $edges[.][]] | unique) - $all) end;
    def purl: "pkg:cargo/\(.name)@\(.version)";
    def licence: if .license then [{expression: (.license | gsub(" */ *"; " OR "))}] else [] end;
    reach([]; [$root]) as $used
  | {
      bomFormat: "CycloneDX", specVersion: "1.5", version: 1,
      metadata: {component: ($packages[$root] | {type: "application", "bom-ref": purl, name, version, purl: purl, licenses: licence})},
      components: [$used[] | select(. != $root) | $packages[.]
        | {type: "library", "bom-ref": purl, name, version, purl: purl, licenses: licence}] | sort_by(.purl),
      dependencies: [$used[] as $id | {ref: ($packages[$id] | purl), dependsOn: [$edges[$id][] | $packages[.] | purl] | sort}] | sort_by(.ref)
    }'
