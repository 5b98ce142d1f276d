//! Tests that read the source: the layers of `src/lib.rs` and the lists of commands in the documentation.
//!
//! Imports point down only, files do not import each other in a circle, a subject in `commands/`
//! does not use another, every folder is a layer and on the map, unsafe code and system calls stay
//! in `sys/`, every file has a header, and README and manual page describe every command.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders that each folder may import from.
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

/// Returns the Rust files below a folder, sorted by path, with their text.
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

/// Iterates over the lines that are not comments, with their numbers.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()));
    lines.filter(|(_, line)| !line.starts_with("//"))
}

/// Iterates over the folders that a line names after `crate::`.
fn folders_in(line: &str) -> impl Iterator<Item = &str> {
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
                for module in folders_in(line) {
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

/// Returns the module path of a file below `src/`, such as `agent::client`.
fn module_of(path: &Path) -> String {
    let below = path.strip_prefix(src()).unwrap().with_extension("");
    let names: Vec<_> = below.iter().map(|name| name.to_str().unwrap()).collect();
    let names = names.strip_suffix(&["mod"]).unwrap_or(&names);
    names.join("::")
}

/// Appends the paths that a `use` names to `paths`, with its braces expanded.
fn expand_braces(prefix: &str, tree: &str, paths: &mut Vec<String>) {
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
                expand_braces(&prefix, &inside[start..at], paths);
                start = at + 1;
            }
            _ => {}
        }
    }
    expand_braces(&prefix, &inside[start..], paths);
}

/// Returns the modules that a file imports from, except in its tests.
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
        expand_braces("", statement.trim_end_matches(';'), &mut paths);
        for path in paths {
            let full = match path.split_once("::") {
                Some(("crate", rest)) => rest.to_owned(),
                Some(("super", rest)) => format!("{parent}::{rest}"),
                Some(("self", rest)) => format!("{module}::{rest}"),
                // A submodule of this module, or another crate.
                _ => format!("{module}::{path}"),
            };
            // The longest module path that begins `full`.
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
fn files_do_not_import_each_other_in_a_circle() {
    // A folder's own mod.rs lists its files and may be imported by them.
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
    // Remove files that import none of the remaining ones, until there are no more such files.
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
    assert!(
        left.is_empty(),
        "in a circle of imports, or above one: {left:?}"
    );
}

#[test]
fn no_command_uses_another() {
    // Modules that commands share, and the table, which uses all commands.
    const SHARED: [&str; 5] = ["mod", "command", "common", "table", "packed"];
    let files: Vec<_> = sources(&src().join("commands"))
        .into_iter()
        .filter(|(path, _)| !SHARED.contains(&path.file_stem().unwrap().to_str().unwrap()))
        .collect();
    let subjects: Vec<String> = files
        .iter()
        .map(|(path, _)| path.file_stem().unwrap().to_str().unwrap().into())
        .collect();
    for (path, text) in &files {
        let own = path.file_stem().unwrap().to_str().unwrap();
        for (number, line) in code(text) {
            for subject in subjects.iter().filter(|subject| *subject != own) {
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
fn every_folder_is_a_layer_and_on_the_map() {
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
        let below = path.strip_prefix(src()).unwrap();
        let is_main = below == Path::new("main.rs");
        if below.starts_with("sys") {
            continue;
        }
        for (number, line) in code(&text) {
            let position = format!("{}:{number}", path.display());
            // A member of QEMU's schema, not the keyword.
            let line = line.replace("unsafe-shutdowns", "");
            let words = line.split(|char: char| !char.is_alphanumeric() && char != '_');
            for word in words {
                assert!(is_main || word != "unsafe", "{position}: unsafe code");
                assert!(
                    !["rustix", "libc", "linux_raw_sys"].contains(&word),
                    "{position}: {word}"
                );
            }
        }
        let is_folder = below.file_name().unwrap() == "mod.rs" && below.components().count() == 2;
        assert!(
            !is_folder || text.contains("#![forbid(unsafe_code)]"),
            "{}",
            path.display()
        );
    }
}

/// Functions of the C library keep errno in thread-local storage, which the agent does not set up.
#[test]
fn no_function_of_the_c_library_is_called() {
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
fn every_file_has_a_header() {
    for (path, text) in sources(&src()) {
        assert!(text.starts_with("//! "), "{} has no header", path.display());
    }
}

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The compiler does not report variants of public enums that nothing uses.
#[test]
fn every_packed_text_is_used() {
    let sources = sources(&src());
    for (path, text) in &sources {
        let Some((_, declared)) = text.split_once("\ntexts! {") else {
            continue;
        };
        let mut name_of_enum = "";
        for line in declared.lines() {
            let mut words = line
                .split_whitespace()
                .skip_while(|word| word.starts_with("pub"));
            match (words.next(), words.next(), words.next()) {
                (Some("enum"), Some(name), _) => name_of_enum = name,
                (Some(variant), Some("="), Some(_)) => {
                    let used = format!("{name_of_enum}::{variant}");
                    let is_used = |text: &str| {
                        let mut parts = text.split(&used).skip(1);
                        parts.any(|rest| !rest.starts_with(|next: char| next.is_alphanumeric()))
                    };
                    let mut others = sources.iter().filter(|(other, _)| other != path);
                    assert!(others.any(|(_, text)| is_used(text)), "{used} is not used");
                }
                _ => {}
            }
        }
    }
}

#[test]
fn the_readme_lists_every_command_of_the_table() {
    let readme = read("README.md");
    let count = format!("All {} commands", gaunt::commands::all().count());
    assert!(readme.contains(&count), "the README does not say {count}");
    for command in gaunt::commands::all() {
        let name = str::from_utf8(command.name()).unwrap();
        assert!(
            readme.contains(&format!("`{name}`")),
            "{name} is not in the README",
        );
    }
}

/// Returns the words of all titles (`.It`) in a section of the manual page.
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
    assert_eq!(described, commands, "COMMANDS in gaunt.8, and the table");
}
