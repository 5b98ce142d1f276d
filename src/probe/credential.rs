//! The credential `vmm.notify_socket`, by which a host says where it waits for the ready signal of a
//! virtual machine (systemd.system-credentials(7)).
//!
//! The first of these that has it counts: the directory of credentials in the environment, QEMU's
//! firmware configuration (`-fw_cfg name=opt/io.systemd.credentials/vmm.notify_socket,string=...`),
//! SMBIOS (`-smbios type=11,value=io.systemd.credential:vmm.notify_socket=...`), and the kernel's
//! command line (`systemd.set_credential=vmm.notify_socket:...`). None of them need be there.

use crate::base::limits::SMBIOS_BYTES;
use crate::base::sink::ByteSink;
use crate::parse::credential::{self, BYTES, OEM_STRING, Value, WORD};
use crate::parse::{cmdline, smbios};
use crate::sys::mem::Buffer;
use crate::sys::root::{Root, relative};

const FIRMWARE: &[u8] =
    b"sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials/vmm.notify_socket/raw";

/// Finds the credential; `directory` is that of the environment.
pub fn notify_socket(root: &Root, directory: Option<&[u8]>) -> Option<Value> {
    let in_directory = directory
        .and_then(|directory| in_file(root, &[relative(directory), b"/vmm.notify_socket"]));
    in_directory
        .or_else(|| in_file(root, &[FIRMWARE]))
        .or_else(|| in_smbios(root))
        .or_else(|| in_kernel_line(root))
}

fn in_file(root: &Root, path: &[&[u8]]) -> Option<Value> {
    let mut text = [0; BYTES];
    Value::from_slice(root.read_at(path, &mut text).ok()?).ok()
}

fn in_smbios(root: &Root) -> Option<Value> {
    let file = root.file_at(&[b"sys/firmware/dmi/tables/DMI"]).ok()?;
    let mut table = Buffer::growing(SMBIOS_BYTES);
    table.read(&file).ok()?;
    let mut found = None;
    smbios::oem_strings(table.bytes(), &mut |text| {
        if found.is_none() {
            found = credential::value(text, &OEM_STRING);
        }
    });
    found
}

fn in_kernel_line(root: &Root) -> Option<Value> {
    let mut found = None;
    let _ = root.lines_at(&[b"proc/cmdline"], &mut |line| {
        found = cmdline::words(line).find_map(|word| credential::value(word, &WORD));
        true
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;

    #[test]
    fn finds_it_in_each_source_by_their_order() {
        let tree = Tree::new();
        let found = |directory: Option<&str>| {
            let value = notify_socket(&tree.root, directory.map(str::as_bytes))?;
            Some(String::from_utf8(value.to_vec()).unwrap())
        };
        assert_eq!(found(None), None);
        assert_eq!(found(Some("/run/none")), None);
        tree.directory("proc");
        let line = "quiet systemd.set_credential=vmm.notify_socket:vsock:2:1 x\n";
        tree.file("proc/cmdline", line);
        assert_eq!(found(None).as_deref(), Some("vsock:2:1"));
        tree.directory("sys/firmware/dmi/tables");
        tree.file("sys/firmware/dmi/tables/DMI", "garbage");
        assert_eq!(found(None).as_deref(), Some("vsock:2:1"));
        let string = "io.systemd.credential.binary:vmm.notify_socket=dnNvY2s6Mjoy";
        let table = format!("\x0b\x05\0\x0e\x02other\0{string}\0\0");
        tree.file("sys/firmware/dmi/tables/DMI", &table);
        assert_eq!(found(None).as_deref(), Some("vsock:2:2"));
        let firmware = str::from_utf8(FIRMWARE).unwrap();
        tree.directory(firmware.strip_suffix("/raw").unwrap());
        tree.file(firmware, "vsock:2:3\n");
        assert_eq!(found(None).as_deref(), Some("vsock:2:3\n"));
        tree.directory("run/credentials");
        tree.file("run/credentials/vmm.notify_socket", "vsock:2:4");
        assert_eq!(
            found(Some("/run/credentials")).as_deref(),
            Some("vsock:2:4")
        );
    }
}
