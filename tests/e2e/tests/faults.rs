//! Failing system calls: the agent reports the error, as qemu-ga does where both can be made to fail,
//! and continues.
//!
//! Agents on this machine, with errors injected by strace; no guest. Needs strace and qemu-ga.

use gaunt_e2e::agent::Agent;
use gaunt_e2e::client::Client;
use gaunt_e2e::compare::synchronized;
use gaunt_e2e::process::Process;
use gaunt_e2e::reference::reference;
use gaunt_e2e::scratch::Scratch;
use gaunt_e2e::wait;
use serde_json::{Value, json};
use std::path::Path;

fn ours() -> (Agent, Client) {
    synchronized(Agent::gaunt(&[]))
}

fn both() -> [(Agent, Client); 2] {
    [ours(), synchronized(Agent::reference(&[]))]
}

/// Makes system calls of an agent and its children fail until the returned process is stopped.
fn inject(agent: &Agent, calls: &str, error: &str) -> Process {
    inject_at(agent, &[], calls, error)
}

/// As [`inject`], only for calls that use one of the paths in `paths`, options `-P PATH` of strace.
fn inject_at(agent: &Agent, paths: &[&str], calls: &str, error: &str) -> Process {
    let log = agent.state().join("calls");
    let fault = format!("inject={calls}:error={error}");
    let trace = format!("trace={calls}");
    let log = log.to_str().expect("a plain path");
    let mut words = vec!["-o", log, "-e", &trace, "-e", &fault];
    words.extend(paths);
    agent.trace(&words)
}

fn stop(mut tracer: Process, agent: &Agent) {
    tracer.signal(libc::SIGINT);
    assert!(tracer.wait(wait::ANSWER).is_some());
    wait::expect("strace to detach", wait::ANSWER, || {
        agent.status("TracerPid") == 0
    });
}

/// Runs a command while system calls fail. Returns its error.
fn refused(
    (agent, client): &mut (Agent, Client),
    (calls, error): (&str, &str),
    command: &str,
    arguments: &Value,
) -> String {
    let tracer = inject(agent, calls, error);
    let outcome = client.try_call(command, arguments.clone());
    stop(tracer, agent);
    let refusal = outcome.expect_err(command);
    assert_eq!(refusal.class, "GenericError");
    refusal.desc
}

#[test]
fn a_failed_close_is_reported_once_and_frees_the_handle() {
    let mut pair = ours();
    let open = json!({ "path": "/dev/zero" });
    let handle = pair.1.call("guest-file-open", open);
    let arguments = json!({ "handle": handle });
    let said = refused(&mut pair, ("close", "EIO"), "guest-file-close", &arguments);
    assert_eq!(said, "failed to close handle: Input/output error");
    // qemu-ga keeps the handle after a failed close, and crashes when the handle is used again.
    let (_, client) = &mut pair;
    let gone = client.try_call("guest-file-close", arguments);
    let gone = gone.expect_err("the handle is free").desc;
    assert_eq!(gone, format!("handle '{handle}' has not been found"));
    assert_eq!(client.get("guest-ping"), json!({}));
}

#[test]
fn the_error_about_a_file_that_cannot_be_opened_equals_that_of_qemu_ga() {
    if reference().is_older() {
        return eprintln!("left out: qemu-ga before 11.1 words these errors differently");
    }
    for (path, command) in [
        ("/sys/devices/system/cpu/cpu1/online", "guest-get-vcpus"),
        ("/proc/stat", "guest-get-cpustats"),
        ("/proc/diskstats", "guest-get-diskstats"),
    ] {
        if !Path::new(path).exists() {
            eprintln!("left out: this machine has no {path}");
            continue;
        }
        // The forms in which an agent may pass the path: absolute, relative to the root, or relative to
        // one of the directories above the file.
        let mut tails = path.rmatch_indices('/').map(|(at, _)| &path[at + 1..]);
        let (name, two) = (tails.next().unwrap_or(path), tails.next().unwrap_or(path));
        let paths = ["-P", path, "-P", &path[1..], "-P", two, "-P", name];
        let said = both().map(|mut pair| {
            let tracer = inject_at(&pair.0, &paths, "openat", "EACCES");
            let refusal = pair.1.try_call(command, json!({})).expect_err(command);
            stop(tracer, &pair.0);
            refusal.desc
        });
        assert_eq!(said[0], said[1]);
        eprintln!("{}", said[0]);
    }
}

