//! What the kernel says about itself, uname(2) and sysinfo(2), and its random numbers. The first two
//! cannot fail here: both fail only for memory that is not there.

use rustix::io::Errno;
use rustix::rand::GetRandomFlags;
use rustix::system::{Uname, sysinfo, uname};

/// The names of the running kernel and its host.
pub struct Names(Uname);

impl Names {
    /// The names of this moment.
    pub fn now() -> Self {
        Self(uname())
    }

    /// The host's name, as sethostname(2) set it.
    pub fn host(&self) -> &[u8] {
        self.0.nodename().to_bytes()
    }

    /// The kernel's release, such as `6.12.95-cloud-amd64`.
    pub fn release(&self) -> &[u8] {
        self.0.release().to_bytes()
    }

    /// Which build of the release it is, and from when.
    pub fn version(&self) -> &[u8] {
        self.0.version().to_bytes()
    }

    /// The kind of processor, such as `x86_64`.
    pub fn machine(&self) -> &[u8] {
        self.0.machine().to_bytes()
    }
}

/// Load averages over 1, 5 and 15 minutes, in units of `1 / 65536` (`SI_LOAD_SHIFT`,
/// linux/sysinfo.h).
pub fn loads() -> [u64; 3] {
    // The width of a C long is 32 or 64 bits.
    #[allow(clippy::useless_conversion)]
    sysinfo().loads.map(u64::from)
}

/// Fills `bytes`, at most 256, with random ones; waits for the kernel to have gathered enough of them
/// after its start, so only children of the agent do that.
pub fn random(bytes: &mut [u8]) -> Result<(), Errno> {
    match rustix::rand::getrandom(&mut *bytes, GetRandomFlags::empty())? {
        len if len == bytes.len() => Ok(()),
        _ => Err(Errno::IO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_has_names_and_loads() {
        let names = Names::now();
        let release = std::fs::read("/proc/sys/kernel/osrelease").unwrap();
        assert_eq!(names.release(), release.trim_ascii_end());
        let host = std::fs::read("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(names.host(), host.trim_ascii_end());
        assert!(!names.version().is_empty() && !names.machine().is_empty());
        assert!(loads().iter().all(|load| *load < 100_000 << 16));
    }
}
