//! The health log of an NVMe disk: the pass-through ioctl of linux/nvme_ioctl.h, and log page 02h of
//! the NVMe base specification (5.14.1.2 in revision 1.4).
#![allow(unsafe_code)]

use core::ptr;

use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::ioctl::{Opcode, opcode};
use static_assertions::{const_assert, const_assert_eq};

use super::raw;

/// Words of eight bytes in the log.
pub const HEALTH_LOG_LEN: usize = 64;

/// The log.
pub type HealthLog = [u64; HEALTH_LOG_LEN];

/// `struct nvme_admin_cmd` of linux/nvme_ioctl.h: 72 bytes, as 32-bit words but for the address.
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

/// The log in words of four bytes, which the disk counts it in: it writes no more than there is room.
const LOG_WORDS: u32 = size_of::<HealthLog>() as u32 / 4;

const_assert_eq!(LOG_WORDS, 128);
const_assert_eq!(size_of::<Command>(), 72);
const_assert!(ADMIN_COMMAND == 0xC048_4E41);

/// Reads the log of a whole disk; false if it has none or does not tell.
pub fn health_log(disk: BorrowedFd<'_>, log: &mut HealthLog) -> bool {
    let mut command = Command {
        // Get Log Page,
        opcode: 2,
        // of the controller, not of one namespace,
        namespace: u32::MAX,
        unused: [0; 4],
        address: log.as_mut_ptr().expose_provenance() as u64,
        unused_too: [0],
        bytes: size_of::<HealthLog>() as u32,
        // which leaves out what has been told already, so many words (minus one) of page 2.
        words: [(LOG_WORDS - 1) << 16 | 0x8002, 0, 0, 0, 0, 0],
        timeout_ms: 0,
        result: 0,
    };
    let place = ptr::from_mut(&mut command).expose_provenance();
    let args = [
        disk.as_raw_fd() as usize,
        ADMIN_COMMAND as usize,
        place,
        0,
        0,
    ];
    // SAFETY: the call reads and writes one structure of this layout (asserted above), which is ours.
    // To what that leads to the kernel writes at most `bytes` bytes, which is what `log` has, and
    // `log` is borrowed for writing until the call is over.
    let status = unsafe { raw::call(libc::SYS_ioctl, args) };
    for word in log {
        *word = u64::from_le(*word);
    }
    // What the disk says of success.
    status == Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::AsFd;
    use crate::sys::root::Root;

    #[test]
    fn what_is_no_disk_has_no_log() {
        let root = Root::open(c"/").unwrap();
        let mut log = [7; 64];
        assert!(!health_log(root.as_fd(), &mut log));
        assert_eq!(log, [7; 64]);
    }
}
