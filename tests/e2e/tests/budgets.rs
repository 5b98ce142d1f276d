//! What the agent may take, as far as it can be counted: bytes, memory, system calls, instructions.
//! What takes time is for benchmarks.

use gaunt_e2e::agent::Agent;
use gaunt_e2e::client::Client;
use gaunt_e2e::{agent_binary, plain_binary, wait};
use serde_json::json;
use std::path::Path;

/// What the release build weighs at most, everything built in. The aim is 131,072; hooks took it past
/// that, and nothing else may.
const BINARY_BYTES: u64 = 134_144;
/// What the plain build weighs at most.
const PLAIN_BYTES: u64 = 163_840;

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

#[test]
fn a_ping_is_three_system_calls() {
    let mut agent = Agent::gaunt(&[]);
    let mut client = agent.client();
    ping(&mut client);
    let log = agent.state().join("calls");
    let mut tracer = agent.trace(&["-o", log.to_str().expect("a plain path")]);
    ping(&mut client);
    // The agent is waiting again when it is asked for another thing.
    tracer.signal(libc::SIGINT);
    assert!(tracer.wait(wait::ANSWER).is_some());
    let calls = std::fs::read_to_string(&log).expect("what strace saw");
    let mut counts = std::collections::BTreeMap::new();
    for line in calls.lines() {
        // The number of the process, then the call.
        let call = line
            .split([' ', '('])
            .find(|word| word.parse::<u32>().is_err() && !word.is_empty());
        *counts.entry(call.unwrap_or_default()).or_insert(0) += 1;
    }
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

#[test]
fn a_ping_and_an_info_take_so_many_instructions() {
    /// Enough for what happens once to be told from what happens each time.
    const CALLS: u64 = 200;
    let count = |command: &str, calls: u64| -> u64 {
        let agent = Agent::counted();
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
