# gaunt: builds, boots and tests the agent. `make help` lists the targets.

# The architectures that the agent is built for, and tested on.
X86 := x86_64-unknown-linux-musl
ARM := aarch64-unknown-linux-musl
TARGET ?= $(X86)
# Software emulation works everywhere; ACCEL=kvm is faster where /dev/kvm works.
ACCEL ?= tcg
export TARGET ACCEL

# The small build: targets/ has the options. Some are unstable, hence RUSTC_BOOTSTRAP; the toolchain is
# pinned, so they do not change. The plain build needs none of them.
DAEMON := RUSTC_BOOTSTRAP=1 cargo --config targets/$(TARGET).toml
DAEMON_FLAGS := --release --target $(TARGET) --features daemon
AGENT := target/$(TARGET)/release/gaunt
E2E := --manifest-path tests/e2e/Cargo.toml

# The commands that the build has; the others are disabled, and their code is left out.
COMMANDS ?= @all
ifeq ($(filter $(COMMANDS),@all @lifecycle @info),)
$(error COMMANDS is @info, @lifecycle or @all)
endif
export GAUNT_COMMANDS = $(COMMANDS)

DESTDIR ?=
PREFIX ?= /usr
# Which init starts the installed agent: systemd, openrc, sysvinit, busybox, procd, runit, s6 or none.
INIT ?= systemd

# The toolchain of the plain build, as distributions do it: the oldest stable Rust that Cargo.toml allows.
OLDEST := $(shell sed -n 's/^rust-version = "\(.*\)"/\1.0/p' Cargo.toml)

# The toolchain of Miri, which only nightly Rust has. Pinned, because another one may report other errors.
NIGHTLY := nightly-2026-05-20
export NIGHTLY

.PHONY: help build plain limited install uninstall image run tour test check miri size clean \
    setup-build setup-plain setup-run setup-test setup-miri

help:
	@echo 'make build           the agent, $(AGENT)'
	@echo 'make build COMMANDS=@lifecycle   without files, programs, accounts and hot-plugging; @info also without power and freeze'
	@echo 'make plain           the agent with stable Rust alone, as distributions build it'
	@echo 'make install         installs agent, unit, udev rule, settings, hooks, manual (DESTDIR=, PREFIX=, INIT=)'
	@echo 'make uninstall       removes all of that'
	@echo 'make run             boots a guest that contains only the agent, and talks to it'
	@echo 'make run ATTACH=1    boots it and keeps it running for your own requests'
	@echo 'make run TARGET=$(ARM)   the same with an emulated aarch64 processor'
	@echo 'make test            check, miri, image and plain, then the agent in QEMU and under libvirt'
	@echo 'make check           format, lints, host tests'
	@echo 'make miri            host tests under Miri, which finds undefined behaviour'
	@echo 'make image           the guest images, target/image/'
	@echo 'make size            size of the agent, and whether it is static'
	@echo 'make clean           removes build output (not the fetched kernel)'
	@echo
	@echo 'TARGET=$(TARGET)  ACCEL=$(ACCEL)'
	@echo 'image/setup installs missing tools, as root with apt-get.'

build: setup-build
	$(DAEMON) build $(DAEMON_FLAGS)
	@stat -c 'build: %s bytes, %n' $(AGENT)

# The builds with fewer commands, for the tests.
limited: setup-build
	@for set in lifecycle info; do \
	    GAUNT_COMMANDS=@$$set $(DAEMON) build -q $(DAEMON_FLAGS) --target-dir target/$$set || exit; \
	    stat -c 'limited: %s bytes, %n' target/$$set/$(TARGET)/release/gaunt; done

# Installs an existing build, so that root compiles nothing.
install uninstall:
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' INIT='$(INIT)' image/package/install $@

plain: setup-plain
	@# Falls back to the default toolchain if the oldest is not available; setup has reported that.
	toolchain=+$(OLDEST); cargo $$toolchain --version >/dev/null 2>&1 || toolchain=; \
	cargo $$toolchain build $(DAEMON_FLAGS) --target-dir target/plain
	@stat -c 'plain: %s bytes, %n' target/plain/$(TARGET)/release/gaunt

# Each installs only missing tools, and only those that its target needs.
setup-build setup-plain setup-run setup-test setup-miri: setup-%:
	@# Compilers started there would warn about the flags of this make.
	@MAKEFLAGS= image/setup $*

image: setup-test
	@$(MAKE) --no-print-directory build TARGET=$(X86)
	@TARGET=$(X86) image/build bare busybox
	@TARGET=$(X86) KERNEL=image/cache/kernel-release OUT=target/image/release image/build busybox
	@$(MAKE) --no-print-directory build TARGET=$(ARM)
	@TARGET=$(ARM) image/build bare busybox
	@image/debian

# Compiles the agent and the tour in parallel: neither keeps two cores busy.
run: setup-run
	@$(MAKE) --no-print-directory -j2 build tour
	image/build bare
	@PROCESSOR=$(firstword $(subst -, ,$(TARGET))) tests/e2e/target/debug/tour $(if $(ATTACH),--attach)

tour: setup-build
	cargo build -q $(E2E) --bin tour

check: setup-build
	cargo fmt --check
	cargo fmt $(E2E) --check
	cargo clippy --all-targets -- -D warnings
	@# Lints the release build for every architecture; checking needs only the source of the core library.
	for target in x86_64 aarch64; do RUSTC_BOOTSTRAP=1 cargo clippy \
	    --config targets/$$target-unknown-linux-musl.toml --target $$target-unknown-linux-musl \
	    --release --features daemon -- -D warnings || exit; done
	cargo clippy $(E2E) --all-targets -- -D warnings
	@# Documentation for developers: it contains private items, and links to them are correct.
	RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' cargo doc --no-deps --document-private-items
	@# Checks the manual page if mandoc is installed.
	@! command -v mandoc >/dev/null || mandoc -T lint -W warning image/package/gaunt.8
	cargo test

# Miri emulates memory and files only, which limits the tests of sys/. Of wire/, which has no unsafe code,
# only quick tests run. Leaks are ignored, because tests leak buffers that they lend for good. Two
# processes run in parallel, because each has one thread.
miri: setup-miri
	export MIRIFLAGS='-Zmiri-disable-isolation -Zmiri-ignore-leaks'; \
	miri() { cargo +$(NIGHTLY) miri test --lib --target-dir target/miri -- -q "$$@"; }; \
	miri sys::argv sys::mem sys::exec sys::root::tests::absolute_paths parse:: & \
	miri base:: wire::args wire::emit wire::json wire::lex && wait $$!

# One guest at a time: under emulation guests slow each other down. --nocapture shows the evidence of every
# check.
test: setup-test check miri image plain limited
	cargo test $(E2E) -- --nocapture --test-threads=1

size: build
	@stat -c '%s bytes on disk (the aim is 131072; tests/e2e/tests/budgets.rs has the limit)' $(AGENT)
	@if readelf -lW $(AGENT) | grep -qE 'INTERP|NEEDED'; then \
	    echo 'not static'; exit 1; else echo 'static: no interpreter, no library'; fi

clean:
	cargo clean
	cargo clean $(E2E)
