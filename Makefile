# Two commands for people: `make demo` and `make test`. Both install what is missing.
# Everything else is a tier of `make test` or a convenience.

CARGO ?= cargo
# The tests drive real clients: no CA bundle, proxy or resolver of this shell may reach them.
TEST_ENV = env -u SSL_CERT_FILE -u SSL_CERT_DIR -u CURL_CA_BUNDLE -u GIT_SSL_CAINFO

.PHONY: demo test lint unit api browser e2e bench fleet instructions build deny clean-lab

demo:
	packaging/install-deps.sh build demo
	$(CARGO) build --quiet --package tidegate
	target/debug/tidegate demo $(if $(KEEP),--keep)

build:
	packaging/install-deps.sh build
	$(CARGO) build --release --package tidegate

# Tiers in order of how fast they fail. The last one ends with the runner's closing line.
test: test-deps lint unit api browser e2e

.PHONY: test-deps
test-deps:
	packaging/install-deps.sh build test
	@test "$$(id -u)" = 0 || { echo "make test: run as root; the end-to-end tier makes network namespaces" >&2; exit 1; }

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --quiet --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --quiet --workspace --no-deps

unit:
	$(TEST_ENV) $(CARGO) test --quiet --package tidegate-policy --doc
	$(TEST_ENV) $(CARGO) test --workspace --exclude tidegate-e2e --lib --bins --tests

# The control plane's API against its own description, by schemathesis (installed below target/).
api:
	$(CARGO) build --quiet --package tidegate
	tests/schemathesis/run.sh --max-examples 20

# The web UI in Chromium, against a real `tidegate up` with jobs. One scenario: `make browser ONLY=login`.
# Screenshots of each page are left in target/browser/pages.
browser:
	$(CARGO) build --quiet --package tidegate
	tests/browser/install.sh
	$(TEST_ENV) $(CARGO) test --quiet --package tidegate-e2e --test browser -- $(ONLY)

e2e:
	$(CARGO) build --quiet --package tidegate
	$(TEST_ENV) $(CARGO) test --package tidegate-e2e --lib --test gate --test matrix --test architecture

# Beside the peers, on a quiet machine with two cores, as root: bench/README.md. About an hour after the
# build; ROUNDS=1 takes a third of it. The other benchmarks: `cargo bench --package tidegate-bench`.
ROUNDS ?= 3
bench:
	packaging/install-deps.sh build bench
	@test "$$(id -u)" = 0 || { echo "make bench: run as root; it makes network namespaces" >&2; exit 1; }
	$(CARGO) bench --package tidegate-bench --bench gate -- --rounds $(ROUNDS) --results $(CURDIR)/bench/results

# Thousands of simulated gateways against one control plane; five minutes on two quiet cores, no root: bench/README.md.
fleet:
	packaging/install-deps.sh build
	$(CARGO) run --release --quiet --package tidegate-fleet -- --results $(CURDIR)/bench/results

# Licences, sources and duplicates, by cargo-deny where it is installed; its advisory database is a download of
# its own (`cargo deny check advisories`).
deny:
	$(CARGO) deny --offline check licenses bans sources

# Removes what an interrupted lab left behind (namespaces of dead processes only).
clean-lab:
	target/debug/tidegate demo --sweep
