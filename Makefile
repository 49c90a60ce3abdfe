# Two targets for people: `make demo` and `make test`. Both install what is missing first (scripts/install-packages).

CARGO ?= cargo

.PHONY: demo test install

# Two hosts, real servers, one address, every fault in turn. Needs no root where user namespaces are allowed.
demo: install
	$(CARGO) build --release -p tandem
	target/release/tandem demo

# Format, lints, and every test, those in network namespaces included; these need root.
test: install
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) build --workspace
	$(CARGO) test --workspace --exclude tandem-lab
	CARGO=$(CARGO) scripts/test-lab

install:
	scripts/install-packages
