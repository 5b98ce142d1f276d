//! Where a path leads: the directory and the name of a file that need not exist.

use crate::base::path::Path;
use crate::parse::{file_name, parent_of};
use crate::sys::Errno;
use crate::sys::file::Links;
use crate::sys::root::Root;

/// The most symbolic links in a row, as for the kernel.
const MOST_LINKS: usize = 40;

/// Opens the directory of the file at a path of this process; returns the name of the file as well.
pub fn split(path: &[u8]) -> Result<(Root, &[u8]), Errno> {
    let directory = match parent_of(path) {
        b"" => b".",
        directory => directory,
    };
    Ok((Root::at(directory)?, file_name(path)))
}

/// The directory and the name of the file that the link `name` leads to, through further links; or of
/// `name` itself, if it is no link or missing. An absolute link begins at `root`.
///
/// # Errors
/// [`Errno::LOOP`] if too many links follow each other.
pub fn follow(root: &Root, mut directory: Root, name: &[u8]) -> Result<(Root, Path), Errno> {
    let mut name = Path::of(&[name]);
    for _ in 0..MOST_LINKS {
        let mut target = [0; 1024];
        let target = match directory.link_at(&[name.as_bytes()], &mut target) {
            Ok(target) => target,
            // It is no link, or missing, which opening it reports.
            Err(Errno::INVAL | Errno::NOENT) => return Ok((directory, name)),
            Err(errno) => return Err(errno),
        };
        let last = file_name(target);
        let parent = target.get(..target.len() - last.len()).unwrap_or_default();
        directory = match parent {
            [] => directory,
            [b'/', ..] => root.enter(parent, Links::Follow)?,
            _ => directory.enter(parent, Links::Follow)?,
        };
        name = Path::of(&[last]);
    }
    Err(Errno::LOOP)
}
