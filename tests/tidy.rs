//! What `src/lib.rs` says of the layers, held against the source: imports point down only, no files
//! import each other in a circle, system calls and unsafe code stay in `sys/`, and nothing names a
//! registry or a registry's host. And that the README and the manual page list what there is.

use std::fs;
use std::path::{Path, PathBuf};

/// What each folder may import from the others.
const LAYERS: [(&str, &[&str]); 8] = [
    ("base", &[]),
    ("parse", &["base"]),
    ("wire", &["base"]),
    ("sys", &["base"]),
    ("probe", &["base", "parse", "sys"]),
    ("state", &["base", "parse", "sys"]),
    (
        "commands",
        &["base", "parse", "wire", "sys", "probe", "state"],
    ),
    (
        "agent",
        &["base", "parse", "wire", "sys", "probe", "state", "commands"],
    ),
];

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found.sort();
    found
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The lines that are code, with their numbers.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()));
    lines.filter(|(_, line)| !line.starts_with("//"))
}

/// The modules of this crate that a line names: what follows `crate::`.
fn named(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|char: char| !char.is_alphanumeric() && char != '_');
        &rest[..end.unwrap_or(rest.len())]
    })
}

#[test]
fn imports_point_down_only() {
    for (folder, below) in LAYERS {
        let files = sources(&src().join(folder));
        assert!(!files.is_empty(), "{folder} is empty");
        for (path, text) in files {
            for (number, line) in code(&text) {
                assert!(
                    !line.starts_with("use crate::{"),
                    "{}:{number}",
                    path.display()
                );
                for module in named(line) {
                    let allowed = module == folder || below.contains(&module);
                    assert!(
                        allowed,
                        "{}:{number}: {folder} uses {module}",
                        path.display()
                    );
                }
            }
        }
    }
}

/// A module by its path below `src/`, such as `agent::client`.
fn module_of(path: &Path) -> String {
    let below = path.strip_prefix(src()).unwrap().with_extension("");
    let names: Vec<_> = below.iter().map(|name| name.to_str().unwrap()).collect();
    let names = names.strip_suffix(&["mod"]).unwrap_or(&names);
    names.join("::")
}

/// The paths that a `use` names, its braces written out.
fn written_out(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((before, inside)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap().trim();
        return paths.extend((!path.is_empty()).then(|| format!("{prefix}{path}")));
    };
    let (prefix, inside) = (
        format!("{prefix}{before}"),
        inside.strip_suffix('}').unwrap(),
    );
    let (mut depth, mut start) = (0, 0);
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                written_out(&prefix, &inside[start..at], paths);
                start = at + 1;
            }
            _ => {}
        }
    }
    written_out(&prefix, &inside[start..], paths);
}

/// The files that a file imports from, but for those of its tests.
fn imports(module: &str, text: &str, files: &[String]) -> Vec<String> {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let mut found = Vec::new();
    let mut lines = code(text).map(|(_, line)| line);
    while let Some(line) = lines.next() {
        let Some(start) = line
            .strip_prefix("use ")
            .or_else(|| line.strip_prefix("pub use "))
        else {
            continue;
        };
        let mut statement = start.to_owned();
        while !statement.ends_with(';') {
            statement += lines.next().unwrap();
        }
        let mut paths = Vec::new();
        written_out("", statement.trim_end_matches(';'), &mut paths);
        for path in paths {
            let full = match path.split_once("::") {
                Some(("crate", rest)) => rest.to_owned(),
                Some(("super", rest)) => format!("{parent}::{rest}"),
                Some(("self", rest)) => format!("{module}::{rest}"),
                // A child of this module, or another crate.
                _ => format!("{module}::{path}"),
            };
            // The longest beginning that is a file's.
            let mut files = files.to_vec();
            files.retain(|file| full == *file || full.starts_with(&format!("{file}::")));
            found.extend(files.into_iter().max_by_key(String::len));
        }
    }
    found.retain(|file| file != module);
    found.sort();
    found.dedup();
    found
}

#[test]
fn no_circle_of_files() {
    // The top file of a folder is its map.
    let mut left: Vec<_> = sources(&src())
        .into_iter()
        .map(|(path, text)| (module_of(&path), text))
        .filter(|(module, _)| module.contains("::"))
        .collect();
    let files: Vec<_> = left.iter().map(|(module, _)| module.clone()).collect();
    let imports = |module: &str, text: &str| imports(module, text, &files);
    assert_eq!(
        imports(
            "agent::event_loop",
            "use super::{ids, client::{Busy, Client}};"
        ),
        ["agent::client", "agent::ids"]
    );
    // Files that import from none that is left are taken away, until there are no more of them.
    loop {
        let before: Vec<_> = left.iter().map(|(module, _)| module.clone()).collect();
        left.retain(|(module, text)| {
            imports(module, text)
                .iter()
                .any(|file| before.contains(file))
        });
        if left.len() == before.len() {
            break;
        }
    }
    let left: Vec<_> = left.into_iter().map(|(module, _)| module).collect();
    assert!(left.is_empty(), "on a circle, or above one: {left:?}");
}

