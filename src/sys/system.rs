//! Names and load of the running system, and random bytes: uname(2), sethostname(2), sysinfo(2),
//! getrandom(2).
//!
//! uname and sysinfo fail only for a bad address, so their functions here never fail.

use core::ffi::CStr;

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::rand::GetRandomFlags;
use rustix::system::{Uname, sysinfo, uname};

/// The names of the running kernel and of the host.
pub struct SystemNames(Uname);

impl SystemNames {
    /// The names at this moment.
    pub fn now() -> Self {
        Self(uname())
    }

    /// The name of the host, as sethostname(2) set it.
    pub fn host(&self) -> &[u8] {
        self.0.nodename().to_bytes()
    }

    /// The release of the kernel, such as `6.12.95-cloud-amd64`.
    pub fn release(&self) -> &[u8] {
        self.0.release().to_bytes()
    }

    /// The build of the release, with its time.
    pub fn version(&self) -> &[u8] {
        self.0.version().to_bytes()
    }

    /// The type of the processor, such as `x86_64`.
    pub fn machine(&self) -> &[u8] {
        self.0.machine().to_bytes()
    }
}

/// Sets the name of the host.
pub fn set_host_name(name: &[u8]) -> Result<(), Errno> {
    rustix::system::sethostname(name)
}

/// Load averages over 1, 5 and 15 minutes, in units of `1 / 65536` (`SI_LOAD_SHIFT`,
/// linux/sysinfo.h).
pub fn loads() -> [u64; 3] {
    // The members are C longs: of 32 or 64 bits.
    #[allow(clippy::useless_conversion)]
    sysinfo().loads.map(u64::from)
}

/// Fills `bytes`, at most 256, with random bytes. For children of the agent: waits until the
/// kernel's generator is seeded, which may take a while after the guest starts.
///
/// # Errors
/// The error of opening or reading /dev/urandom, where there is no getrandom.
pub fn random(bytes: &mut [u8]) -> Result<(), Errno> {
    let len = match rustix::rand::getrandom(&mut *bytes, GetRandomFlags::empty()) {
        // Linux before 3.17, or a seccomp filter that does not know the call.
        Err(Errno::NOSYS | Errno::PERM) => rustix::io::read(urandom(c"/dev/urandom")?, &mut *bytes),
        filled => filled,
    }?;
    match len {
        len if len == bytes.len() => Ok(()),
        _ => Err(Errno::IO),
    }
}

/// Opens the random device at `path`.
///
/// # Errors
/// [`Errno::NODEV`] if another file has the name.
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
    fn takes_random_bytes_from_the_kernel_device_only() {
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
    fn reads_names_and_loads() {
        let names = SystemNames::now();
        let release = std::fs::read("/proc/sys/kernel/osrelease").unwrap();
        assert_eq!(names.release(), release.trim_ascii_end());
        let host = std::fs::read("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(names.host(), host.trim_ascii_end());
        assert!(!names.version().is_empty() && !names.machine().is_empty());
        assert!(loads().iter().all(|load| *load < 100_000 << 16));
    }
}
