//! Limits of the agent's bytes, memory, system calls and instructions.
//!
//! Agents on this machine; no guest. Needs both builds, strace and valgrind. Times are not measured:
//! they depend on the machine.

use gaunt_e2e::agent::Agent;
use gaunt_e2e::client::{Client, request};
use gaunt_e2e::{agent_binary, limited_binary, plain_binary, top, wait};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// Limit of the release build in bytes, with all features. The aim is 131,072.
const BINARY_BYTES: u64 = 189_440;
/// Limit of the plain build in bytes. The aim is 163,840.
const PLAIN_BYTES: u64 = 212_992;

/// Limits of the instructions in user space that a command takes.
const INSTRUCTIONS: [(&str, u64); 2] = [("guest-ping", 2_000), ("guest-info", 50_250)];

const PINGS: usize = 50;

fn ping(client: &mut Client) {
    for _ in 0..PINGS {
        assert_eq!(client.get("guest-ping"), json!({}));
    }
}

/// Asserts that a program has at most `most` bytes and is static.
fn check_binary(path: &Path, most: u64) {
    let bytes = std::fs::read(path).expect("the agent");
    let len = bytes.len() as u64;
    assert!(len <= most, "{len} bytes");
    // No program header (elf(5)) names an interpreter or libraries.
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
        assert!(
            kind != PT_DYNAMIC && kind != PT_INTERP,
            "program header of type {kind}"
        );
    }
    eprintln!("{}: {len} bytes", path.display());
}

#[test]
fn the_binary_is_small_and_static() {
    check_binary(&agent_binary(), BINARY_BYTES);
}

#[test]
fn the_readme_has_the_bytes_of_each_build() {
    let readme = std::fs::read_to_string(top().join("README.md")).expect("README.md");
    for (start, build) in [
        ("| `make build` |", agent_binary()),
        (
            "| `make build COMMANDS=@lifecycle` |",
            limited_binary("lifecycle"),
        ),
        ("| `make build COMMANDS=@info` |", limited_binary("info")),
        ("| bytes on disk,", agent_binary()),
        ("* The agent has", agent_binary()),
    ] {
        let len = std::fs::metadata(build).expect("a build").len();
        let line = readme.lines().find(|line| line.starts_with(start));
        let words = line.expect(start).split_whitespace();
        let mut numbers = words.filter_map(|word| word.replace(',', "").parse::<u64>().ok());
        assert!(
            numbers.any(|number| number.abs_diff(len) <= 128),
            "{start}: not {len}"
        );
    }
}

#[test]
fn the_plain_build_is_small_and_static_and_answers_as_the_release_build() {
    check_binary(&plain_binary(), PLAIN_BYTES);
    let (plain, release) = (Agent::plain(), Agent::gaunt(&[]));
    let (mut plain, mut release) = (plain.client(), release.client());
    assert_eq!(plain.get("guest-info"), release.get("guest-info"));
    // This command runs in a child.
    assert_eq!(plain.get("guest-get-vcpus"), release.get("guest-get-vcpus"));
}

/// The builds with fewer commands: the set, its limit in bytes, and what only code has that it lacks:
/// texts, numbers of ioctls, and loading the number of a system call (`push`, `pop`).
const LIMITED: [(&str, u64, &[&[u8]]); 2] = [
    (
        "lifecycle",
        163_840,
        &[
            b"authorized_keys",
            b"passwd.lock",
            // The beginning of a reply to guest-file-read.
            b"{\"return\": {\"buf-b64\": \"",
            // setgroups(2) and setresuid(2), to become a user.
            &[0x6A, 116, 0x58],
            &[0x6A, 117, 0x58],
        ],
    ),
    (
        "info",
        129_792,
        &[
            b"FSFREEZE_HOOK",
            b"sysrq-trigger",
            // FIFREEZE, FITHAW, FITRIM.
            &0xC004_5877_u32.to_le_bytes(),
            &0xC004_5878_u32.to_le_bytes(),
            &0xC018_5879_u32.to_le_bytes(),
        ],
    ),
];

/// Commands of @lifecycle that @info lacks, and commands that both lack.
const LIFECYCLE: [&str; 9] = [
    "guest-fsfreeze-freeze",
    "guest-fsfreeze-freeze-list",
    "guest-fsfreeze-thaw",
    "guest-fstrim",
    "guest-set-time",
    "guest-shutdown",
    "guest-suspend-disk",
    "guest-suspend-hybrid",
    "guest-suspend-ram",
];
const BEYOND_LIFECYCLE: [&str; 14] = [
    "guest-exec",
    "guest-exec-status",
    "guest-file-close",
    "guest-file-flush",
    "guest-file-open",
    "guest-file-read",
    "guest-file-seek",
    "guest-file-write",
    "guest-set-memory-blocks",
    "guest-set-user-password",
    "guest-set-vcpus",
    "guest-ssh-add-authorized-keys",
    "guest-ssh-get-authorized-keys",
    "guest-ssh-remove-authorized-keys",
];

