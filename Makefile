# Every target that has a comment after `##` is listed by `make` alone.

# Where rustup puts cargo, if the shell has not been told.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

.DEFAULT_GOAL := help
.PHONY: help demo demo-picture test test-interop test-api fuzz teeth bench bench-locks check model chaos fmt clean format-check clippy features doc doctest

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1 /p' $(MAKEFILE_LIST) | \
	while read -r target text; do printf '  make %-12s %s\n' "$$target" "$$text"; done

demo: ## Watch a paused lock holder wake up, write, and be refused
	@tools/install build
	@cargo build
	@cargo run --quiet -- demo

demo-picture: ## Draw the README's picture anew, from a run of the demo
	@tools/install build
	cargo run --quiet -- demo --svg docs/demo.svg

test: ## Run the tests, on real servers (installs those that are missing)
	@tools/install test
	@if cargo nextest --version >/dev/null 2>&1; \
	then set -x; cargo nextest run --all-features; \
	else set -x; cargo test --all-features --lib --bins --tests; fi

test-interop: ## Run the tests with other programs that take the same locks (installs those that are missing)
	@tools/install test
	cargo test --all-features --test suite interop::

test-api: ## Ask a running gateway what its OpenAPI description allows, and what it does not
	@tools/install api
	@cargo test --all-features --no-run
	@tools/test-api

check: ## Run all that CI runs: format, lints, features, documentation, tests
	@tools/install check
	@$(MAKE) --no-print-directory format-check clippy features doc test test-api doctest model chaos

model: ## Explore the model of grants and that of Redlock exhaustively (MODEL=large: for longer)
	@tools/install build
	cargo test --release --no-default-features --test model -- --nocapture --test-threads 1

teeth: ## Put deliberate defects into a copy of the code, and see a test fail for each (DEFECT=name for one)
	@tools/install test
	@tools/teeth

# Without a sanitizer, as there is no unsafe code here.
# What it finds is in fuzz/artifacts: mend it, and keep the input in fuzz/seeds, where the tests look.
SECONDS ?= 30
FUZZED := tokens names merge_patches addresses token_headers paths conditions
fuzz: ## Make up tokens, names, URLs, headers and patches (SECONDS=30 for each kind)
	@tools/install fuzz
	@set -e; for target in $(FUZZED); do \
		mkdir -p fuzz/corpus/$$target; \
		cargo +nightly fuzz run --sanitizer none --fuzz-dir fuzz $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
			-max_total_time=$(SECONDS) -max_len=600 -print_final_stats=1; \
	done

chaos: ## Break servers under clients, and check what they saw (MINUTES=, SEEDS=, LOCKS=, FAULT=, SEED=, PROOF=)
	@tools/install test
	@cargo build
	cargo test --test chaos -- --nocapture --test-threads 1

bench: ## Measure the gateway and the guard against bare Postgres (ROUNDS=1 SECONDS=2 to try it)
	@tools/install bench
	cargo bench --bench speed

bench-locks: ## Measure the lock services against other lock clients (ROUNDS=1 SECONDS=2 to try it)
	@tools/install bench
	cargo bench --bench locks

fmt: ## Format the code
	cargo fmt

clean: ## Remove what was built
	cargo clean

format-check:
	cargo fmt --check

clippy:
	cargo clippy --all-targets --all-features -- -D warnings
	cargo clippy --test model --test chaos --all-features -- -D warnings

# Each feature by itself, as somebody may take just that one, and none at all.
FEATURES := etcd zookeeper redis postgres sqlite gateway client cli otel
features:
	@set -e; for feature in "" $(FEATURES); do \
		echo "cargo clippy --lib --bins --no-default-features --features '$$feature' -- -D warnings"; \
		cargo clippy --quiet --lib --bins --no-default-features --features "$$feature" -- -D warnings; \
	done

doc:
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps --all-features

doctest:
	cargo test --doc --all-features
