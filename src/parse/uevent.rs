//! Kernel uevent datagrams, as a NETLINK_KOBJECT_UEVENT socket delivers them (group 1):
//! `add@/devices/...`, then NUL-ended `KEY=value` strings.
//!
//! Datagrams of udevd, which begin with `libudev`, are refused: they have another format and any
//! process may forge them.

use super::split_once;

/// One event. Borrows the datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// `add`, `remove`, `change`, `move`, `online`, `offline`, `bind` or `unbind`.
    pub action: &'a [u8],
    /// The device, as a path below /sys.
    pub device: &'a [u8],
    /// The strings after the header.
    fields: &'a [u8],
}

/// The event in a datagram, if it is one of the kernel's.
pub fn parse(datagram: &[u8]) -> Option<Event<'_>> {
    let (header, fields) = split_once(datagram, 0)?;
    let (action, device) = split_once(header, b'@')?;
    let well_formed = !action.is_empty() && device.starts_with(b"/");
    well_formed.then_some(Event {
        action,
        device,
        fields,
    })
}

impl<'a> Event<'a> {
    /// The value of `key`.
    pub fn value(&self, key: &[u8]) -> Option<&'a [u8]> {
        let mut fields = self.fields.split(|byte| *byte == 0);
        fields.find_map(|field| field.strip_prefix(key)?.strip_prefix(b"="))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    const PORT: &[u8] = b"add@/devices/pci0000:00/0000:00:03.0/virtio0/virtio-ports/vport0p1\0\
ACTION=add\0DEVPATH=/devices/pci0000:00/0000:00:03.0/virtio0/virtio-ports/vport0p1\0\
SUBSYSTEM=virtio-ports\0MAJOR=247\0MINOR=1\0DEVNAME=vport0p1\0SEQNUM=1234\0";

    #[test]
    fn a_new_port_is_understood() {
        let event = parse(PORT).unwrap();
        assert_eq!(event.action, b"add");
        assert!(event.device.ends_with(b"/vport0p1"));
        assert_eq!(event.value(b"SUBSYSTEM"), Some(&b"virtio-ports"[..]));
        assert_eq!(event.value(b"DEVNAME"), Some(&b"vport0p1"[..]));
        assert_eq!(event.value(b"SEQNUM"), Some(&b"1234"[..]));
        assert_eq!(event.value(b"DEV"), None);
        assert_eq!(event.value(b""), None);
    }

    #[test]
    fn what_is_not_the_kernel_s_is_refused() {
        assert_eq!(parse(b"libudev\0\xfe\xed\xca\xfe"), None);
        assert_eq!(parse(b"@/devices/x\0"), None);
        assert_eq!(parse(b"add@devices/x\0"), None);
        assert_eq!(parse(b"add@/devices/x"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        torture(PORT, |bytes| {
            _ = parse(bytes).and_then(|event| event.value(b"MAJOR"))
        });
    }
}
