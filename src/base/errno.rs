//! Error numbers as the C library words them: clients show these texts to people.
//!
//! Numbers are Linux's generic ones (x86, Arm, RISC-V, s390 and most others); the texts are glibc's
//! English ones, which is what every reply of qemu-ga in the C locale holds.
//!
//! One string, scanned by line: 134 slices would cost more in pointers than in letters. It is packed,
//! because this is the longest text of the agent and the one that is read least.

use super::packed::{Packed, Pairs, pack, unpack};

/// One text a line, counted from 0; a number without a text has an empty line. The last line is for
/// those.
const TEXTS: &str = "\
Success\n\
Operation not permitted\n\
No such file or directory\n\
No such process\n\
Interrupted system call\n\
Input/output error\n\
No such device or address\n\
Argument list too long\n\
Exec format error\n\
Bad file descriptor\n\
No child processes\n\
Resource temporarily unavailable\n\
Cannot allocate memory\n\
Permission denied\n\
Bad address\n\
Block device required\n\
Device or resource busy\n\
File exists\n\
Invalid cross-device link\n\
No such device\n\
Not a directory\n\
Is a directory\n\
Invalid argument\n\
Too many open files in system\n\
Too many open files\n\
Inappropriate ioctl for device\n\
Text file busy\n\
File too large\n\
No space left on device\n\
Illegal seek\n\
Read-only file system\n\
Too many links\n\
Broken pipe\n\
Numerical argument out of domain\n\
Numerical result out of range\n\
Resource deadlock avoided\n\
File name too long\n\
No locks available\n\
Function not implemented\n\
Directory not empty\n\
Too many levels of symbolic links\n\
\n\
No message of desired type\n\
Identifier removed\n\
Channel number out of range\n\
Level 2 not synchronized\n\
Level 3 halted\n\
Level 3 reset\n\
Link number out of range\n\
Protocol driver not attached\n\
No CSI structure available\n\
Level 2 halted\n\
Invalid exchange\n\
Invalid request descriptor\n\
Exchange full\n\
No anode\n\
Invalid request code\n\
Invalid slot\n\
\n\
Bad font file format\n\
Device not a stream\n\
No data available\n\
Timer expired\n\
Out of streams resources\n\
Machine is not on the network\n\
Package not installed\n\
Object is remote\n\
Link has been severed\n\
Advertise error\n\
Srmount error\n\
Communication error on send\n\
Protocol error\n\
Multihop attempted\n\
RFS specific error\n\
Bad message\n\
Value too large for defined data type\n\
Name not unique on network\n\
File descriptor in bad state\n\
Remote address changed\n\
Can not access a needed shared library\n\
Accessing a corrupted shared library\n\
.lib section in a.out corrupted\n\
Attempting to link in too many shared libraries\n\
Cannot exec a shared library directly\n\
Invalid or incomplete multibyte or wide character\n\
Interrupted system call should be restarted\n\
Streams pipe error\n\
Too many users\n\
Socket operation on non-socket\n\
Destination address required\n\
Message too long\n\
Protocol wrong type for socket\n\
Protocol not available\n\
Protocol not supported\n\
Socket type not supported\n\
Operation not supported\n\
Protocol family not supported\n\
Address family not supported by protocol\n\
Address already in use\n\
Cannot assign requested address\n\
Network is down\n\
Network is unreachable\n\
Network dropped connection on reset\n\
Software caused connection abort\n\
Connection reset by peer\n\
No buffer space available\n\
Transport endpoint is already connected\n\
Transport endpoint is not connected\n\
Cannot send after transport endpoint shutdown\n\
Too many references: cannot splice\n\
Connection timed out\n\
Connection refused\n\
Host is down\n\
No route to host\n\
Operation already in progress\n\
Operation now in progress\n\
Stale file handle\n\
Structure needs cleaning\n\
Not a XENIX named type file\n\
No XENIX semaphores available\n\
Is a named type file\n\
Remote I/O error\n\
Disk quota exceeded\n\
No medium found\n\
Wrong medium type\n\
Operation canceled\n\
Required key not available\n\
Key has expired\n\
Key has been revoked\n\
Key was rejected by service\n\
Owner died\n\
State not recoverable\n\
Operation not possible due to RF-kill\n\
Memory page has hardware error\n\
unknown error";

const PACKED: Packed<{ TEXTS.len() }> = pack(TEXTS);
/// The texts as the program holds them.
static BYTES: [u8; PACKED.len] = *PACKED.bytes.first_chunk().unwrap();
static PAIRS: Pairs = PACKED.pairs;

/// The number of the last line, which no error has.
const UNKNOWN: i32 = 134;

/// Room for the longest text.
const TEXT_BYTES: usize = 49;

/// The text of an error number.
pub type Text = heapless::Vec<u8, TEXT_BYTES>;

/// The text of error number `errno` (positive), as glibc's English strerror.
///
/// `None` for a number Linux does not use; glibc then says `Unknown error N`.
pub fn text(errno: i32) -> Option<Text> {
    Some(line(errno)).filter(|text| errno != UNKNOWN && !text.is_empty())
}

/// The text of error number `errno` for people who will not look any closer.
pub fn words(errno: i32) -> Text {
    text(errno).unwrap_or_else(|| line(UNKNOWN))
}

fn line(wanted: i32) -> Text {
    let mut text = Text::new();
    let mut line = 0;
    for byte in &BYTES {
        if *byte == b'\n' {
            line += 1;
        } else if line == wanted {
            unpack(&PAIRS, *byte, &mut text);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(errno: i32) -> Option<&'static str> {
        let text = super::text(errno)?;
        Some(String::from_utf8(text.to_vec()).unwrap().leak())
    }

    #[test]
    fn all_texts_come_whole() {
        assert_eq!(words(UNKNOWN), b"unknown error");
        assert_eq!(words(41), b"unknown error");
        assert_eq!(words(1), b"Operation not permitted");
        for (errno, line) in TEXTS.lines().enumerate().take(134) {
            let expected = (!line.is_empty()).then_some(line);
            assert_eq!(text(errno as i32), expected, "{errno}");
        }
    }

    #[test]
    fn texts_stand_at_their_numbers() {
        assert_eq!(text(0), Some("Success"));
        assert_eq!(text(2), Some("No such file or directory"));
        assert_eq!(text(11), Some("Resource temporarily unavailable"));
        assert_eq!(text(22), Some("Invalid argument"));
        assert_eq!(text(95), Some("Operation not supported"));
        assert_eq!(text(133), Some("Memory page has hardware error"));
    }

    #[test]
    fn unused_numbers_have_no_text() {
        for errno in [i32::MIN, -1, 41, 58, 134, 999, i32::MAX] {
            assert_eq!(text(errno), None, "{errno}");
        }
    }

    #[test]
    fn the_host_library_agrees() {
        for errno in 1..134 {
            let host = std::io::Error::from_raw_os_error(errno).to_string();
            if let Some(text) = text(errno).filter(|_| cfg!(target_env = "gnu")) {
                assert_eq!(host, format!("{text} (os error {errno})"));
            }
        }
    }
}