#[test]
fn no_command_uses_another() {
    // What commands are made of, below them, and the table, above them.
    const NO_SUBJECTS: [&str; 5] = ["mod", "command", "common", "table", "packed"];
    let files: Vec<_> = sources(&src().join("commands"))
        .into_iter()
        .filter(|(path, _)| !NO_SUBJECTS.contains(&path.file_stem().unwrap().to_str().unwrap()))
        .collect();
    let subjects: Vec<String> = files
        .iter()
        .map(|(path, _)| path.file_stem().unwrap().to_str().unwrap().into())
        .collect();
    for (path, text) in &files {
        let own = path.file_stem().unwrap().to_str().unwrap();
        for (number, line) in code(text) {
            let strangers = subjects.iter().filter(|subject| *subject != own);
            for subject in strangers {
                let uses = ["super::", "commands::"].iter().any(|path| {
                    line.split(path).skip(1).any(|rest| {
                        let rest = rest.strip_prefix(subject.as_str());
                        rest.is_some_and(|rest| rest.starts_with("::") || rest.starts_with(';'))
                    })
                });
                assert!(!uses, "{}:{number}: {own} uses {subject}", path.display());
            }
        }
    }
}

#[test]
fn every_folder_has_its_place_in_the_map() {
    let map = fs::read_to_string(src().join("lib.rs")).unwrap();
    for entry in fs::read_dir(src()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            assert!(
                LAYERS.iter().any(|(folder, _)| *folder == name),
                "{name} is in no layer"
            );
            assert!(
                map.contains(&format!("//! | `{name}/` |")),
                "{name} is not on the map"
            );
        }
    }
}

#[test]
fn unsafe_code_and_system_calls_stay_in_sys() {
    for (path, text) in sources(&src()) {
        let place = path.strip_prefix(src()).unwrap();
        let entry = place == Path::new("main.rs");
        if place.starts_with("sys") {
            continue;
        }
        for (number, line) in code(&text) {
            let spot = format!("{}:{number}", path.display());
            // What NVMe disks count and the protocol names.
            let line = line.replace("unsafe-shutdowns", "");
            let words = line.split(|char: char| !char.is_alphanumeric() && char != '_');
            for word in words {
                assert!(entry || word != "unsafe", "{spot}: unsafe code");
                assert!(
                    !["rustix", "libc", "linux_raw_sys"].contains(&word),
                    "{spot}: {word}"
                );
            }
        }
        let is_folder = place.file_name().unwrap() == "mod.rs" && place.components().count() == 2;
        assert!(
            !is_folder || text.contains("#![forbid(unsafe_code)]"),
            "{}",
            path.display()
        );
    }
}

/// There is no thread storage, in which the C library's functions would keep their errno.
#[test]
fn nothing_of_the_c_library_is_called() {
    for (path, text) in sources(&src()) {
        for (number, line) in code(&text) {
            for name in line.split("libc::").skip(1) {
                let name =
                    name.trim_start_matches(|char: char| char.is_alphanumeric() || char == '_');
                assert!(
                    !name.starts_with('('),
                    "{}:{number}: a call",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for (path, text) in sources(&src()) {
        assert!(text.starts_with("//! "), "{} has no header", path.display());
    }
}

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn the_readme_lists_every_command_of_the_table() {
    let readme = read("README.md");
    for command in gaunt::commands::all() {
        let name = str::from_utf8(command.name()).unwrap();
        assert!(
            readme.contains(&format!("`{name}`")),
            "{name} is not in the README",
        );
    }
}

/// The titles (`.It`) in a section of the manual page, parted at blanks.
fn titles<'a>(page: &'a str, section: &str) -> Vec<&'a str> {
    let lines = page.lines().skip_while(|line| *line != section).skip(1);
    let lines = lines.take_while(|line| !line.starts_with(".Sh ") && !line.starts_with(".Ss "));
    let titles = lines.filter_map(|line| line.strip_prefix(".It "));
    titles.flat_map(str::split_whitespace).collect()
}

#[test]
fn the_manual_page_has_every_command_of_the_table_and_no_other() {
    let page = read("image/package/gaunt.8");
    let mut described = titles(&page, ".Sh COMMANDS");
    described.retain(|word| *word != ",");
    let mut commands: Vec<String> = gaunt::commands::all()
        .map(|command| String::from_utf8(command.name().to_vec()).unwrap())
        .collect();
    described.sort_unstable();
    commands.sort_unstable();
    assert_eq!(described, commands);
}
