//! The health log of an NVMe disk: the admin command ioctl of linux/nvme_ioctl.h, and log page 02h
//! of the NVMe base specification (5.14.1.2 in revision 1.4).
#![allow(unsafe_code)]

use core::ptr;

use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::ioctl::{Opcode, opcode};
use static_assertions::{const_assert, const_assert_eq};

use super::raw;

/// The length of the log in words of eight bytes.
pub const HEALTH_LOG_LEN: usize = 64;

/// The health log.
pub type HealthLog = [u64; HEALTH_LOG_LEN];

/// `struct nvme_admin_cmd` of linux/nvme_ioctl.h, 72 bytes. Unused members are joined.
#[repr(C)]
struct Command {
    opcode: u32,
    namespace: u32,
    unused: [u32; 4],
    address: u64,
    unused_too: [u32; 1],
    bytes: u32,
    words: [u32; 6],
    timeout_ms: u32,
    result: u32,
}

/// `NVME_IOCTL_ADMIN_CMD`, `_IOWR('N', 0x41, struct nvme_admin_cmd)`.
const ADMIN_COMMAND: Opcode = opcode::read_write::<Command>(b'N', 0x41);

/// The length of the log in words of four bytes, the unit of the command.
const LOG_WORDS: u32 = size_of::<HealthLog>() as u32 / 4;

const_assert_eq!(LOG_WORDS, 128);
const_assert_eq!(size_of::<Command>(), 72);
const_assert!(ADMIN_COMMAND == 0xC048_4E41);

/// Reads the health log of a whole disk. Returns whether that succeeded; without success the log
/// may have any content.
pub fn health_log(disk: BorrowedFd<'_>, log: &mut HealthLog) -> bool {
    let mut command = Command {
        // Get Log Page.
        opcode: 2,
        // The log of the controller, not of one namespace.
        namespace: u32::MAX,
        unused: [0; 4],
        address: log.as_mut_ptr().expose_provenance() as u64,
        unused_too: [0],
        bytes: size_of::<HealthLog>() as u32,
        // The length minus one; bit 15 (Retain Asynchronous Event: reading acknowledges no event);
        // the number of the page.
        words: [(LOG_WORDS - 1) << 16 | 0x8002, 0, 0, 0, 0, 0],
        timeout_ms: 0,
        result: 0,
    };
    let command = ptr::from_mut(&mut command).expose_provenance();
    let args = [
        disk.as_raw_fd() as usize,
        ADMIN_COMMAND as usize,
        command,
        0,
        0,
    ];
    // Not rustix's function: that drops the status of the command, which the call returns. SAFETY:
    // the call reads and writes one structure of this layout (asserted above), which is ours. To
    // `address` the kernel writes at most `bytes` bytes; `log` has as many, and is borrowed for
    // writing until the call returns.
    let status = unsafe { raw::call(libc::SYS_ioctl, args) };
    for word in log {
        *word = u64::from_le(*word);
    }
    // The status of the command: 0 is success.
    status == Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::AsFd;
    use crate::sys::root::Root;

    #[test]
    fn a_file_that_is_no_disk_has_no_log() {
        let root = Root::open(c"/").unwrap();
        let mut log = [7; 64];
        assert!(!health_log(root.as_fd(), &mut log));
        assert_eq!(log, [7; 64]);
    }
}