#[test]
fn a_failed_socket_call_is_reported_as_an_error_of_getifaddrs() {
    for mut pair in both() {
        let said = refused(
            &mut pair,
            ("socket", "EMFILE"),
            "guest-network-get-interfaces",
            &json!({}),
        );
        assert_eq!(said, "getifaddrs failed: Too many open files");
        let list = pair.1.get("guest-network-get-interfaces");
        assert!(!list.as_array().expect("a list").is_empty());
    }
}

#[test]
fn a_failed_fork_is_reported_and_later_commands_work() {
    const FORKS: &str = "clone,clone3,fork,vfork";
    const NO_CHILD: &str = "failed to create child process: Resource temporarily unavailable";
    let mut pair = ours();
    let program = json!({ "path": "/bin/true" });
    let said = refused(&mut pair, (FORKS, "EAGAIN"), "guest-exec", &program);
    assert_eq!(said, NO_CHILD);
    let said = refused(&mut pair, (FORKS, "EAGAIN"), "guest-get-disks", &json!({}));
    assert_eq!(said, NO_CHILD);
    let (_, client) = &mut pair;
    assert!(client.get("guest-get-disks").is_array());
    assert!(client.call("guest-exec", program)["pid"].is_i64());
}

#[test]
fn a_read_without_memory_for_its_reply_fails_cleanly() {
    let agent = Agent::gaunt(&[]);
    let scratch = Scratch::new();
    scratch.give_away();
    let path = scratch.join("file");
    std::fs::write(&path, [b'x'; 16_384]).expect("a file");
    let mut client = agent.client();
    let handle = client.call("guest-file-open", json!({ "path": path }));
    let tracer = inject(&agent, "mmap,mremap", "ENOMEM");
    let (mut refused, mut read) = (0, 0);
    // Sizes around the buffer at rest: the text and its end fit, only the text fits, the text does not
    // fit.
    for count in (5_900..6_300).step_by(7) {
        let from = json!({ "handle": handle, "offset": 0, "whence": 0 });
        client.call("guest-file-seek", from);
        let arguments = json!({ "handle": handle, "count": count });
        match client.try_call("guest-file-read", arguments) {
            Ok(reply) => {
                assert_eq!(reply["count"], count);
                read += 1;
            }
            Err(refusal) => {
                assert_eq!(refusal.desc, "failed to read file: Cannot allocate memory");
                refused += 1;
            }
        }
    }
    stop(tracer, &agent);
    assert!(refused > 0 && read > 0, "{refused} refused, {read} read");
}

/// System calls that the agent uses and that are newer than Linux 3.12, the oldest supported kernel.
/// README.md lists their versions and the fallbacks. The `?` lets strace ignore a call it does not know.
const NEWER: &str = "close_range,getrandom,openat2,preadv2,statx,?cachestat";

/// The highest system call number of Linux 3.12 on x86-64 (finit_module). Newer calls have higher
/// numbers.
const LAST_OF_3_12: u32 = 313;

/// Newer system calls made by the programs that gaunt runs or that run gaunt; and cachestat as a strace
/// prints it that does not know it.
const OTHERS: &str = "rseq clone3 faccessat2 syscall_0x1c3";

