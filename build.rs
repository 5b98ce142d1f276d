//! Link arguments for the program, and nothing else.

/// What the linker is told, each as it is told itself; a compiler in between needs `-Wl,`.
const LAYOUT: [&[&str]; 4] = [
    // Code and constants share pages: two pages of padding less on disk, fewer resident.
    &["-z", "noseparate-code"],
    &["-z", "norelro"],
    &["--build-id=none"],
    &["--no-eh-frame-hdr"],
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=targets/discard.ld");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let of = |name| std::env::var(name).unwrap_or_default();
    if of("CARGO_CFG_TARGET_ENV") != "musl" {
        return;
    }
    let direct = of("RUSTC_LINKER").ends_with("lld");
    let script = format!("{}/targets/discard.ld", of("CARGO_MANIFEST_DIR"));
    for words in LAYOUT.into_iter().chain([&["-T", script.as_str()][..]]) {
        if direct {
            words
                .iter()
                .for_each(|word| println!("cargo::rustc-link-arg-bins={word}"));
        } else {
            println!("cargo::rustc-link-arg-bins=-Wl,{}", words.join(","));
        }
    }
}
