//! Paths and attributes in sysfs.
//!
//! A path has no leading slash: it is relative to the root directory of the machine.

use crate::base::path::Path;
use crate::parse::{file_name, parent_of};
use crate::sys::Errno;
use crate::sys::root::Root;

/// Replaces the path of a symbolic link by that of its target, which is resolved as text.
pub fn follow(root: &Root, path: &mut Path) -> Result<(), Errno> {
    let mut target = [0; 1024];
    let target = root.link_at(&[path.as_bytes()], &mut target)?;
    to_parent(path);
    let mut rest = target;
    while let Some(behind) = rest.strip_prefix(b"../") {
        to_parent(path);
        rest = behind;
    }
    // Too many `../` end at the root.
    if !path.is_empty() {
        path.push(b"/");
    }
    path.push(rest);
    Ok(())
}

/// Removes the last component.
pub fn to_parent(path: &mut Path) {
    let len = parent_of(path.as_bytes()).len();
    path.truncate(len.saturating_sub(1));
}

/// Reads the attribute `name` of the device at `path`. Returns empty bytes if that fails.
pub fn attribute<'b>(root: &Root, path: &Path, name: &[u8], buffer: &'b mut [u8]) -> &'b [u8] {
    let bytes = root.attribute(&[path.as_bytes(), name], buffer);
    bytes.unwrap_or_default()
}

/// The last component of a path.
pub fn last_component(path: &Path) -> &[u8] {
    file_name(path.as_bytes())
}
