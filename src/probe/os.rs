//! Reads the os-release file of the distribution, described in os-release(5).

use crate::sys::root::{Root, relative};

/// The paths of the file, in the order of os-release(5). The first readable file counts.
const PATHS: [&[u8]; 2] = [b"etc/os-release", b"usr/lib/os-release"];

/// Returns the content of the file: of the configured one if `configured` is its path, else of the
/// first of [`PATHS`]. Empty without a readable file. If the file does not fit into `buffer`, the
/// last, incomplete line is left out.
pub fn release<'b>(root: &Root, configured: Option<&[u8]>, buffer: &'b mut [u8]) -> &'b [u8] {
    let configured = configured.map(relative);
    let mut len = 0;
    for path in &PATHS {
        if let Ok(file) = root.read_at(&[configured.unwrap_or(path)], buffer) {
            len = file.len();
            break;
        }
    }
    if len == buffer.len() {
        // The file may go on: the last line may be incomplete.
        let end = buffer.iter().rposition(|byte| *byte == b'\n');
        len = end.unwrap_or(0);
    }
    buffer.get(..len).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;

    #[test]
    fn reads_the_configured_file_or_the_first_that_exists() {
        let tree = Tree::new();
        tree.directory("etc");
        tree.directory("usr/lib");
        let mut buffer = [0; 16];
        assert_eq!(release(&tree.root, None, &mut buffer), b"");
        tree.file("usr/lib/os-release", "ID=lib\n");
        assert_eq!(release(&tree.root, None, &mut buffer), b"ID=lib\n");
        tree.file("etc/os-release", "ID=etc\n");
        assert_eq!(release(&tree.root, None, &mut buffer), b"ID=etc\n");
        tree.file("told", "ID=told\nNAME=too long\n");
        assert_eq!(release(&tree.root, Some(b"/told"), &mut buffer), b"ID=told");
        assert_eq!(release(&tree.root, Some(b"/other"), &mut buffer), b"");
    }
}
