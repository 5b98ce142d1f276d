//! Link arguments for the program, and nothing else.

/// What the linker is told, each as it is told itself; a compiler in between needs `-Wl,`.
const LAYOUT: [&[&str]; 5] = [
    // Our own first instruction (`sys::raw`); that of the C library is linked, but nothing calls it,
    // and what nothing calls is left out.
    &["-e", "gaunt_start"],
    // Code and constants share pages: two pages of padding less on disk, fewer resident.
    &["-z", "noseparate-code"],
    &["-z", "norelro"],
    &["--build-id=none"],
    &["--no-eh-frame-hdr"],
];

/// What only LLVM's linker knows, which is the one of `targets/`.
const LLD: [&str; 1] = [
    // Functions that came out the same are one.
    "--icf=all",
];

/// More of it: who runs a program does not read the table of its sections. Who debugs it does, so an
/// unstripped build, which cargo is asked for by [`STRIP`], has one.
const LLD_STRIPPED: [&str; 2] = ["-z", "nosectionheader"];

/// Cargo's variable for the stripping of release builds.
const STRIP: &str = "CARGO_PROFILE_RELEASE_STRIP";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=targets/layout.ld");
    println!("cargo::rerun-if-changed=targets/plain.ld");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    println!("cargo::rerun-if-env-changed={STRIP}");
    let of = |name| std::env::var(name).unwrap_or_default();
    if of("CARGO_CFG_TARGET_ENV") != "musl" {
        return;
    }
    let say = |word: &str| println!("cargo::rustc-link-arg-bins={word}");
    let direct = of("RUSTC_LINKER").ends_with("lld");
    for words in LAYOUT {
        if direct {
            words.iter().for_each(|word| say(word));
        } else {
            say(&format!("-Wl,{}", words.join(",")));
        }
    }
    // At a fixed address, for which rustc has its own option (see `targets/`), but not for all:
    // nothing here would relocate the program before it runs.
    if direct {
        say("--no-pie");
        say(&format!("-T{}/targets/layout.ld", of("CARGO_MANIFEST_DIR")));
        LLD.iter().for_each(|word| say(word));
        if of(STRIP).is_empty() {
            LLD_STRIPPED.iter().for_each(|word| say(word));
        }
    } else {
        say("-no-pie");
        say("-static");
        // In addition to the linker's own layout.
        say(&format!(
            "-Wl,-T{}/targets/plain.ld",
            of("CARGO_MANIFEST_DIR")
        ));
    }
}
