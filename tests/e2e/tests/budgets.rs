//! What the agent may take, as far as it can be counted: bytes, memory, system calls, instructions.
//! What takes time is for benchmarks.

use gaunt_e2e::agent::Agent;
use gaunt_e2e::client::{Client, request};
use gaunt_e2e::{agent_binary, plain_binary, wait};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// Limit of the release build in bytes, everything built in. The aim is 131,072.
const BINARY_BYTES: u64 = 151_552;
/// Limit of the plain build in bytes. The aim is 163,840.
const PLAIN_BYTES: u64 = 172_032;

/// Instructions of the agent's own, without the kernel's, that a command takes at most. For a ping the
/// aim is 2,000.
const INSTRUCTIONS: [(&str, u64); 2] = [("guest-ping", 3_500), ("guest-info", 60_000)];

const PINGS: usize = 50;

fn ping(client: &mut Client) {
    for _ in 0..PINGS {
        assert_eq!(client.get("guest-ping"), json!({}));
    }
}

/// Checks that a program has no more than so many bytes, and that it is static.
fn check_binary(path: &Path, most: u64) {
    let bytes = std::fs::read(path).expect("the agent");
    let len = bytes.len() as u64;
    assert!(len <= most, "{len} bytes");
    // Program headers (elf(5)): none names an interpreter or libraries.
    let number = |at: usize, len: usize| {
        let field = &bytes[at..at + len];
        let bytes = field
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        usize::try_from(bytes).expect("a small number")
    };
    let (first, size, count) = (number(0x20, 8), number(0x36, 2), number(0x38, 2));
    const PT_DYNAMIC: usize = 2;
    const PT_INTERP: usize = 3;
    for header in 0..count {
        let kind = number(first + header * size, 4);
        assert!(kind != PT_DYNAMIC && kind != PT_INTERP, "type {kind}");
    }
    eprintln!("{}: {len} bytes", path.display());
}

#[test]
fn the_binary_is_small_and_static() {
    check_binary(&agent_binary(), BINARY_BYTES);
}

#[test]
fn the_plain_build_is_small_static_and_serves() {
    check_binary(&plain_binary(), PLAIN_BYTES);
    let (plain, release) = (Agent::plain(), Agent::gaunt(&[]));
    let (mut plain, mut release) = (plain.client(), release.client());
    assert_eq!(plain.get("guest-info"), release.get("guest-info"));
    // In a child of its own.
    assert_eq!(plain.get("guest-get-vcpus"), release.get("guest-get-vcpus"));
}

#[test]
fn fifty_pings_leave_little_memory_in_use() {
    let agent = Agent::gaunt(&[]);
    ping(&mut agent.client());
    let resident = agent.resident_kb();
    assert!(resident <= 200, "{resident} kB");
    eprintln!("resident {resident} kB");
}

/// How often each system call is made, by all processes of the agent, while this is done.
fn calls_of(agent: &Agent, work: impl FnOnce()) -> BTreeMap<String, usize> {
    let log = agent.state().join("calls");
    let mut tracer = agent.trace(&["-o", log.to_str().expect("a plain path")]);
    work();
    // The agent is waiting again when it is asked for another thing.
    tracer.signal(libc::SIGINT);
    assert!(tracer.wait(wait::ANSWER).is_some());
    let calls = std::fs::read_to_string(&log).expect("what strace saw");
    let mut counts = BTreeMap::new();
    for line in calls.lines() {
        // The number of the process, then the call; one that was cut in two counts once.
        let call = line
            .split([' ', '('])
            .find(|word| word.parse::<u32>().is_err() && !word.is_empty());
        let call = call.unwrap_or_default();
        if !call.starts_with('<') {
            *counts.entry(call.to_owned()).or_insert(0) += 1;
        }
    }
    counts
}

#[test]
fn a_ping_is_three_system_calls() {
    let mut agent = Agent::gaunt(&[]);
    let mut client = agent.client();
    ping(&mut client);
    let counts = calls_of(&agent, || ping(&mut client));
    let total: usize = counts.values().sum();
    // The wait it was in to begin with, and the one it is in now.
    assert!((3 * PINGS..=3 * PINGS + 2).contains(&total), "{counts:?}");
    assert_eq!(
        (counts["read"], counts["write"]),
        (PINGS, PINGS),
        "{counts:?}"
    );
    assert!(agent.process().ended().is_none());
    eprintln!("{counts:?}");
}

/// Writes of 4 KiB.
const WRITES: usize = 20;

