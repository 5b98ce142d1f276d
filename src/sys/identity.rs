//! The user and the groups of a process: geteuid(2), setresuid(2), setresgid(2), setgroups(2),
//! capabilities(7).
#![allow(unsafe_code)]

use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, set_thread_res_gid, set_thread_res_uid};

use super::{raw, stdio};

/// The effective user of this process.
pub fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether this process has root's rights to files.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The part of an identity that could not be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The groups.
    Group,
    /// The user.
    User,
}

/// Gives this process the rights of a user to files, and no other rights: effective user, effective
/// group, and `groups`, four bytes each in native order. For children of the agent: there is no way
/// back.
///
/// The real user and group stay, so the user cannot send signals to this process. Nor can the user
/// trace it: the kernel forbids that when the effective user changes. A process that runs as the
/// user already keeps its groups.
///
/// # Errors
/// The part that could not be set, and the error. [`Errno::INVAL`] for the number -1, with which
/// the kernel would change nothing.
pub fn act_as(uid: u32, gid: u32, groups: &[u8]) -> Result<(), (Identity, Errno)> {
    let user = |errno| (Identity::User, errno);
    if uid == u32::MAX || gid == u32::MAX {
        return Err(user(Errno::INVAL));
    }
    // The user could reach a file that is open as the log.
    stdio::detach();
    if rustix::process::geteuid().as_raw() != uid {
        switch(uid, gid, groups)?;
        let (now, group) = (rustix::process::geteuid(), rustix::process::getegid());
        if (now.as_raw(), group.as_raw()) != (uid, gid) {
            return Err(user(Errno::PERM));
        }
    }
    // The kernel clears them when the user is no longer root, unless the parent of the agent has
    // set the secure bits (capabilities(7)).
    if uid != 0 {
        let mut sets = rustix::thread::capabilities(None).map_err(user)?;
        sets.effective = CapabilitySet::empty();
        rustix::thread::set_capabilities(None, sets).map_err(user)?;
    }
    Ok(())
}

/// Sets groups, effective group and effective user.
fn switch(uid: u32, gid: u32, groups: &[u8]) -> Result<(), (Identity, Errno)> {
    // Not rustix's function, for which `groups` would have to be aligned. SAFETY: setgroups reads
    // as many numbers of four bytes, at any alignment, as `groups` holds, and
    // `groups` outlives the call.
    let set = unsafe {
        let numbers = groups.as_ptr().expose_provenance();
        raw::call(libc::SYS_setgroups, [groups.len() / 4, numbers, 0, 0, 0])
    };
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    // Of the thread: the process has only one.
    set.and_then(|_| set_thread_res_gid(None, gid, None))
        .map_err(|errno| (Identity::Group, errno))?;
    set_thread_res_uid(None, uid, None).map_err(|errno| (Identity::User, errno))
}
