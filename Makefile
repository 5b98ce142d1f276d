# gaunt: build it, boot it, test it. `make help` lists what there is.

TARGET ?= x86_64-unknown-linux-musl
# Software emulation works everywhere; ACCEL=kvm is faster where /dev/kvm works.
ACCEL ?= tcg
export TARGET ACCEL

# What makes the agent small is said in targets/, and needs options that are not stable yet; the
# toolchain is pinned, so they stay what they are. The plain build needs none of that.
DAEMON := RUSTC_BOOTSTRAP=1 cargo --config targets/$(TARGET).toml
DAEMON_FLAGS := --release --target $(TARGET) --features daemon
AGENT := target/$(TARGET)/release/gaunt
E2E := --manifest-path tests/e2e/Cargo.toml

DESTDIR ?=
PREFIX ?= /usr

# The plain build, as distributions do it: stable Rust, the oldest that Cargo.toml allows.
OLDEST := $(shell sed -n 's/^rust-version = "\(.*\)"/\1.0/p' Cargo.toml)

# The toolchain whose Miri interprets the tests: a nightly, because no other has one, and this one,
# because the next may find something else.
NIGHTLY := nightly-2026-05-20
export NIGHTLY

.PHONY: help build plain install uninstall image run tour test check miri size clean \
    setup-build setup-plain setup-run setup-test setup-miri

help:
	@echo 'make build           the agent, $(AGENT)'
	@echo 'make plain           the same by stable Rust alone, as for distributions'
	@echo 'make install         what was built, with unit, udev rule, settings, hooks, manual (DESTDIR=, PREFIX=)'
	@echo 'make uninstall       takes all of that back'
	@echo 'make run             boots a guest that has nothing else in it, and talks to it'
	@echo 'make run ATTACH=1    boots it and leaves it up for you to talk to'
	@echo 'make test            everything below, then the agent in QEMU and under libvirt'
	@echo 'make check           format, lints, host tests'
	@echo 'make miri            host tests that need no kernel, interpreted: finds undefined behaviour'
	@echo 'make image           the guest images, target/image/'
	@echo 'make size            what the agent weighs, and what it asks for'
	@echo 'make clean           removes what was built (not the fetched kernel)'
	@echo
	@echo 'TARGET=$(TARGET)  ACCEL=$(ACCEL)'
	@echo 'What is missing on this machine is installed by image/setup, as root with apt-get.'

build: setup-build
	$(DAEMON) build $(DAEMON_FLAGS)
	@stat -c 'build: %s bytes, %n' $(AGENT)

# Of what is built already, so that root builds nothing.
install uninstall:
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' image/package/install $@

plain: setup-plain
	@# Where the oldest cannot be had, which setup has said, by the toolchain at hand.
	toolchain=+$(OLDEST); cargo $$toolchain --version >/dev/null 2>&1 || toolchain=; \
	cargo $$toolchain build $(DAEMON_FLAGS) --target-dir target/plain
	@stat -c 'plain: %s bytes, %n' target/plain/$(TARGET)/release/gaunt

# Each installs only what is missing, and only what its caller needs.
setup-build setup-plain setup-run setup-test setup-miri: setup-%:
	@# The compilers that it asks are no part of this make, and would warn about its flags.
	@MAKEFLAGS= image/setup $*

image: setup-test build
	image/build bare busybox
	@KERNEL=image/cache/kernel-release OUT=target/image/release image/build busybox
	@image/debian

# The agent and the tour are compiled side by side: neither keeps two cores busy.
run: setup-run
	@$(MAKE) --no-print-directory -j2 build tour
	image/build bare
	@tests/e2e/target/debug/tour $(if $(ATTACH),--attach)

tour: setup-build
	cargo build -q $(E2E) --bin tour

check: setup-build
	cargo fmt --check
	cargo fmt $(E2E) --check
	cargo clippy --all-targets -- -D warnings
	@# Also for processors that nothing is run on here: the core library's source is enough for that.
	for target in x86_64 aarch64; do RUSTC_BOOTSTRAP=1 cargo clippy \
	    --config targets/$$target-unknown-linux-musl.toml --target $$target-unknown-linux-musl \
	    --release --features daemon -- -D warnings || exit; done
	cargo clippy $(E2E) --all-targets -- -D warnings
	@# For who works on it, so private items are part of it, and links to them are no mistake.
	RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' cargo doc --no-deps --document-private-items
	@# Where there is no mandoc the page is not checked.
	@! command -v mandoc >/dev/null || mandoc -T lint -W warning image/package/gaunt.8
	cargo test

# Miri has no kernel but for memory and files, so of sys/ only what needs no more; and of wire/, which
# has no unsafe code, only what is quick. Tests leak on purpose what is lent for good. Two at once,
# as each is one thread.
miri: setup-miri
	export MIRIFLAGS='-Zmiri-disable-isolation -Zmiri-ignore-leaks'; \
	miri() { cargo +$(NIGHTLY) miri test --lib --target-dir target/miri -- -q "$$@"; }; \
	miri sys::args sys::mem sys::exec sys::root::tests::absolute_paths parse:: & \
	miri base:: wire::args wire::emit wire::json wire::lex && wait $$!

# One guest or domain at a time: under emulation each is as slow as there are others. --nocapture
# shows what every check saw.
test: setup-test check miri image plain
	cargo test $(E2E) -- --nocapture --test-threads=1

size: build
	@stat -c '%s bytes on disk (the aim is 131072; tests/e2e/tests/budgets.rs has the limit)' $(AGENT)
	@if readelf -lW $(AGENT) | grep -qE 'INTERP|NEEDED'; then \
	    echo 'not static'; exit 1; else echo 'static: no interpreter, no library'; fi

clean:
	cargo clean
	cargo clean $(E2E)