#[test]
fn a_write_of_four_kibibytes_is_nine_system_calls() {
    let agent = Agent::gaunt(&[]);
    let mut client = agent.client();
    let path = agent.state().join("written");
    let open = json!({ "path": path.to_str(), "mode": "w" });
    let handle = client.call("guest-file-open", open);
    // 4,096 zeros.
    let data = format!("{}AA==", "A".repeat(5460));
    let arguments = json!({ "handle": handle, "buf-b64": data });
    let mut write = || {
        let written = client.call("guest-file-write", arguments.clone());
        assert_eq!(written["count"], 4096);
    };
    write();
    let counts = calls_of(&agent, || (0..WRITES).for_each(|_| write()));
    let total: usize = counts.values().sum();
    // The waits of agent and worker to begin with, and those that they are in now.
    assert!((9 * WRITES..=9 * WRITES + 4).contains(&total), "{counts:?}");
    let bytes = std::fs::metadata(&path).expect("a file").len();
    assert_eq!(bytes, 4096 * (WRITES as u64 + 1));
    eprintln!("{counts:?}");
}

/// Proportional set size of all processes after slow commands of both kinds of workers, in kB. The aim is
/// 300.
const ALL_PSS_KB: u64 = 310;

#[test]
fn workers_leave_little_memory_in_use() {
    let agent = Agent::gaunt(&[]);
    let mut client = agent.client();
    let path = agent.state().join("written");
    for _ in 0..5 {
        let open = json!({ "path": path.to_str(), "mode": "w" });
        let handle = client.call("guest-file-open", open);
        let arguments = json!({ "handle": handle, "buf-b64": "A".repeat(5460) });
        client.call("guest-file-write", arguments);
        client.call("guest-file-close", json!({ "handle": handle }));
        for command in ["guest-get-fsinfo", "guest-get-disks", "guest-ping"] {
            client.get(command);
        }
    }
    let mut pids = agent.children();
    assert_eq!(pids.len(), 2, "a worker for files, and one for the guest");
    pids.push(agent.id());
    let pss = |pid: u32| -> u64 {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(&path).expect("what it takes");
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let words = line.expect("a line").trim().split(' ').next();
        words.expect("a number").parse().expect("a number")
    };
    // A worker gives memory back after its reply has left.
    let mut each = Vec::new();
    let found = wait::until(wait::ANSWER, || {
        each = pids.iter().copied().map(pss).collect();
        (each.iter().sum::<u64>() <= ALL_PSS_KB).then_some(())
    });
    assert!(found.is_some(), "{each:?} kB");
    eprintln!("{each:?} kB");
}

/// Rounds of a hundred tasks.
const ROUNDS: usize = 1_000;
/// Pages that a loaded machine may have a process touch for the first time, in kB. One byte left behind by
/// each task would be six times as much.
const SPARE_KB: u64 = 16;

#[test]
fn a_hundred_thousand_tasks_leave_memory_and_descriptors_as_they_were() {
    let agent = Agent::gaunt(&[]);
    let mut client = agent.client();
    let open = json!({ "path": "/dev/null", "mode": "w" });
    let kept = client.call("guest-file-open", open.clone());
    let arguments = json!({ "handle": kept, "buf-b64": "AAAA" });
    let write = request("guest-file-write", &arguments);
    let mut round = || {
        client.send(write.repeat(92));
        for _ in 0..92 {
            assert_eq!(client.reply()["return"]["count"], 3);
        }
        for _ in 0..3 {
            let handle = client.call("guest-file-open", open.clone());
            client.call("guest-file-close", json!({ "handle": handle }));
        }
        for _ in 0..2 {
            client.get("guest-get-fsinfo");
        }
    };
    let measured = || {
        let mut pids = agent.children();
        pids.push(agent.id());
        let mut each = Vec::new();
        for pid in pids {
            let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
            let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kb = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
            let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors");
            each.push((pid, fds.count(), kb.expect("a number")));
        }
        each
    };
    for _ in 0..20 {
        round();
    }
    let before = measured();
    for _ in 0..ROUNDS {
        round();
    }
    let mut after = Vec::new();
    // A worker gives memory back after its reply has left.
    let same = wait::until(wait::ANSWER, || {
        after = measured();
        let mut pairs = before.iter().zip(&after);
        let same = pairs.all(|(one, other)| {
            (one.0, one.1) == (other.0, other.1) && other.2 <= one.2 + SPARE_KB
        });
        (same && before.len() == after.len()).then_some(())
    });
    assert!(same.is_some(), "{before:?}, {after:?}");
    eprintln!("{after:?}");
}

#[test]
fn a_ping_and_an_info_take_so_many_instructions() {
    /// Enough for what happens once to be told from what happens each time.
    const CALLS: u64 = 200;
    let count = |command: &str, calls: u64| -> u64 {
        let agent = Agent::under_callgrind();
        let mut client = agent.client();
        for _ in 0..calls {
            client.get(command);
        }
        agent.instructions()
    };
    for (command, most) in INSTRUCTIONS {
        let each = (count(command, 2 * CALLS) - count(command, CALLS)) / CALLS;
        assert!(each <= most, "{command}: {each} instructions");
        eprintln!("{command}: {each} instructions");
    }
}
