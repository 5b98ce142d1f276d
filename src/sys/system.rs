//! What the kernel says about itself, uname(2) and sysinfo(2), and its random numbers. The first two
//! cannot fail here: both fail only for memory that is not there.

use core::ffi::CStr;

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags};
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

/// Sets the host's name.
pub fn set_host_name(name: &[u8]) -> Result<(), Errno> {
    rustix::system::sethostname(name)
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
///
/// # Errors
/// What opening or reading /dev/urandom came to, on a kernel that has no getrandom.
pub fn random(bytes: &mut [u8]) -> Result<(), Errno> {
    let len = match rustix::rand::getrandom(&mut *bytes, GetRandomFlags::empty()) {
        // Before Linux 3.17, and where a filter of system calls knows no such call.
        Err(Errno::NOSYS | Errno::PERM) => rustix::io::read(urandom(c"/dev/urandom")?, &mut *bytes),
        filled => filled,
    }?;
    match len {
        len if len == bytes.len() => Ok(()),
        _ => Err(Errno::IO),
    }
}

/// Opens the device of random bytes, and nothing else that may have its name.
fn urandom(path: &CStr) -> Result<OwnedFd, Errno> {
    // Major and minor number (Documentation/admin-guide/devices.txt).
    let urandom = rustix::fs::makedev(1, 9);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    match is_device && stat.st_rdev == urandom {
        true => Ok(file),
        false => Err(Errno::NODEV),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_come_from_the_kernel_alone() {
        let mut bytes = [0; 64];
        random(&mut bytes).unwrap();
        assert_ne!(bytes, [0; 64]);
        assert!(urandom(c"/dev/urandom").is_ok());
        for other in [c"/dev/zero", c"/proc/version", c"/dev"] {
            assert_eq!(urandom(other).err(), Some(Errno::NODEV));
        }
        assert_eq!(urandom(c"/dev/none").err(), Some(Errno::NOENT));
    }

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
