//! guest-get-vcpus, -set-vcpus, -get-memory-blocks, -set-memory-blocks, -get-memory-block-info.
//!
//! Processors and blocks come in the order of their directory, as with qemu-ga: the protocol leaves
//! the order open, and numbers, gaps and all, are what clients go by. Whatever changes something is
//! done by a child, because the kernel may take minutes to clear a block; blocks are listed by one
//! because there can be very many.
//!
//! Differences from qemu-ga: a block that has no state file, and is to be in use, is `success`
//! without an error code; a block or processor that is already in the requested state need not be
//! writable; a machine without a single block has an empty list.

use super::command::Work;
use super::common::cannot;
use crate::base::limits::CPU_LIST_BYTES;
use crate::base::path::Path;
use crate::base::text::{Digits, parse_hex};
use crate::probe::hotplug::{CPUS, Fault, MEMORY, PartKind, PartStep, Parts, REMOVABLE};
use crate::state::State;
use crate::sys::root::{KeptDirectory, Root};
use crate::sys::{Errno, number};
use crate::wire::args::{Args, MemberParams, Param, Type, index_of, may, must};
use crate::wire::emit::Value;
use crate::wire::json::Json;
use crate::wire::reply::{Failed, Reply};
use crate::wire::texts::{Name, Phrase};

pub(super) const VCPUS: &[Param] = &[must("vcpus", Type::Objects(&VCPU))];

static VCPU: MemberParams = MemberParams(&[
    must("logical-id", Type::Int),
    must("online", Type::Bool),
    may("can-offline", Type::Bool),
]);

pub(super) const BLOCKS: &[Param] = &[must("mem-blks", Type::Objects(&MEMORY_BLOCK))];

static MEMORY_BLOCK: MemberParams = MemberParams(&[
    must("phys-index", Type::Uint64),
    must("online", Type::Bool),
    may("can-offline", Type::Bool),
]);

/// Lists processors, and whether they run.
pub(super) fn get_vcpus(
    state: &mut State,
    _: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    let guest = &mut state.guest;
    // Kept open, because opening takes longer than reading.
    let cpus = guest.cpus.take().map_or_else(|| CPUS.open(&guest.root), Ok);
    let listed = list(&CPUS, &cpus, reply);
    guest.cpus = cpus.ok();
    listed.map(drop)
}

/// Starts and stops processors.
pub(super) const SET_VCPUS: Work = |guest, _, args, reply| {
    let mut done = 0;
    let cpus = args.value(const { index_of(VCPUS, "vcpus") });
    for cpu in cpus.unwrap_or_default().items() {
        let (cpu, online) = wanted(cpu);
        match CPUS.set(&guest.root, cpu, online) {
            Ok(()) => done += 1,
            Err(_) if done > 0 => break,
            Err(fault) => return Err(fail(reply, &CPUS, cpu, CPUS.file, fault)),
        }
    }
    reply.value().int(done);
    Ok(0)
};

/// Lists memory blocks, and whether they are in use.
pub(super) const GET_MEMORY_BLOCKS: Work = |guest, _, _, reply| {
    let blocks = MEMORY.open(&guest.root);
    list(&MEMORY, &blocks, reply)
};

/// Puts memory blocks into use and takes them out.
pub(super) const SET_MEMORY_BLOCKS: Work = |guest, _, args, reply| {
    let mut list = reply.list();
    let blocks = args.value(const { index_of(BLOCKS, "mem-blks") });
    for block in blocks.unwrap_or_default().items() {
        set_block(&guest.root, wanted(block), list.item());
    }
    Ok(0)
};

#[inline(never)]
fn set_block(root: &Root, (block, online): (i64, bool), value: Value<'_, '_>) {
    let set = MEMORY.set(root, block, online);
    let mut item = value.object();
    item.uint(Name::PhysIndex, block.cast_unsigned());
    let response = item.member(Name::Response);
    match set {
        Ok(()) => response.text(b"success"),
        Err(fault) => {
            response.text(match fault.step {
                PartStep::Find if root.has_at(&[MEMORY.directory.as_bytes()]) == Ok(true) => {
                    b"not-found"
                }
                PartStep::Find | PartStep::TakeOut => b"operation-not-supported",
                _ => b"operation-failed",
            });
            item.int(Name::ErrorCode, fault.errno.map_or(0, number).into());
        }
    }
}

/// The file that says how large a memory block is.
const BLOCK_SIZE: &str = "/block_size_bytes";

/// Tells how large a memory block is.
pub(super) fn get_memory_block_info(
    state: &mut State,
    _: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    block_size(&state.guest.root, reply)
}

