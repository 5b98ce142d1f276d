//! Link arguments for the program, and nothing else.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let musl = std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "musl");
    if musl {
        // One page-aligned segment less on disk, and no tables for unwinding or symbol versions.
        for argument in ["-Wl,--gc-sections", "-Wl,-z,norelro", "-Wl,--build-id=none"] {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
