//! Paths in sysfs, and what stands at them.
//!
//! A path here has no slash in front: it begins at the root directory that stands for the machine.

use crate::base::path::Path;
use crate::sys::Errno;
use crate::sys::root::Root;

/// Puts in place of `path`, a symbolic link, where it leads.
pub fn follow(root: &Root, path: &mut Path) -> Result<(), Errno> {
    let mut target = [0; 1024];
    let target = root.link_at(&[path.as_bytes()], &mut target)?;
    leave(path);
    let mut rest = target;
    while let Some(behind) = rest.strip_prefix(b"../") {
        leave(path);
        rest = behind;
    }
    // Nothing leads out of the root, not even too many steps up.
    if !path.is_empty() {
        path.push(b"/");
    }
    path.push(rest);
    Ok(())
}

/// Cuts the last component off.
pub fn leave(path: &mut Path) {
    let above = above(path.as_bytes()).len();
    path.truncate(above.saturating_sub(1));
}

/// Reads the attribute `name` of the device at `path`; empty if that fails.
pub fn attribute<'b>(root: &Root, path: &Path, name: &[u8], buffer: &'b mut [u8]) -> &'b [u8] {
    let bytes = root.attribute(&[path.as_bytes(), name], buffer);
    bytes.unwrap_or_default()
}

/// What stands behind the last slash.
pub fn last_component(path: &Path) -> &[u8] {
    last_of(path.as_bytes())
}

/// What stands before the last component, with the slash before that.
pub fn above(path: &[u8]) -> &[u8] {
    let len = path.len() - last_of(path).len();
    path.get(..len).unwrap_or_default()
}

/// What stands behind the last slash of a path.
pub fn last_of(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}
