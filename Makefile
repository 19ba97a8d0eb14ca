# A line per verb and no logic: what they do is in cargo and in the scripts named here. Tests need root.
CARGO ?= cargo
.PHONY: help build run test lint conformance beside conformance-vm test-vm bench fuzz quickstart deb rpm test-packages ci

help: ## these verbs
	@sed -n 's/^\([a-z-]*\):.* ## /  make \1\t/p' Makefile | expand -t 20

build: ## the daemon, as target/release/crio
	tests/setup/install.sh --build && $(CARGO) build --release --locked

run: build ## the daemon with a registry, apart from this machine, and a shell beside it
	tests/conformance/run.sh --shell

test: ## unit, offline and node tests; installs what they need
	tests/setup/install.sh && tests/conformance/build.sh crictl && tests/kubeadm/build.sh && tests/cosign/build.sh && $(CARGO) test --locked

lint: ## format, clippy, dependencies
	$(CARGO) fmt --check && $(CARGO) clippy --locked --all-targets -- -D warnings && tests/setup/deny.sh

conformance: build ## the CRI conformance suite, critest
	tests/conformance/run.sh

beside: build ## the same questions to ours and to a CRI-O, and where the answers differ
	tests/beside/build.sh && tests/beside/run.sh

conformance-vm: deb ## what needs AppArmor, SELinux, systemd or cgroup v2, in virtual machines
	tests/vm/conformance.sh

test-vm: deb ## the package in virtual machines: at work, protected, limited, rebooted, upgraded, purged, as documented
	SCRIPTS="package.sh protections.sh critest.sh" ONCE="limits.sh docs.sh" MANAGERS=systemd tests/vm/conformance.sh

bench: build ## times and sizes: of ours, or SOCKET="crio cri-o containerd", or SOCKET=/path/of.sock
	tests/bench/run.sh $(SOCKET)

fuzz: ## one fuzz target for so long, as TARGET=layer SECONDS=600
	tests/fuzz/run.sh $(TARGET) $(SECONDS)

quickstart: ## a signed image is pulled and run as a pod, an unsigned one is refused
	tests/quickstart/run.sh

deb: ## the package for Debian and Ubuntu, as target/crioxide_ARCH.deb
	packaging/build.sh deb

rpm: ## the package for Fedora and RHEL, as target/crioxide.ARCH.rpm
	packaging/build.sh rpm

test-packages: ## both packages are built, looked at, installed, upgraded, removed and purged
	tests/packages/run.sh

ci: ## test, lint, conformance and the packages, as they are run before a change is taken
	.ci/run
