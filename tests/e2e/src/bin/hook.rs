//! A freeze hook as a static program, for a guest without a shell. Runs in guests only.
//!
//! Appends its file name and its argument to /run/seen and /data/seen. Fails if the file
//! `/run/NAME.ARGUMENT` exists, for example /run/50-db.freeze.
//! `tests/hooks.rs` compiles this file with rustc alone, so it uses no other crate.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

fn main() {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    assert!(release.contains("ID=gaunt"), "not a guest of the tests");
    let mut words = std::env::args();
    let path = words.next().unwrap_or_default();
    let word = words.next().unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    for file in ["/run/seen", "/data/seen"] {
        let opened = OpenOptions::new().create(true).append(true).open(file);
        let written = opened.and_then(|mut file| writeln!(file, "{name} {word}"));
        written.unwrap_or_else(|error| panic!("{file}: {error}"));
    }
    if Path::new(&format!("/run/{name}.{word}")).exists() {
        eprintln!("{name} refuses");
        std::process::exit(3);
    }
}