fn block_size(root: &Root, reply: &mut Reply<'_>) -> Result<(), Failed> {
    let mut buffer = [0; 24];
    let directory = MEMORY.directory.as_bytes();
    let fault = match root.read_at(&[directory, BLOCK_SIZE.as_bytes()], &mut buffer) {
        Ok([]) => Fault {
            step: PartStep::Read,
            errno: None,
        },
        Ok(size) => {
            let size = parse_hex(size.trim_ascii()).unwrap_or(0);
            let mut object = reply.object();
            object.uint(Name::Size, size);
            return Ok(());
        }
        Err(errno) if root.has_at(&[directory]) != Ok(true) => {
            return Err(cannot(reply, Phrase::CannotListMemory, errno));
        }
        Err(Errno::NOENT) => Fault::new(PartStep::Open, Errno::NOENT),
        Err(errno) => Fault::new(PartStep::Read, errno),
    };
    Err(fail(reply, &MEMORY, 0, BLOCK_SIZE, fault))
}

fn list(
    kind: &'static PartKind,
    kept: &Result<KeptDirectory, Errno>,
    reply: &mut Reply<'_>,
) -> Result<u8, Failed> {
    let mut outcome = Ok(());
    let mut part = 0;
    let mut list = reply.list();
    let listed = kept.as_ref().map_err(|errno| *errno).and_then(|kept| {
        let parts = kind.parts(kept);
        let mut buffer = [0; CPU_LIST_BYTES];
        let running = parts.running(&mut buffer);
        parts.each_number(&mut |number| {
            part = number;
            outcome = put(kind, parts, running, number, list.item());
            outcome.is_ok()
        })
    });
    drop(list);
    if let Err((file, fault)) = outcome {
        return Err(fail(reply, kind, part, file, fault));
    }
    match listed {
        Ok(()) => Ok(0),
        Err(Errno::NOENT) if kind.is_memory => Ok(0),
        Err(errno) => {
            let what = match kind.is_memory {
                true => Phrase::CannotListBlocks,
                false => Phrase::CannotListParts,
            };
            Err(reply.fail_with(what, &[kind.directory.as_bytes()], number(errno)))
        }
    }
}

/// The member that holds the number of a part.
fn number_name(kind: &PartKind) -> Name {
    match kind.is_memory {
        true => Name::PhysIndex,
        false => Name::LogicalId,
    }
}

/// Writes about one part, or gives the file that does not tell, and why.
#[inline(never)]
fn put(
    kind: &PartKind,
    parts: Parts<'_>,
    running: Option<&[u8]>,
    part: i64,
    value: Value<'_, '_>,
) -> Result<(), (&'static str, Fault)> {
    let online = parts.is_online(running, part);
    let online = online.map_err(|fault| (kind.file, fault))?;
    let removable = match online {
        Some(_) if kind.is_memory => {
            let removable = parts.is_removable(part);
            removable.map_err(|fault| (REMOVABLE, fault))?
        }
        online => online.is_some(),
    };
    let mut item = value.object();
    item.int(number_name(kind), part);
    item.bool(Name::Online, online != Some(false));
    item.bool(Name::CanOffline, removable);
    Ok(())
}

/// The number of a part, and whether it is to be in use: of an object that has been checked, and so
/// has one number.
#[inline(never)]
fn wanted(value: Json<'_>) -> (i64, bool) {
    let (mut number, mut online) = (0, false);
    for (name, value) in value.members() {
        if let Some(value) = value.uint() {
            number = value;
        } else if name.is("online") {
            online = value.bool() == Some(true);
        }
    }
    (number.cast_signed(), online)
}