/// Runs every command that does not change this machine. Returns commands and replies.
fn run_all(client: &mut Client, directory: &std::path::Path) -> Vec<(String, Value)> {
    let mut said = Vec::new();
    let mut ask = |client: &mut Client, command: &str, arguments: Value| {
        let value = match client.try_call(command, arguments) {
            Ok(value) => value,
            Err(refusal) => json!({ "error": refusal.desc }),
        };
        // Handles and process ids differ from run to run.
        let shown = match command {
            "guest-file-open" => json!(value.is_i64()),
            "guest-exec" => json!(value["pid"].is_i64()),
            _ => value.clone(),
        };
        if value != json!({ "exited": false }) {
            said.push((command.to_owned(), shown));
        }
        value
    };
    let info = ask(client, "guest-info", json!({}));
    for row in info["supported_commands"].as_array().expect("a list") {
        let name = row["name"].as_str().expect("a name");
        if name.contains("-get-") && !name.contains("ssh") {
            ask(client, name, json!({}));
        }
    }
    let file = directory.join("file");
    let open = json!({ "path": file, "mode": "w+" });
    let handle = ask(client, "guest-file-open", open);
    let text = "eHh4".repeat(1 << 18);
    let write = json!({ "handle": handle, "buf-b64": text });
    ask(client, "guest-file-write", write);
    let seek = json!({ "handle": handle, "offset": 0, "whence": 0 });
    ask(client, "guest-file-seek", seek);
    ask(
        client,
        "guest-file-read",
        json!({ "handle": handle, "count": 1 << 20 }),
    );
    ask(client, "guest-file-flush", json!({ "handle": handle }));
    ask(client, "guest-file-close", json!({ "handle": handle }));
    let program =
        json!({ "path": "sh", "arg": ["-c", "echo /proc/self/fd/*"], "capture-output": true });
    let pid = ask(client, "guest-exec", program)["pid"].clone();
    wait::expect("the program to end", wait::ANSWER, || {
        let status = json!({ "pid": pid });
        ask(client, "guest-exec-status", status)["exited"] == true
    });
    ask(client, "guest-fstrim", json!({}));
    ask(client, "guest-fsfreeze-thaw", json!({}));
    for command in ["get", "add", "remove"] {
        let mut arguments = json!({ "username": "nobody" });
        if command != "get" {
            arguments["keys"] = json!(["k"]);
        }
        ask(
            client,
            &format!("guest-ssh-{command}-authorized-keys"),
            arguments,
        );
    }
    let password = json!({ "username": "nobody", "password": "eA==", "crypted": false });
    ask(client, "guest-set-user-password", password);
    said
}

#[test]
fn every_command_works_without_newer_system_calls() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.join("files")).expect("a directory");
    scratch.give_away();
    let log = scratch.join("calls");
    let fault = format!("inject={NEWER}:error=ENOSYS");
    let strace = gaunt_e2e::process::program("strace", "strace");
    let agent = Agent::started_by(&[
        strace.to_str().expect("a plain path"),
        "-f",
        "-qq",
        "-n",
        "-o",
        log.to_str().expect("a plain path"),
        "-e",
        &fault,
    ]);
    let mut client = agent.client();
    let old = run_all(&mut client, &scratch.join("files"));
    let (_new_agent, mut client) = ours();
    let new = run_all(&mut client, &scratch.join("files"));
    let mut different = Vec::new();
    for ((command, mut old), (_, mut new)) in old.into_iter().zip(new) {
        for value in [&mut old, &mut new] {
            gaunt_e2e::compare::normalize(&command, value);
        }
        let text = old.to_string();
        if old != new || text.contains("not implemented") {
            different.push(format!("{command}: {old}\n    {new}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    // `PID [NUMBER] NAME(...`
    let calls = std::fs::read_to_string(&log).expect("the output of strace");
    let calls: std::collections::BTreeSet<&str> = calls
        .lines()
        .filter_map(|line| {
            let (number, call) = line.split_once('[')?.1.split_once("] ")?;
            let newer = number.trim().parse::<u32>().ok()? > LAST_OF_3_12;
            // The second part of a call that strace prints in two parts: `<... NAME resumed>`.
            let name = call.split('(').next().unwrap_or_default();
            (newer && !name.starts_with('<')).then_some(name)
        })
        .collect();
    assert!(calls.contains("openat2"), "strace saw nothing: {calls:?}");
    for call in calls {
        let mut known = NEWER.split(',').chain(OTHERS.split(' '));
        assert!(
            known.any(|one| one.trim_start_matches('?') == call),
            "{call} is newer than Linux 3.12 and not listed"
        );
    }
}
