//! What the commands of several subjects use.

use core::ffi::CStr;

use crate::base::base64::DecodeError;
use crate::base::sink::ByteSink;
use crate::parse::sysfs_disk::Bus;
use crate::probe::block::Disk;
use crate::probe::fuse;
use crate::sys::mem::Buffer;
use crate::sys::mount;
use crate::sys::root::Root;
use crate::sys::{Errno, number};
use crate::wire::args::{Args, Param, Type, index_of, must};
use crate::wire::emit::Value;
use crate::wire::json::Str;
use crate::wire::reply::{Failed, Reply};
use crate::wire::texts::{Name, Phrase};

/// The temporary name of a file that will replace another. An interrupted command leaves it; the
/// next one removes it.
pub(super) const UNFINISHED: &CStr = c".gaunt";

/// The parameter of commands that are about a user, the first of those that have more.
pub(super) const USER: &[Param] = &[must("username", Type::Str)];

/// The error of every command that needs the mount table and cannot read it, as qemu-ga words it.
pub(super) fn no_mount_table(reply: &mut Reply<'_>) -> Failed {
    reply.fail(Phrase::NoMountTable)
}

/// Aborts all FUSE connections whose server owes an answer, so that the processes that wait for it
/// go on. Returns whether there was one.
pub(super) fn abort_fuse(root: &Root) -> bool {
    let mut aborted = false;
    // Where no init has mounted fusectl; EBUSY otherwise.
    let _ = mount::mount(
        &[b"fusectl", b"/sys/fs/fuse/connections", b"fusectl", b""],
        0,
    );
    let _ = fuse::each_waiting(root, &mut |connections, name| {
        aborted |= connections.tell(&[name, b"/abort"], b"1").is_ok();
    });
    aborted
}

/// The error for a mount whose path leads to another file system.
pub(super) const ELSEWHERE: &[u8] = b"the path leads to another file system";

/// An error of this phrase and the words for an error number.
#[inline(never)]
pub(super) fn cannot(reply: &mut Reply<'_>, what: Phrase, errno: Errno) -> Failed {
    reply.fail_with(what, &[], number(errno))
}

/// The reply to work without a value: the empty object, or an error of this phrase.
#[inline(never)]
pub(super) fn outcome(
    reply: &mut Reply<'_>,
    what: Phrase,
    done: Result<(), Errno>,
) -> Result<u8, Failed> {
    match done {
        Ok(()) => Ok(0),
        Err(errno) => Err(cannot(reply, what, errno)),
    }
}

/// Decodes a base64 string of the request and appends the bytes; an error of this phrase if there
/// is no room.
#[inline(never)]
pub(super) fn decode(
    text: Str<'_>,
    out: &mut dyn ByteSink,
    what: Phrase,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    text.base64(out).map_err(|fault| match fault {
        DecodeError::Invalid => reply.fail(Phrase::NotBase64),
        DecodeError::Full => cannot(reply, what, Errno::NOMEM),
    })
}

/// The user that a command is about.
#[inline(never)]
pub(super) fn user_name(args: &Args<'_>, room: &mut Buffer) -> &'static [u8] {
    if let Some(name) = args.string(const { index_of(USER, "username") }) {
        let _ = name.decode(room);
    }
    room.take()
}

/// The name of a kind of bus in GuestDiskBusType.
fn bus_type(bus: Option<Bus>) -> &'static str {
    match bus {
        Some(Bus::Ide) => "ide",
        Some(Bus::Sata) => "sata",
        Some(Bus::Scsi) => "scsi",
        Some(Bus::Virtio) => "virtio",
        Some(Bus::Nvme) => "nvme",
        Some(Bus::Usb) => "usb",
        None => "unknown",
    }
}

/// Writes where a disk is attached.
pub(super) fn put_address(value: Value<'_, '_>, disk: &Disk) {
    let mut address = value.object();
    // -1 each for a disk that is not on PCI.
    let mut pci = address.object(Name::PciController);
    pci.signed_numbers(Name::PciPlace, disk.attachment.pci());
    drop(pci);
    address.text(Name::BusType, bus_type(disk.bus).as_bytes());
    address.numbers(Name::BusPlace, &disk.numbers);
    if let Some(serial) = disk.serial.text() {
        address.text(Name::Serial, serial);
    }
    if !disk.device.node.is_empty() {
        address.text(Name::Dev, &disk.device.node);
    }
    if let Some(numbers) = disk.attachment.ccw() {
        let mut ccw = address.object(Name::CcwAddress);
        ccw.numbers(Name::CcwPlace, numbers);
    }
}
