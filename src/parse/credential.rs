//! The credential `vmm.notify_socket` in a word of the kernel's command line or in an OEM string of
//! SMBIOS, as kernel-command-line(7) and smbios-type-11(7) of systemd describe both: as text, or binary
//! as base64.

use crate::base::base64;

/// The longest value, in bytes: 38 for an address, or 52 for that as base64, and some blanks.
pub const BYTES: usize = 64;

/// A value.
pub type Value = heapless::Vec<u8, BYTES>;

/// The parts before the value; the second is there if it is binary.
pub type Form = [&'static [u8]; 3];

/// A word of the kernel's command line, without quotes.
pub const WORD: Form = [
    b"systemd.set_credential",
    b"_binary",
    b"=vmm.notify_socket:",
];

/// An OEM string.
pub const OEM_STRING: Form = [b"io.systemd.credential", b".binary", b":vmm.notify_socket="];

/// The value in this text; `None` if it has another credential or none, or the value is too long.
pub fn value(text: &[u8], [beginning, binary, name]: &Form) -> Option<Value> {
    let text = text.strip_prefix(*beginning)?;
    let encoded = text.strip_prefix(*binary);
    let text = encoded.unwrap_or(text).strip_prefix(*name)?;
    let mut value = Value::from_slice(text).ok()?;
    if encoded.is_some() {
        let len = base64::decode_in_place(&mut value)?;
        value.truncate(len);
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    fn text(text: &str, form: &Form) -> Option<String> {
        let value = value(text.as_bytes(), form)?;
        Some(String::from_utf8(value.to_vec()).unwrap())
    }

    #[test]
    fn value_is_text_or_base64() {
        for (word, form) in [
            ("systemd.set_credential=vmm.notify_socket:vsock:2:1", WORD),
            (
                "systemd.set_credential_binary=vmm.notify_socket:dnNvY2s6Mjox",
                WORD,
            ),
            (
                "io.systemd.credential:vmm.notify_socket=vsock:2:1",
                OEM_STRING,
            ),
            (
                "io.systemd.credential.binary:vmm.notify_socket=dnNvY2s6Mjox",
                OEM_STRING,
            ),
        ] {
            assert_eq!(text(word, &form).as_deref(), Some("vsock:2:1"), "{word}");
            let other = word.replace("notify_socket", "notify");
            assert_eq!(text(&other, &form), None);
            let invalid = format!("{word}!{}", "x".repeat(BYTES));
            assert_eq!(text(&invalid, &form), None);
        }
        let invalid = "systemd.set_credential_binary=vmm.notify_socket:vsock:2:1";
        assert_eq!(text(invalid, &WORD), None);
    }

    #[test]
    fn no_input_panics() {
        let sample = b"io.systemd.credential.binary:vmm.notify_socket=dnNvY2s6Mjox";
        torture(sample, |bytes| drop(value(bytes, &OEM_STRING)));
    }
}
