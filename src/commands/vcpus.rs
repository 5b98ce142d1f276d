//! guest-get-vcpus.
//!
//! Processors come in the order of their directory, as with qemu-ga: the protocol leaves the order
//! open, and numbers, gaps and all, are what clients go by.

use crate::probe::cpus::{self, Fault, Online};
use crate::state::State;
use crate::sys::number;
use crate::sys::root::Root;
use crate::wire::args::Args;
use crate::wire::reply::{Failed, Reply};

/// Lists processors, and whether they run.
pub(super) fn get_vcpus(
    state: &mut State,
    _: &Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    list(&state.root, reply)
}

fn list(root: &Root, reply: &mut Reply<'_>) -> Result<(), Failed> {
    let mut fault = None;
    let mut list = reply.value().list();
    let listed = cpus::each(root, &mut |cpu| {
        let online = match cpus::online(root, cpu) {
            Ok(online) => online,
            Err(what) => {
                fault = Some((cpu, what));
                return false;
            }
        };
        let mut item = list.item().object();
        item.member("logical-id").uint(cpu);
        item.member("online").bool(online != Online::No);
        item.member("can-offline").bool(online != Online::Always);
        item.end();
        true
    });
    list.end();
    if let Err(errno) = listed {
        let error = reply
            .fail()
            .text("failed to list entries: /sys/devices/system/cpu");
        return Err(error.errno(number(errno)).end());
    }
    fault.map_or(Ok(()), |(cpu, what)| Err(fail(reply, cpu, what)))
}

fn fail(reply: &mut Reply<'_>, cpu: u64, fault: Fault) -> Failed {
    const OPEN: &str = "open(\"/sys/devices/system/cpu/cpu";
    const PREAD: &str = "pread(\"/sys/devices/system/cpu/cpu";
    // Of the two slashes one is the end of the directory's name, to qemu-ga.
    let (call, file, errno) = match fault {
        Fault::Directory(errno) => (OPEN, "/\")", Some(errno)),
        Fault::Open(errno) => (OPEN, "//online\")", Some(errno)),
        Fault::Read(errno) => (PREAD, "//online\")", Some(errno)),
        Fault::Empty => (PREAD, "//online\"): unexpected EOF", None),
    };
    let mut error = reply.fail().text(call).number(cpu.cast_signed()).text(file);
    if let Some(errno) = errno {
        error = error.errno(number(errno));
    }
    error.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::fs;

    fn reply(root: &Root) -> String {
        let mut out = heapless::Vec::<u8, 4096>::new();
        let mut reply = Reply::new(&mut out, None);
        let outcome = list(root, &mut reply);
        reply.finish(outcome);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn processors_are_listed_or_the_reason_is() {
        let path = std::env::temp_dir().join(format!("gaunt-vcpus-{}", std::process::id()));
        let cpus = path.join("sys/devices/system/cpu");
        fs::create_dir_all(&path).unwrap();
        let root = Root::open(&CString::new(path.to_str().unwrap()).unwrap()).unwrap();
        assert_eq!(
            reply(&root),
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \"failed to list entries: \
             /sys/devices/system/cpu: No such file or directory\"}}\n"
        );
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
            fs::create_dir_all(cpus.join(cpu)).unwrap();
            if let Some(online) = online {
                fs::write(cpus.join(cpu).join("online"), online).unwrap();
            }
            let replied = match cpu
                .strip_prefix("cpu")
                .and_then(|id| id.parse::<u32>().ok())
            {
                Some(id) => format!("{{\"logical-id\": {id}, {replied}}}"),
                None => String::new(),
            };
            assert_eq!(reply(&root), format!("{{\"return\": [{replied}]}}\n"));
            if cpu != "cpu10" {
                fs::remove_dir_all(cpus.join(cpu)).unwrap();
            }
        }
        fs::write(cpus.join("cpu10/online"), "").unwrap();
        assert_eq!(
            reply(&root),
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \
             \"pread(\\\"/sys/devices/system/cpu/cpu10//online\\\"): unexpected EOF\"}}\n"
        );
        fs::remove_dir_all(path).unwrap();
    }
}
