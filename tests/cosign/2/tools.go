//go:build tools

// Package cosign pins the version of cosign 2 that the stories in tests/node/cosign.rs are told with.
package cosign

import _ "github.com/sigstore/cosign/v2/cmd/cosign"
