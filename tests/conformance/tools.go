//go:build tools

// Package conformance pins the version of critest and crictl that `make conformance` runs.
package conformance

import (
	_ "sigs.k8s.io/cri-tools/cmd/crictl"
	_ "sigs.k8s.io/cri-tools/pkg/benchmark"
	_ "sigs.k8s.io/cri-tools/pkg/validate"
)
