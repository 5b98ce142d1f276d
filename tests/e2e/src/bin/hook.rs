//! A hook that needs nothing else in its guest. Built as a static program; runs in guests only.
//!
//! Says that it was run, in /run/seen and /data/seen. Where there is a file /run/NAME.WORD, such as
//! `50-db.freeze`, it fails.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

fn main() {
    // Nothing here is for the machine that the tests run on.
    let version = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    assert!(version.contains("ID=gaunt"), "not a guest of the tests");
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
        eprintln!("{name} does not rest");
        std::process::exit(3);
    }
}
