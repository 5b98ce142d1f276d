//! Passes link arguments for the program to cargo; the library needs none.
//!
//! The small build links with rust-lld directly, the plain build with a C compiler.

/// Arguments for any linker. A C compiler needs `-Wl,` in front of them.
const LAYOUT: [&[&str]; 5] = [
    // The entry point is in `sys::raw`. The C library's is never called, so the linker drops it.
    &["-e", "gaunt_start"],
    // Code and constants share pages: saves two pages of padding on disk, and resident pages.
    &["-z", "noseparate-code"],
    &["-z", "norelro"],
    &["--build-id=none"],
    &["--no-eh-frame-hdr"],
];

/// Arguments for LLVM's linker, which `targets/` selects.
const LLD: [&str; 1] = [
    // Identical functions are merged.
    "--icf=all",
];

/// Further ones for a stripped build: nothing reads the section headers at run time. Debuggers do, so a
/// build with [`STRIP`] set keeps them.
const LLD_STRIPPED: [&str; 2] = ["-z", "nosectionheader"];

/// Cargo's environment variable that overrides stripping of release builds.
const STRIP: &str = "CARGO_PROFILE_RELEASE_STRIP";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=targets/layout.ld");
    println!("cargo::rerun-if-changed=targets/plain.ld");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    println!("cargo::rerun-if-env-changed={STRIP}");
    let variable = |name| std::env::var(name).unwrap_or_default();
    if variable("CARGO_CFG_TARGET_ENV") != "musl" {
        return;
    }
    let argument = |word: &str| println!("cargo::rustc-link-arg-bins={word}");
    let is_lld = variable("RUSTC_LINKER").ends_with("lld");
    for words in LAYOUT {
        if is_lld {
            words.iter().for_each(|word| argument(word));
        } else {
            argument(&format!("-Wl,{}", words.join(",")));
        }
    }
    // A fixed address: no dynamic linker relocates the program. rustc's own option for it (see
    // `targets/`) is not set in the plain build.
    if is_lld {
        argument("--no-pie");
        argument(&format!(
            "-T{}/targets/layout.ld",
            variable("CARGO_MANIFEST_DIR")
        ));
        LLD.iter().for_each(|word| argument(word));
        if variable(STRIP).is_empty() {
            LLD_STRIPPED.iter().for_each(|word| argument(word));
        }
    } else {
        argument("-no-pie");
        argument("-static");
        // Extends the linker's default script.
        argument(&format!(
            "-Wl,-T{}/targets/plain.ld",
            variable("CARGO_MANIFEST_DIR")
        ));
    }
}