#[test]
fn builds_with_fewer_commands_lack_their_code_and_refuse_them() {
    let whole = std::fs::read(agent_binary()).expect("the agent");
    let has = |program: &[u8], code: &[u8]| program.windows(code.len()).any(|part| part == code);
    let listed = |agent: &Agent| {
        let info = agent.client().get("guest-info");
        info["supported_commands"]
            .as_array()
            .expect("a list")
            .clone()
    };
    let count = listed(&Agent::gaunt(&[])).len();
    let mut missing: Vec<&str> = BEYOND_LIFECYCLE.to_vec();
    for (set, limit, codes) in LIMITED {
        if set == "info" {
            missing.extend(LIFECYCLE);
        }
        check_binary(&limited_binary(set), limit);
        let program = std::fs::read(limited_binary(set)).expect("the agent");
        for code in codes {
            assert!(has(&whole, code), "no build has {code:x?}");
            assert!(!has(&program, code), "@{set} has {code:x?}");
        }
        let agent = Agent::limited(set);
        let mut client = agent.client();
        let commands = listed(&agent);
        assert_eq!(commands.len(), count);
        for command in &commands {
            let name = command["name"].as_str().expect("a name");
            let is_missing = missing.contains(&name);
            assert_eq!(command["enabled"], !is_missing, "@{set}: {name}");
            if is_missing {
                let refusal = client.try_call(name, json!({})).expect_err(name);
                assert_eq!(refusal.class, "CommandNotFound");
                assert_eq!(
                    refusal.desc,
                    format!("Command {name} has been disabled: the command is not allowed")
                );
            }
        }
        // One that a worker runs.
        client.get("guest-get-osinfo");
    }
}

#[test]
fn resident_memory_after_fifty_pings_is_at_most_128_kb() {
    let agent = Agent::gaunt(&[]);
    ping(&mut agent.client());
    let resident = agent.resident_kb();
    assert!(resident <= 128, "{resident} kB");
    eprintln!("resident {resident} kB");
}

