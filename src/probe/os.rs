//! The distribution, from its os-release file, where os-release(5) says it is.

use crate::sys::root::{Root, relative};

/// Where the file is: the first that can be read counts.
const PLACES: [&[u8]; 2] = [b"etc/os-release", b"usr/lib/os-release"];

/// The file: the one at `told` alone, if told, else at the usual places. Empty if there is none;
/// whole lines only if it does not fit into `buffer`.
pub fn release<'b>(root: &Root, told: Option<&[u8]>, buffer: &'b mut [u8]) -> &'b [u8] {
    let told = told.map(relative);
    let mut len = 0;
    for place in &PLACES {
        if let Ok(file) = root.read_at(&[told.unwrap_or(place)], buffer) {
            len = file.len();
            break;
        }
    }
    if len == buffer.len() {
        // There may be more of the last line.
        let end = buffer.iter().rposition(|byte| *byte == b'\n');
        len = end.unwrap_or(0);
    }
    buffer.get(..len).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::fs;

    #[test]
    fn the_first_file_there_is_counts() {
        let path = std::env::temp_dir().join(format!("gaunt-os-{}", std::process::id()));
        fs::create_dir_all(path.join("etc")).unwrap();
        fs::create_dir_all(path.join("usr/lib")).unwrap();
        let root = Root::open(&CString::new(path.to_str().unwrap()).unwrap()).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(release(&root, None, &mut buffer), b"");
        fs::write(path.join("usr/lib/os-release"), "ID=lib\n").unwrap();
        assert_eq!(release(&root, None, &mut buffer), b"ID=lib\n");
        fs::write(path.join("etc/os-release"), "ID=etc\n").unwrap();
        assert_eq!(release(&root, None, &mut buffer), b"ID=etc\n");
        fs::write(path.join("told"), "ID=told\nNAME=too long\n").unwrap();
        assert_eq!(release(&root, Some(b"/told"), &mut buffer), b"ID=told");
        assert_eq!(release(&root, Some(b"/other"), &mut buffer), b"");
        fs::remove_dir_all(path).unwrap();
    }
}
