//! Texts of error numbers, which clients show to people.
//!
//! They are the English texts of glibc's strerror(3), as replies of qemu-ga have them in the C locale.
//! Numbers are those of asm-generic/errno.h, which x86, Arm, RISC-V and s390 use.

use super::packed::{Line, Pack, Text, pack};

/// The texts; the first is that of 0. A number that Linux does not use has an empty one.
#[rustfmt::skip]
const TEXTS: [&str; 134] = [
    "Success",
    "Operation not permitted",
    "No such file or directory",
    "No such process",
    "Interrupted system call",
    "Input/output error",
    "No such device or address",
    "Argument list too long",
    "Exec format error",
    "Bad file descriptor",
    "No child processes",
    "Resource temporarily unavailable",
    "Cannot allocate memory",
    "Permission denied",
    "Bad address",
    "Block device required",
    "Device or resource busy",
    "File exists",
    "Invalid cross-device link",
    "No such device",
    "Not a directory",
    "Is a directory",
    "Invalid argument",
    "Too many open files in system",
    "Too many open files",
    "Inappropriate ioctl for device",
    "Text file busy",
    "File too large",
    "No space left on device",
    "Illegal seek",
    "Read-only file system",
    "Too many links",
    "Broken pipe",
    "Numerical argument out of domain",
    "Numerical result out of range",
    "Resource deadlock avoided",
    "File name too long",
    "No locks available",
    "Function not implemented",
    "Directory not empty",
    "Too many levels of symbolic links",
    "", // not used
    "No message of desired type",
    "Identifier removed",
    "Channel number out of range",
    "Level 2 not synchronized",
    "Level 3 halted",
    "Level 3 reset",
    "Link number out of range",
    "Protocol driver not attached",
    "No CSI structure available",
    "Level 2 halted",
    "Invalid exchange",
    "Invalid request descriptor",
    "Exchange full",
    "No anode",
    "Invalid request code",
    "Invalid slot",
    "", // not used
    "Bad font file format",
    "Device not a stream",
    "No data available",
    "Timer expired",
    "Out of streams resources",
    "Machine is not on the network",
    "Package not installed",
    "Object is remote",
    "Link has been severed",
    "Advertise error",
    "Srmount error",
    "Communication error on send",
    "Protocol error",
    "Multihop attempted",
    "RFS specific error",
    "Bad message",
    "Value too large for defined data type",
    "Name not unique on network",
    "File descriptor in bad state",
    "Remote address changed",
    "Can not access a needed shared library",
    "Accessing a corrupted shared library",
    ".lib section in a.out corrupted",
    "Attempting to link in too many shared libraries",
    "Cannot exec a shared library directly",
    "Invalid or incomplete multibyte or wide character",
    "Interrupted system call should be restarted",
    "Streams pipe error",
    "Too many users",
    "Socket operation on non-socket",
    "Destination address required",
    "Message too long",
    "Protocol wrong type for socket",
    "Protocol not available",
    "Protocol not supported",
    "Socket type not supported",
    "Operation not supported",
    "Protocol family not supported",
    "Address family not supported by protocol",
    "Address already in use",
    "Cannot assign requested address",
    "Network is down",
    "Network is unreachable",
    "Network dropped connection on reset",
    "Software caused connection abort",
    "Connection reset by peer",
    "No buffer space available",
    "Transport endpoint is already connected",
    "Transport endpoint is not connected",
    "Cannot send after transport endpoint shutdown",
    "Too many references: cannot splice",
    "Connection timed out",
    "Connection refused",
    "Host is down",
    "No route to host",
    "Operation already in progress",
    "Operation now in progress",
    "Stale file handle",
    "Structure needs cleaning",
    "Not a XENIX named type file",
    "No XENIX semaphores available",
    "Is a named type file",
    "Remote I/O error",
    "Disk quota exceeded",
    "No medium found",
    "Wrong medium type",
    "Operation canceled",
    "Required key not available",
    "Key has expired",
    "Key has been revoked",
    "Key was rejected by service",
    "Owner died",
    "State not recoverable",
    "Operation not possible due to RF-kill",
    "Memory page has hardware error",
];
static PACK: Pack = pack!(&TEXTS);

/// Returns the text of an error number; empty if Linux does not use the number, for which glibc has
/// `Unknown error N`.
pub fn text(errno: i32) -> Line {
    // A line past the texts is empty.
    Text::new(&PACK, u8::try_from(errno).unwrap_or(u8::MAX)).unpack()
}

/// Returns the text of an error number, or `unknown error`.
pub fn text_or_unknown(errno: i32) -> Line {
    let mut text = text(errno);
    if text.is_empty() {
        let _ = text.extend_from_slice(b"unknown error");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(errno: i32) -> Option<&'static str> {
        let text = String::from_utf8(super::text(errno).to_vec()).unwrap();
        (!text.is_empty()).then(|| &*text.leak())
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow for Miri")]
    fn every_text_is_unpacked_whole() {
        assert_eq!(text_or_unknown(134), b"unknown error");
        assert_eq!(text_or_unknown(135), b"unknown error");
        assert_eq!(text_or_unknown(-1), b"unknown error");
        assert_eq!(text_or_unknown(41), b"unknown error");
        assert_eq!(text_or_unknown(1), b"Operation not permitted");
        for (errno, line) in TEXTS.iter().enumerate() {
            let expected = (!line.is_empty()).then_some(*line);
            assert_eq!(text(errno as i32), expected, "{errno}");
        }
    }

    #[test]
    fn texts_have_the_right_numbers() {
        assert_eq!(text(0), Some("Success"));
        assert_eq!(text(2), Some("No such file or directory"));
        assert_eq!(text(11), Some("Resource temporarily unavailable"));
        assert_eq!(text(22), Some("Invalid argument"));
        assert_eq!(text(95), Some("Operation not supported"));
        assert_eq!(text(133), Some("Memory page has hardware error"));
    }

    #[test]
    fn unused_numbers_have_no_text() {
        for errno in [i32::MIN, -1, 41, 58, 134, 255, 256, 257, 999, i32::MAX] {
            assert_eq!(text(errno), None, "{errno}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has other texts")]
    fn texts_are_those_of_the_c_library() {
        for errno in 1..134 {
            let host = std::io::Error::from_raw_os_error(errno).to_string();
            if let Some(text) = text(errno).filter(|_| cfg!(target_env = "gnu")) {
                assert_eq!(host, format!("{text} (os error {errno})"));
            }
        }
    }
}
