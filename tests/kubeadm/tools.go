//go:build tools

// Package kubeadm pins the version of kubeadm that the stories in tests/node/kubeadm.rs are told with.
package kubeadm

import _ "k8s.io/kubernetes/cmd/kubeadm"