/// Counts the system calls of all processes of the agent during `work`, by name.
fn calls_of(agent: &Agent, work: impl FnOnce()) -> BTreeMap<String, usize> {
    let log = agent.state().join("calls");
    let mut tracer = agent.trace(&["-o", log.to_str().expect("a plain path")]);
    work();

    tracer.signal(libc::SIGINT);
    assert!(tracer.wait(wait::ANSWER).is_some());
    let calls = std::fs::read_to_string(&log).expect("the output of strace");
    let mut counts = BTreeMap::new();
    for line in calls.lines() {
        // "PID NAME(...". A call that strace prints in two parts, the second as "<... NAME resumed>",
        // counts once.
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
fn a_ping_takes_three_system_calls() {
    let mut agent = Agent::gaunt(&[]);
    let mut client = agent.client();
    ping(&mut client);
    let counts = calls_of(&agent, || ping(&mut client));
    let total: usize = counts.values().sum();
    // Plus the epoll_wait at the start of the trace and the one at its end.
    assert!((3 * PINGS..=3 * PINGS + 2).contains(&total), "{counts:?}");
    assert_eq!(
        (counts["read"], counts["write"]),
        (PINGS, PINGS),
        "{counts:?}"
    );
    assert!(agent.process().ended().is_none());
    eprintln!("{counts:?}");
}

/// Number of writes of 4 KiB.
const WRITES: usize = 20;

#[test]
fn a_write_of_four_kibibytes_takes_nine_system_calls() {
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
    // Plus the waits of agent and worker at the start of the trace and at its end.
    assert!((9 * WRITES..=9 * WRITES + 4).contains(&total), "{counts:?}");
    let bytes = std::fs::metadata(&path).expect("a file").len();
    assert_eq!(bytes, 4096 * (WRITES as u64 + 1));
    eprintln!("{counts:?}");
}

/// Limit of the proportional set size in kB: the agent and a worker of each kind, all at rest. The first
/// piece of the program's code counts 64 kB (`targets/layout.ld`); another piece that a process keeps
/// mapped would add 64 kB.
const ALL_PSS_KB: u64 = 208;
/// The same after every command was used.
const USED_PSS_KB: u64 = 232;
/// The same after all memory of the agent was locked: some of it cannot be given back.
const UNLOCKED_PSS_KB: u64 = 256;
/// Limit of the same whatever the agent was asked for.
const BUDGET_PSS_KB: u64 = 300;

/// Asserts that all processes of the agent take at most `most` kB once they are at rest.
fn check_all_pss(agent: &Agent, most: u64) {
    assert_eq!(
        agent.children().len(),
        2,
        "expected one worker for files and one for the guest"
    );
    let mut each = Vec::new();
    // They return memory only after the reply has left.
    let found = wait::until(wait::ANSWER, || {
        each = agent.pss_kb();
        (each.iter().sum::<u64>() <= most).then_some(())
    });
    assert!(found.is_some(), "{each:?} kB");
    eprintln!("{each:?} kB");
}

/// Opens, writes and closes a file, five times, with other commands in between.
fn use_workers(agent: &Agent, client: &mut Client) {
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
}

#[test]
fn all_processes_take_little_memory_after_slow_commands() {
    let agent = Agent::gaunt(&[]);
    use_workers(&agent, &mut agent.client());
    check_all_pss(&agent, ALL_PSS_KB);
}

/// Commands that change the machine, were the agent allowed to.
const CHANGING: [&str; 12] = [
    "guest-fsfreeze-freeze",
    "guest-fsfreeze-freeze-list",
    "guest-fsfreeze-thaw",
    "guest-fstrim",
    "guest-set-memory-blocks",
    "guest-set-time",
    "guest-set-user-password",
    "guest-set-vcpus",
    "guest-shutdown",
    "guest-suspend-disk",
    "guest-suspend-hybrid",
    "guest-suspend-ram",
];

#[test]
fn all_processes_take_little_memory_after_every_command() {
    let agent = Agent::gaunt(&[]);
    let mut client = agent.client();
    use_workers(&agent, &mut client);
    let file = agent.state().join("written");
    let handle = client.call("guest-file-open", json!({ "path": file, "mode": "r+" }));
    let run = json!({ "path": "/bin/echo", "arg": ["text"], "capture-output": true });
    let pid = client.call("guest-exec", run.clone())["pid"].clone();
    let info = client.get("guest-info");
    for command in info["supported_commands"].as_array().expect("a list") {
        let command = command["name"].as_str().expect("a name");
        let arguments = match command {
            _ if CHANGING.contains(&command) => continue,
            // Its reply begins with a byte that is not JSON. The client sends it now and then.
            "guest-sync-delimited" => continue,
            "guest-sync" => json!({ "id": 1 }),
            "guest-file-open" => json!({ "path": "/nonexistent" }),
            "guest-file-read" => json!({ "handle": handle, "count": 4096 }),
            "guest-file-write" => json!({ "handle": handle, "buf-b64": "AAAA" }),
            "guest-file-seek" => json!({ "handle": handle, "offset": 0, "whence": 0 }),
            // The table has it before the others.
            "guest-file-close" => json!({ "handle": 1 }),
            "guest-file-flush" => json!({ "handle": handle }),
            "guest-exec" => run.clone(),
            "guest-exec-status" => json!({ "pid": pid }),
            "guest-ssh-add-authorized-keys" | "guest-ssh-remove-authorized-keys" => {
                json!({ "username": "nonexistent", "keys": [] })
            }
            "guest-ssh-get-authorized-keys" => json!({ "username": "nonexistent" }),
            _ => json!({}),
        };
        // An error is a use, too.
        let _ = client.try_call(command, arguments);
    }
    check_all_pss(&agent, USED_PSS_KB);
    // The agent runs these itself, often for some clients, and keeps their piece of the file.
    for command in ["guest-get-vcpus", "guest-get-load", "guest-get-diskstats"] {
        client.get(command);
    }
    check_all_pss(&agent, BUDGET_PSS_KB);
}

#[test]
fn all_processes_take_little_memory_after_it_was_locked() {
    let agent = Agent::gaunt(&[]);
    let mut client = agent.client();
    // A freeze of a file system that does not exist locks the memory all the same. The worker for the
    // guest is made right after, and that for files later.
    let nothing = json!({ "mountpoints": ["/nonexistent"] });
    let mut both = request("guest-fsfreeze-freeze-list", &nothing);
    both += &request("guest-get-disks", &json!({}));
    client.send(both);
    assert_eq!(client.reply()["return"], 0);
    assert!(client.reply()["return"].is_array());
    use_workers(&agent, &mut client);
    check_all_pss(&agent, UNLOCKED_PSS_KB);
}

/// Number of rounds, of a hundred tasks each.
const ROUNDS: usize = 1_000;
/// Growth allowed to each process, in kB: on a busy machine a process may touch a page for the first
/// time late. A leak of one byte a task would be six times as much.
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
    // A worker returns memory only after its reply has left.
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
fn a_ping_and_a_guest_info_take_few_instructions() {
    /// The agent is run twice, with so many calls and with twice as many: the difference leaves out the
    /// instructions of start and end.
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