/// The error of what could not be done with a file of a part. Those of memory are named without
/// their directory, as qemu-ga does.
#[inline(never)]
fn fail(
    reply: &mut Reply<'_>,
    kind: &PartKind,
    part: i64,
    file: &'static str,
    fault: Fault,
) -> Failed {
    let memory = kind.is_memory;
    let call = match fault.step {
        PartStep::TakeOut => return reply.fail_number(Phrase::CannotTakeOut, part),
        PartStep::Read if memory => Phrase::CannotReadSysfs,
        PartStep::Open if memory => Phrase::CannotOpenSysfs,
        PartStep::Read => Phrase::CannotReadPart,
        PartStep::Write => Phrase::CannotWritePart,
        PartStep::Open => Phrase::CannotOpenPart,
        PartStep::Find => Phrase::CannotFindPart,
    };
    let directory = Path::of(&[
        kind.directory.as_bytes(),
        b"/",
        kind.prefix.as_bytes(),
        Digits::signed(part).as_bytes(),
    ]);
    let path = [directory.as_bytes(), file.as_bytes()];
    // The slash before the file is the second: to qemu-ga the first ends the directory's name.
    let path = match call {
        Phrase::CannotReadSysfs | Phrase::CannotOpenSysfs => &[&path[1][1..]],
        Phrase::CannotFindPart => &path[..1],
        _ => &path[..],
    };
    let error = reply.error().phrase(call, path);
    match fault.errno {
        None => error.text(": unexpected EOF").end(),
        Some(errno) => error.end_with(number(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::packed::Text;
    use crate::base::sink::ByteSink;
    use crate::sys::mem::Buffer;
    use crate::sys::testing::Tree;
    use std::fs;
    use std::path::Path;

    fn reply(root: &Root, kind: &'static PartKind) -> String {
        let mut out = Buffer::growing(16 << 20);
        let mut reply = Reply::new(&mut out);
        let outcome = list(kind, &kind.open(root), &mut reply).map(drop);
        reply.finish(outcome);
        String::from_utf8(out.bytes().to_vec()).unwrap()
    }

    fn error(desc: &str) -> String {
        let desc = desc.replace('"', "\\\"");
        format!("{{\"error\": {{\"class\": \"GenericError\", \"desc\": \"{desc}\"}}}}\n")
    }

    #[test]
    fn processors_are_listed_or_the_reason_is() {
        let tree = Tree::new();
        let cpus = Path::new("sys/devices/system/cpu");
        let none = "failed to list entries: /sys/devices/system/cpu: No such file or directory";
        assert_eq!(reply(&tree.root, &CPUS), error(none));
        for (cpu, online, replied) in [
            ("cpufreq", None, ""),
            ("cpu0", None, "\"online\": true, \"can-offline\": false"),
            (
                "cpu2",
                Some("1\n"),
                "\"online\": true, \"can-offline\": true",
            ),
            (
                "cpu10",
                Some("0\n"),
                "\"online\": false, \"can-offline\": true",
            ),
        ] {
            tree.directory(cpus.join(cpu));
            if let Some(online) = online {
                tree.file(cpus.join(cpu).join("online"), online);
            }
            let id = cpu
                .strip_prefix("cpu")
                .and_then(|id| id.parse::<u32>().ok());
            let replied = match id {
                Some(id) => format!("{{\"logical-id\": {id}, {replied}}}"),
                None => String::new(),
            };
            assert_eq!(
                reply(&tree.root, &CPUS),
                format!("{{\"return\": [{replied}]}}\n")
            );
            if cpu != "cpu10" {
                fs::remove_dir_all(tree.path.join(cpus.join(cpu))).unwrap();
            }
        }
        tree.file(cpus.join("cpu10/online"), "");
        let empty = "pread(\"/sys/devices/system/cpu/cpu10//online\"): unexpected EOF";
        assert_eq!(reply(&tree.root, &CPUS), error(empty));
    }

    #[test]
    fn what_cannot_be_done_is_said_in_qemu_ga_s_words() {
        let fault = |step, number| Fault {
            step,
            errno: (number != 0).then(|| Errno::from_raw_os_error(number)),
        };
        let cpu = "/sys/devices/system/cpu/cpu7/";
        for (kind, file, fault, desc) in [
            (
                &CPUS,
                CPUS.file,
                fault(PartStep::TakeOut, 2),
                "logical processor #7 can't be offlined".to_owned(),
            ),
            (
                &CPUS,
                CPUS.file,
                fault(PartStep::Find, 2),
                format!("Could not open '{cpu}': No such file or directory"),
            ),
            (
                &CPUS,
                CPUS.file,
                fault(PartStep::Open, 13),
                format!("could not open {cpu}/online: Permission denied"),
            ),
            (
                &CPUS,
                CPUS.file,
                fault(PartStep::Write, 16),
                format!("pwrite(\"{cpu}/online\"): Device or resource busy"),
            ),
            (
                &MEMORY,
                MEMORY.file,
                fault(PartStep::Open, 13),
                "open sysfs file \"state\": Permission denied".to_owned(),
            ),
            (
                &MEMORY,
                REMOVABLE,
                fault(PartStep::Read, 5),
                "pread sysfs file \"removable\": Input/output error".to_owned(),
            ),
        ] {
            let mut out = heapless::Vec::<u8, 256>::new();
            let mut reply = Reply::new(&mut out);
            let failed = fail(&mut reply, kind, 7, file, fault);
            reply.finish(Err(failed));
            assert_eq!(String::from_utf8(out.to_vec()).unwrap(), error(&desc));
        }
    }

    #[test]
    fn the_size_of_a_block_or_why_there_is_none() {
        let tree = Tree::new();
        let blocks = Path::new("sys/devices/system/memory");
        let says = || {
            let mut out = heapless::Vec::<u8, 256>::new();
            let mut reply = Reply::new(&mut out);
            let outcome = block_size(&tree.root, &mut reply);
            reply.finish(outcome);
            String::from_utf8(out.to_vec()).unwrap()
        };
        let missing = "open(\"/sys/devices/system/memory/\"): No such file or directory";
        assert_eq!(says(), error(missing));
        tree.directory(blocks);
        let missing = "open sysfs file \"block_size_bytes\": No such file or directory";
        assert_eq!(says(), error(missing));
        let file = &blocks.join("block_size_bytes");
        tree.file(file, "");
        let empty = "pread sysfs file \"block_size_bytes\": unexpected EOF";
        assert_eq!(says(), error(empty));
        tree.file(file, "8000000\n");
        assert_eq!(says(), "{\"return\": {\"size\": 134217728}}\n");
        fs::remove_file(tree.path.join(file)).unwrap();
        tree.directory(file);
        let unreadable = "pread sysfs file \"block_size_bytes\": Is a directory";
        assert_eq!(says(), error(unreadable));
    }

    #[test]
    fn a_large_machine_s_parts_are_all_listed() {
        // On a disk as many directories take half a minute.
        let tree = Tree::in_memory();
        for (kind, count) in [(&CPUS, 1024), (&MEMORY, 100_000)] {
            for part in 0..count {
                tree.directory(format!("{}/{}{part}", kind.directory, kind.prefix));
            }
            let reply = reply(&tree.root, kind);
            let name = Text::from(number_name(kind)).unpack();
            let number = format!("\"{}\": ", str::from_utf8(&name).unwrap());
            let mut numbers: Vec<u32> = reply
                .split(&number)
                .skip(1)
                .map(|rest| rest.split(',').next().unwrap().parse().unwrap())
                .collect();
            numbers.sort_unstable();
            assert!(numbers.into_iter().eq(0..count));
        }
    }

    #[test]
    fn memory_blocks_are_listed_or_the_reason_is() {
        let tree = Tree::new();
        let blocks = Path::new("sys/devices/system/memory");
        assert_eq!(reply(&tree.root, &MEMORY), "{\"return\": []}\n");
        tree.directory(blocks.join("power"));
        assert_eq!(reply(&tree.root, &MEMORY), "{\"return\": []}\n");
        let block = &blocks.join("memory32");
        tree.directory(block);
        let is = |online: bool, removable: bool| {
            let members = format!("\"online\": {online}, \"can-offline\": {removable}");
            assert_eq!(
                reply(&tree.root, &MEMORY),
                format!("{{\"return\": [{{\"phys-index\": 32, {members}}}]}}\n")
            );
        };
        is(true, false);
        tree.file(block.join("state"), "offline\n");
        is(false, false);
        tree.file(block.join("removable"), "0\n");
        is(false, false);
        tree.file(block.join("removable"), "1\n");
        tree.file(block.join("state"), "online\n");
        is(true, true);
        tree.file(block.join("removable"), "");
        let empty = "pread sysfs file \"removable\": unexpected EOF";
        assert_eq!(reply(&tree.root, &MEMORY), error(empty));
        tree.file(block.join("state"), "");
        let empty = "pread sysfs file \"state\": unexpected EOF";
        assert_eq!(reply(&tree.root, &MEMORY), error(empty));
        fs::remove_file(tree.path.join(block.join("state"))).unwrap();
        tree.directory(block.join("state"));
        let unreadable = "pread sysfs file \"state\": Is a directory";
        assert_eq!(reply(&tree.root, &MEMORY), error(unreadable));
        let set = |index: i64, online: bool| {
            let mut out = heapless::Vec::<u8, 256>::new();
            let mut reply = Reply::new(&mut out);
            set_block(&tree.root, (index, online), reply.value());
            reply.finish(Ok(()));
            String::from_utf8(out.to_vec()).unwrap()
        };
        let said = |rest: &str| format!("{{\"return\": {{\"phys-index\": {rest}}}}}\n");
        let not_found =
            said("18446744073709551615, \"response\": \"not-found\", \"error-code\": 2");
        assert_eq!(set(-1, true), not_found);
        let failed = said("32, \"response\": \"operation-failed\", \"error-code\": 21");
        assert_eq!(set(32, true), failed);
        fs::remove_dir(tree.path.join(block.join("state"))).unwrap();
        assert_eq!(set(32, true), said("32, \"response\": \"success\""));
        let fixed = "32, \"response\": \"operation-not-supported\", \"error-code\": 2";
        assert_eq!(set(32, false), said(fixed));
        fs::remove_dir_all(&tree.path).unwrap();
        assert_eq!(set(32, true), said(fixed));
    }
}
