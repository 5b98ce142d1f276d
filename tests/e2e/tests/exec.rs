//! guest-exec and guest-exec-status: beside qemu-ga, under load, and in a guest whose PID 1 is the
//! agent.
//!
//! On this machine the agents run without privileges, so what they run here can harm nothing.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use gaunt_e2e::agent::Agent;
use gaunt_e2e::checks::Checks;
use gaunt_e2e::client::{Client, Refusal, request};
use gaunt_e2e::compare::{compare, lines, synchronized};
use gaunt_e2e::disk::{self, Fs};
use gaunt_e2e::guest::{Image, Machine};
use gaunt_e2e::reference::reference;
use gaunt_e2e::scratch::Scratch;
use gaunt_e2e::{process, wait};
use serde_json::{Value, json};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What is kept of one stream.
const STREAM: usize = 16 << 20;

fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |place: usize| u32::from(*chunk.get(place).unwrap_or(&0));
        let group = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            text.push(if place <= chunk.len() {
                char::from(ALPHABET[(group >> (18 - 6 * place)) as usize & 63])
            } else {
                '='
            });
        }
    }
    text
}

fn decode(text: &Value) -> Vec<u8> {
    let text = text.as_str().expect("a string").as_bytes();
    let mut values = [0; 256];
    for (value, byte) in (0..).zip(ALPHABET) {
        values[usize::from(*byte)] = value;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.chunks_exact(4) {
        let mut number: u32 = 0;
        for byte in group {
            number = number << 6 | values[usize::from(*byte)];
        }
        bytes.extend_from_slice(&number.to_be_bytes()[1..]);
    }
    let padding = text.iter().rev().take_while(|byte| **byte == b'=');
    bytes.truncate(bytes.len() - padding.count());
    bytes
}

fn start(client: &mut Client, arguments: Value) -> Result<i64, Refusal> {
    let started = client.try_call("guest-exec", arguments)?;
    Ok(started["pid"].as_i64().expect("a number"))
}

fn status(client: &mut Client, pid: i64) -> Value {
    client.call("guest-exec-status", json!({ "pid": pid }))
}

fn finish(client: &mut Client, pid: i64) -> Value {
    let end = Instant::now() + wait::ANSWER;
    loop {
        let status = status(client, pid);
        if status["exited"] == true {
            return status;
        }
        assert_eq!(status, json!({ "exited": false }));
        assert!(Instant::now() < end, "{pid} does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a program to its end.
fn run(client: &mut Client, arguments: Value) -> Value {
    let pid = start(client, arguments).unwrap_or_else(|refusal| panic!("{}", refusal.desc));
    finish(client, pid)
}

/// Runs a shell script to its end and gives what it said.
fn shell(client: &mut Client, script: &str) -> String {
    let arguments = json!({ "path": "/bin/sh", "arg": ["-c", script], "capture-output": "merged" });
    let status = run(client, arguments);
    assert_eq!(status["exitcode"], 0, "{script}: {status}");
    let said = status.get("out-data").map(decode).unwrap_or_default();
    String::from_utf8(said).expect("text")
}

fn ours() -> (Agent, Client) {
    synchronized(Agent::gaunt(&[]))
}

fn theirs() -> (Agent, Client) {
    synchronized(Agent::reference(&[]))
}

/// Takes out what a qemu-ga before 11.1 says only if something was cut off.
fn forgive_older(result: &mut Value) {
    if reference().is_older()
        && let Some(members) = result.as_object_mut()
    {
        members.retain(|name, _| !name.ends_with("-truncated"));
    }
}

#[test]
fn arguments_that_are_wrong_get_the_same_errors() {
    let mut rows = Vec::new();
    for wrong in ["null", "5", "1.5", "[]", "{}", "\"x\"", "true", "[\"x\",5]"] {
        for member in ["path", "arg", "env", "input-data", "capture-output"] {
            // Not a name that could be run, whatever else is right.
            let others = r#""path":"/nonexistent""#;
            let row = if member == "path" {
                format!(r#"{{"execute":"guest-exec","arguments":{{"path":{wrong},"y":1}}}}"#)
            } else {
                format!(
                    r#"{{"execute":"guest-exec","arguments":{{{others},"{member}":{wrong},"y":1}}}}"#
                )
            };
            rows.push(row);
        }
        if wrong != "5" {
            rows.push(format!(
                r#"{{"execute":"guest-exec-status","arguments":{{"pid":{wrong}}}}}"#
            ));
        }
    }
    for text in [
        r#"{"execute":"guest-exec"}"#,
        r#"{"execute":"guest-exec","arguments":{"arg":["x"]}}"#,
        r#"{"execute":"guest-exec","arguments":{"path":"/nonexistent","capture-output":"foo"}}"#,
        r#"{"execute":"guest-exec","arguments":{"path":"/nonexistent","capture-output":"Merged"}}"#,
        r#"{"execute":"guest-exec","arguments":{"path":"/nonexistent","input-data":"a b"}}"#,
        r#"{"execute":"guest-exec","arguments":{"path":"/nonexistent","input-data":"-_=="}}"#,
        r#"{"execute":"guest-exec-status"}"#,
        r#"{"execute":"guest-exec-status","arguments":{"pid":1,"x":1}}"#,
    ] {
        rows.push(text.into());
    }
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    compare("arguments of exec", &lines(&rows));
}

#[test]
fn a_number_nobody_knows_is_named() {
    let (_agent, mut client) = ours();
    for pid in [0, -1, 1, i64::MIN, i64::MAX, 999_999_999] {
        let refused = client.try_call("guest-exec-status", json!({ "pid": pid }));
        let refused = refused.expect_err("a refusal");
        assert_eq!(refused.class, "GenericError");
        assert_eq!(refused.desc, format!("PID {pid} does not exist"));
    }
}

/// Files that can or cannot be run, for both.
fn files() -> Scratch {
    let scratch = Scratch::new();
    let make = |name: &str, text: &str, mode: u32| {
        let path = scratch.join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
    };
    make("plain", "echo plain \"$0\" \"$1\"; exit 4\n", 0o755);
    make("hash", "#!/bin/sh\necho hash \"$0\" \"$1\"\n", 0o755);
    make("lost", "#!/no/such/interpreter\n", 0o755);
    make("closed", "#!/bin/sh\n", 0o644);
    make("empty", "", 0o755);
    fs::create_dir(scratch.join("directory")).expect("a directory");
    scratch.give_away();
    scratch
}

/// One run for both: the reply to the start, or what became of the program.
fn outcome(client: &mut Client, arguments: &Value) -> Value {
    match start(client, arguments.clone()) {
        Ok(pid) => finish(client, pid),
        Err(refusal) => json!([refusal.class, refusal.desc]),
    }
}

#[test]
fn programs_start_fail_and_end_as_with_qemu_ga() {
    let files = files();
    let directory = files.path().display().to_string();
    let path = |name: &str| format!("{directory}/{name}");
    let search = format!("PATH=/no/such:{directory}:/usr/bin:/bin");
    let out = "printf out; printf err >&2; ";
    let all = "capture-output";
    let mut cases = vec![
        json!({ "path": "true" }),
        json!({ "path": "false" }),
        json!({ "path": "/bin/true", "arg": [] }),
        json!({ "path": "printf", "arg": ["%s|", "a b", "", "\u{e9}\u{20ac}", "'\"\\"], all: true }),
        json!({ "path": "cat", "input-data": "", all: true }),
        json!({ "path": "cat", "input-data": encode(b"\x00\xff hello\n"), all: true }),
        json!({ "path": "cat", "input-data": "aGVsbG8=aGVsbG8", all: true }),
        json!({ "path": "cat", all: true }),
        json!({ "path": "true", "input-data": encode(&[b'x'; 200_000]), all: true }),
        json!({ "path": "head", "arg": ["-c", "5"], "input-data": encode(&[b'x'; 200_000]), all: true }),
        // The environment.
        json!({ "path": "env", "env": [], all: true }),
        json!({ "path": "/usr/bin/env", "env": ["A=b", "A=c", "C=", "PATH=/x"], all: true }),
        json!({ "path": "sh", "arg": ["-c", "tr '\\0' '|' </proc/self/environ"], "env": ["no equals", "", "=x"], all: true }),
        json!({ "path": "hash", "env": [search], all: true }),
        json!({ "path": "plain", "arg": ["one"], "env": [search], all: true }),
        json!({ "path": "true", "env": ["PATH=/no/such"] }),
        json!({ "path": "true", "env": ["PATH="] }),
        json!({ "path": "closed", "env": [search] }),
        json!({ "path": "lost", "env": [search] }),
        // Scripts and what cannot be run.
        json!({ "path": path("plain"), "arg": ["one", "two"], all: true }),
        json!({ "path": path("hash"), "arg": ["one"], all: true }),
        json!({ "path": path("empty"), all: true }),
        json!({ "path": path("lost") }),
        json!({ "path": path("closed") }),
        json!({ "path": path("directory") }),
        json!({ "path": path("closed/below") }),
        json!({ "path": path("none") }),
        json!({ "path": "" }),
        json!({ "path": "/" }),
        json!({ "path": "no-such-program" }),
        json!({ "path": "no such \"program\"\n\u{7}\u{e9}\u{0}" }),
        json!({ "path": "bin/true" }),
        json!({ "path": "n".repeat(300) }),
        json!({ "path": format!("/{}", "n".repeat(5000)) }),
        json!({ "path": "true", "arg": ["x".repeat(200_000)] }),
        // Ends of all kinds.
        json!({ "path": "sh", "arg": ["-c", "exit 255"] }),
        json!({ "path": "sh", "arg": ["-c", "exit 16"] }),
        json!({ "path": "sh", "arg": ["-c", "kill -9 $$"] }),
        json!({ "path": "sh", "arg": ["-c", "printf x; kill -TERM $$"], all: true }),
        json!({ "path": "sh", "arg": ["-c", "kill -SEGV $$"] }),
        json!({ "path": "sh", "arg": ["-c", "exec >&- 2>&-; sleep 0.2; exit 7"], all: true }),
    ];
    for mode in [
        json!(true),
        json!(false),
        json!("none"),
        json!("separated"),
        json!("merged"),
    ] {
        let script = format!("{out}exit 3");
        cases.push(json!({ "path": "sh", "arg": ["-c", script], all: mode }));
    }
    // What is not the environment's: descriptors, signals, directory, mask, session.
    let look = "for n in 0 1 2; do stat -L -c %F /dev/fd/$n; done";
    let own = "ls /proc/self/fd | tr '\\n' ' '; pwd; umask; \
               grep -E '^(SigBlk|SigCgt|SigPnd)' /proc/self/status";
    for mode in ["none", "merged", "separated"] {
        cases.push(json!({ "path": "sh", "arg": ["-c", look], all: mode }));
    }
    cases.push(json!({ "path": "sh", "arg": ["-c", own], all: "merged", "input-data": "eA==" }));

    let (_ours, mut ours) = ours();
    let (_theirs, mut theirs) = theirs();
    // Whatever this test was started with ignored is not for programs either; qemu-ga leaves those
    // signals be that the C library keeps to itself.
    let ignored = shell(&mut ours, "grep SigIgn /proc/self/status");
    assert_eq!(ignored, "SigIgn:\t0000000000000000\n");
    let mut differences = Vec::new();
    for case in &cases {
        let mut mine = outcome(&mut ours, case);
        forgive_older(&mut mine);
        let reference = outcome(&mut theirs, case);
        if mine != reference {
            differences.push(format!(
                "{case}\n    gaunt: {mine}\n    qemu-ga: {reference}"
            ));
        }
    }
    let count = (differences.len(), cases.len());
    assert!(
        differences.is_empty(),
        "{count:?}\n  {}",
        differences.join("\n  ")
    );
    eprintln!("programs: {} cases, equal results", cases.len());
}

/// Q26: qemu-ga can do these once in its life, so each is compared with a fresh one; gaunt does them
/// again and again.
#[test]
fn one_stream_alone_is_kept_every_time() {
    let (_ours, mut ours) = ours();
    let script = "printf out; printf err >&2; cat";
    let arguments = |mode: &str| {
        json!({ "path": "sh", "arg": ["-c", script], "capture-output": mode,
                "input-data": encode(b"in") })
    };
    for mode in ["stdout", "stderr"] {
        let (_theirs, mut theirs) = theirs();
        let reference = run(&mut theirs, arguments(mode));
        for _ in 0..3 {
            let mut mine = run(&mut ours, arguments(mode));
            forgive_older(&mut mine);
            assert_eq!(mine, reference, "{mode}");
        }
    }
    let neither =
        json!({ "path": "sh", "arg": ["-c", "ls -l /proc/self/fd"], "capture-output": "none" });
    assert_eq!(
        run(&mut ours, neither),
        json!({ "exited": true, "exitcode": 0 })
    );
}

#[test]
fn without_an_environment_what_the_agent_lacks_is_added() {
    let (_agent, mut client) = ours();
    let said = shell(&mut client, "tr '\\0' '\\n' </proc/$$/environ");
    let variables: BTreeSet<&str> = said.lines().collect();
    // The agent of these tests has a PATH and nothing else, and is not root when we are.
    assert!(variables.contains("PATH=/usr/bin:/bin"), "{said}");
    assert!(variables.contains("SHELL=/bin/sh"), "{said}");
    let homes = variables.iter().filter(|entry| entry.starts_with("HOME="));
    assert!(homes.count() <= 1, "{said}");
    // And a PATH of `env` beats it, while an `env` without one does not hide it.
    let status = run(
        &mut client,
        json!({ "path": "printf", "arg": ["x"], "env": ["A=b"], "capture-output": true }),
    );
    assert_eq!(status["out-data"], encode(b"x"));
}

#[test]
fn streams_are_kept_up_to_their_cap_and_no_further() {
    let (agent, mut client) = ours();
    for (bytes, cut) in [(STREAM, false), (STREAM + 1, true), (20 << 20, true)] {
        let script = format!("yes abcdefg | head -c {bytes}; yes 1234567 | head -c {bytes} >&2");
        let arguments =
            json!({ "path": "sh", "arg": ["-c", script], "capture-output": "separated" });
        let status = run(&mut client, arguments);
        for (stream, line) in [("out", b"abcdefg\n"), ("err", b"1234567\n")] {
            let data = decode(&status[format!("{stream}-data")]);
            assert_eq!(data.len(), bytes.min(STREAM));
            assert!(
                data == line.repeat(bytes.div_ceil(8))[..data.len()],
                "{bytes}"
            );
            assert_eq!(status[format!("{stream}-truncated")], cut, "{bytes}");
        }
        assert_eq!(status["exitcode"], 0);
    }
    // All of it went back with the last reply.
    assert!(agent.resident_kb() < 1024, "{} kB", agent.resident_kb());
}

#[test]
fn input_that_nobody_reads_holds_nobody_up() {
    let (agent, mut client) = ours();
    let input = encode(&vec![b'x'; 2 << 20]);
    let arguments = json!({ "path": "sleep", "arg": ["1000"], "input-data": input });
    let pid = start(&mut client, arguments).expect("a program");
    for _ in 0..20 {
        assert_eq!(status(&mut client, pid), json!({ "exited": false }));
    }
    assert_eq!(shell(&mut client, "echo other"), "other\n");
    process::signal(u32::try_from(pid).expect("a number"), libc::SIGKILL);
    assert_eq!(
        finish(&mut client, pid),
        json!({ "exited": true, "signal": 9 })
    );
    assert!(agent.resident_kb() < 1024, "{} kB", agent.resident_kb());
}

#[test]
fn forty_eight_megabytes_go_in() {
    let (agent, mut client) = ours();
    let input: Vec<u8> = (0..(48u32 << 20) - 4096)
        .map(|at| (at >> 8) as u8 ^ at as u8)
        .collect();
    client.limit = Duration::from_secs(120);
    let arguments =
        json!({ "path": "cksum", "input-data": encode(&input), "capture-output": true });
    let mine = run(&mut client, arguments);
    let mut file = std::process::Command::new("cksum");
    let path = Scratch::new();
    fs::write(path.join("input"), &input).expect("a file");
    let known = process::run(file.arg(path.join("input")), wait::ANSWER);
    let known: Vec<&str> = known.split(' ').take(2).collect();
    let said = String::from_utf8(decode(&mine["out-data"])).expect("text");
    assert_eq!(said.trim(), known.join(" "));
    assert!(agent.resident_kb() < 1024, "{} kB", agent.resident_kb());
}

#[test]
fn what_is_left_in_the_background_holds_nothing_up() {
    let (_agent, mut client) = ours();
    let begun = Instant::now();
    let script = "printf before; sleep 1000 & echo $! >&2";
    let arguments = json!({ "path": "sh", "arg": ["-c", script], "capture-output": "separated" });
    let status = run(&mut client, arguments);
    let took = begun.elapsed();
    assert_eq!(decode(&status["out-data"]), b"before");
    // More might have come of who still holds them.
    for name in ["out-truncated", "err-truncated"] {
        assert_eq!(status[name], true, "{name}");
    }
    assert_eq!(status["exitcode"], 0);
    assert!(
        took > Duration::from_millis(400) && took < Duration::from_secs(5),
        "{took:?}"
    );
    let sleeper = String::from_utf8(decode(&status["err-data"])).expect("text");
    shell(&mut client, &format!("kill {}", sleeper.trim()));
    // Without anything kept, only the end itself counts.
    let begun = Instant::now();
    let pid = start(
        &mut client,
        json!({ "path": "sh", "arg": ["-c", "sleep 2 &"] }),
    );
    finish(&mut client, pid.expect("a program"));
    assert!(begun.elapsed() < Duration::from_secs(1));
}

fn descriptors(agent: &Agent) -> usize {
    let path = format!("/proc/{}/fd", agent.id());
    fs::read_dir(path).expect("descriptors").count()
}

#[test]
fn two_hundred_programs_leave_nothing_behind() {
    let (agent, mut client) = ours();
    shell(&mut client, "true");
    let (before, resident) = (descriptors(&agent), agent.resident_kb());
    for round in 0..4 {
        let mut running = Vec::new();
        for number in 0..50 {
            let script =
                format!("read line; echo {round}-{number} $line; echo e >&2; exit {number}");
            let arguments = json!({ "path": "sh", "arg": ["-c", script], "capture-output": true,
                                    "input-data": encode(b"in\n") });
            running.push(start(&mut client, arguments).expect("a program"));
        }
        for (number, pid) in running.into_iter().enumerate() {
            let status = finish(&mut client, pid);
            assert_eq!(
                decode(&status["out-data"]),
                format!("{round}-{number} in\n").into_bytes()
            );
            assert_eq!(decode(&status["err-data"]), b"e\n");
            assert_eq!(status["exitcode"], number);
            client
                .try_call("guest-exec-status", json!({ "pid": pid }))
                .expect_err("told once");
        }
    }
    assert_eq!(agent.children(), [0u32; 0]);
    assert_eq!(descriptors(&agent), before);
    assert!(
        agent.resident_kb() <= resident + 64,
        "{} kB",
        agent.resident_kb()
    );
}

/// What the agent says of a number that it knows no program of.
fn unknown(client: &mut Client, pid: i64) {
    let refused = client.try_call("guest-exec-status", json!({ "pid": pid }));
    let refused = refused.expect_err("a refusal").desc;
    assert_eq!(refused, format!("PID {pid} does not exist"));
}

#[test]
fn results_are_kept_until_asked_for() {
    let (agent, mut client) = ours();
    let running: Vec<i64> = (0..128)
        .map(|_| start(&mut client, json!({ "path": "true" })).expect("a program"))
        .collect();
    // Ended, and buried without anybody asking.
    wait::expect("no child left", wait::ANSWER, || {
        agent.children().is_empty()
    });
    // Another client may ask, in any order.
    drop(client);
    let mut client = agent.client();
    for pid in running.iter().rev() {
        assert_eq!(
            finish(&mut client, *pid),
            json!({ "exited": true, "exitcode": 0 })
        );
    }
    assert_eq!(shell(&mut client, "echo again"), "again\n");
}

/// Fire and forget: nobody asks what became of the programs.
#[test]
fn ten_thousand_programs_in_a_row_leave_the_newest_results() {
    const COUNT: usize = 10_000;
    // Of 128; up to 63 at the end of a batch may have outlived some of them.
    const KEPT: usize = 64;
    let (agent, mut client) = ours();
    let begun = Instant::now();
    let (mut pids, mut before) = (Vec::new(), (0, 0));
    for number in 0..COUNT {
        // Not more at once than may run, however slow this machine is.
        if number % 32 == 0 {
            wait::expect("programs to end", wait::ANSWER, || {
                agent.children().len() < 32
            });
        }
        if number == 1_000 {
            wait::expect("no child left", wait::ANSWER, || {
                agent.children().is_empty()
            });
            before = (descriptors(&agent), agent.resident_kb());
        }
        let arguments = match COUNT - number <= KEPT {
            true => json!({ "path": "sh", "arg": ["-c", format!("exit {}", number % 100)] }),
            false => json!({ "path": "true", "capture-output": number % 2 == 0 }),
        };
        let started = start(&mut client, arguments);
        pids.push(started.unwrap_or_else(|refused| panic!("{number}: {}", refused.desc)));
    }
    let took = begun.elapsed();
    wait::expect("no child left", wait::ANSWER, || {
        agent.children().is_empty()
    });
    let (fds, resident) = before;
    wait::expect("the last pipes to close", wait::ANSWER, || {
        descriptors(&agent) <= fds
    });
    assert!(
        agent.resident_kb() <= resident + 64,
        "{resident} kB became {} kB",
        agent.resident_kb()
    );
    let (old, newest) = pids.split_at(COUNT - KEPT);
    for pid in old.iter().filter(|pid| !newest.contains(pid)).step_by(200) {
        unknown(&mut client, *pid);
    }
    for (number, pid) in (old.len()..).zip(newest) {
        let expected = json!({ "exited": true, "exitcode": number % 100 });
        assert_eq!(finish(&mut client, *pid), expected, "{number}");
        unknown(&mut client, *pid);
    }
    assert!(took < Duration::from_secs(300), "{took:?}");
    eprintln!("{COUNT} programs: {took:?}, {} kB", agent.resident_kb());
}

#[test]
fn programs_that_run_are_never_dropped() {
    let (_agent, mut client) = ours();
    let sleeper = json!({ "path": "sleep", "arg": ["1000"] });
    let kill = |pid: i64| process::signal(u32::try_from(pid).expect("a number"), libc::SIGKILL);
    let mut running: Vec<i64> = (0..128)
        .map(|_| start(&mut client, sleeper.clone()).expect("a program"))
        .collect();
    let refused = start(&mut client, json!({ "path": "true" })).expect_err("all run");
    assert_eq!(refused.desc, "too many child processes are running");
    // The only one that ends makes room, wherever it stands.
    let ended = running.remove(60);
    kill(ended);
    let new = wait::until(wait::ANSWER, || start(&mut client, sleeper.clone()).ok());
    running.push(new.expect("room for one more"));
    unknown(&mut client, ended);
    start(&mut client, json!({ "path": "true" })).expect_err("all run");
    for pid in running {
        assert_eq!(status(&mut client, pid), json!({ "exited": false }));
        kill(pid);
    }
}

#[test]
fn bytes_of_all_programs_together_have_an_end() {
    let (agent, mut client) = ours();
    let script = format!("yes | head -c {STREAM}; yes | head -c {STREAM} >&2");
    let arguments = json!({ "path": "sh", "arg": ["-c", script], "capture-output": true });
    let pids: Vec<i64> = (0..10)
        .map(|_| {
            let pid = start(&mut client, arguments.clone()).expect("a program");
            wait::expect("its end", wait::ANSWER, || agent.children().is_empty());
            pid
        })
        .collect();
    let held = agent.resident_kb();
    assert!(held < (128 << 10) + 2048, "{held} kB");
    client.limit = Duration::from_secs(60);
    let (old, newest) = pids.split_at(6);
    for pid in newest {
        let status = finish(&mut client, *pid);
        for stream in ["out", "err"] {
            assert_eq!(decode(&status[format!("{stream}-data")]).len(), STREAM);
            assert_eq!(status[format!("{stream}-truncated")], false);
        }
    }
    for pid in old {
        unknown(&mut client, *pid);
    }
    assert_eq!(shell(&mut client, "echo again"), "again\n");
}

#[test]
fn programs_do_not_hold_each_others_pipes() {
    let (_agent, mut client) = ours();
    let reader = json!({ "path": "cat", "capture-output": true,
                         "input-data": encode(&vec![b'x'; 1 << 20]) });
    let sleeper = json!({ "path": "sh", "capture-output": true,
                          "arg": ["-c", "ls /proc/self/fd | tr '\\n' ' '; exec sleep 1000"] });
    // Whichever is forked first, the end of one's input and output is its own.
    let first = start(&mut client, sleeper.clone()).expect("a program");
    let middle = start(&mut client, reader).expect("a program");
    let last = start(&mut client, sleeper).expect("a program");
    let status = finish(&mut client, middle);
    assert_eq!(decode(&status["out-data"]).len(), 1 << 20);
    for pid in [first, last] {
        process::signal(u32::try_from(pid).expect("a number"), libc::SIGTERM);
        let status = finish(&mut client, pid);
        assert_eq!(status["signal"], 15);
        assert_eq!(decode(&status["out-data"]), b"0 1 2 3 ");
    }
}

#[test]
fn nothing_a_program_is_given_is_logged() {
    let (agent, mut client) = synchronized(Agent::gaunt(&["-v"]));
    run(
        &mut client,
        json!({ "path": "true", "arg": ["SECRET-1"], "env": ["A=SECRET-2"],
                "input-data": encode(b"SECRET-3") }),
    );
    let log = agent.log();
    assert!(
        log.contains("exec: true") && !log.contains("SECRET"),
        "{log}"
    );
    let (agent, mut client) = ours();
    run(&mut client, json!({ "path": "true" }));
    assert!(!agent.log().contains("exec"), "{}", agent.log());
}

/// Parent, process group and session of a process.
fn kin(pid: impl std::fmt::Display) -> [String; 3] {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let (_, rest) = stat.rsplit_once(") ").expect("a name");
    let mut words = rest.split(' ').skip(1).map(str::to_owned);
    [(); 3].map(|()| words.next().expect("a number"))
}

#[test]
fn programs_are_of_the_agents_session_and_outlive_it() {
    let (mut agent, mut client) = ours();
    let pid = start(&mut client, json!({ "path": "sleep", "arg": ["1000"] })).expect("a program");
    let id = agent.id();
    let [_, group, session] = kin(id);
    assert_eq!(kin(pid), [id.to_string(), group, session]);
    agent.process().signal(libc::SIGTERM);
    assert!(agent.process().wait(wait::ANSWER).is_some());
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    process::signal(u32::try_from(pid).expect("a number"), libc::SIGKILL);
}

/// The child hangs where it would on a file system that does: in execve, held there by a tracer.
#[test]
fn a_program_that_hangs_before_it_begins_holds_up_only_its_client() {
    let (agent, mut client) = ours();
    let mut other = agent.client();
    let _tracer = agent.trace(&[
        "-e",
        "trace=execve",
        "-o",
        "/dev/null",
        "-e",
        "inject=execve:delay_enter=3000000",
    ]);
    let arguments = json!({ "path": "true", "capture-output": true });
    let text = request("guest-exec", &arguments);
    for killed in [true, false] {
        let begun = Instant::now();
        client.send(&text);
        wait::expect("a child", wait::ANSWER, || !agent.children().is_empty());
        other.get("guest-ping");
        assert_eq!(frozen(&mut other), "thawed");
        assert!(begun.elapsed() < Duration::from_millis(2500), "not at once");
        if killed {
            let child = agent.children()[0];
            process::signal(child, libc::SIGKILL);
        }
        let reply = client.reply();
        if killed {
            let desc = &reply["error"]["desc"];
            assert_eq!(desc, "child process has terminated abnormally", "{reply}");
        } else {
            assert!(begun.elapsed() > Duration::from_millis(2500), "never held");
            let pid = reply["return"]["pid"].as_i64().expect("a number");
            let ended = json!({ "exited": true, "exitcode": 0 });
            assert_eq!(finish(&mut client, pid), ended);
        }
    }
}

fn frozen(client: &mut Client) -> String {
    let status = client.get("guest-fsfreeze-status");
    status.as_str().expect("a word").to_owned()
}

#[test]
fn in_a_guest_the_agent_as_pid_1_runs_programs() {
    let mut checks = Checks::new("exec under PID 1");
    let scratch = Scratch::new();
    let disk = scratch.join("ext4.raw");
    disk::raw(&disk, Fs::Ext4);
    let mut guest = Machine::new(Image::Busybox)
        .kernel("rdinit=/usr/bin/gaunt")
        .disk(&disk)
        .boot();
    let mut client = guest.client();
    checks.run("environment, directory and mask", || {
        let said = shell(&mut client, "/bin/busybox env; /bin/busybox pwd; umask");
        // Not the `/` that the kernel gives its init.
        assert_eq!(said.matches("HOME=").count(), 1, "{said}");
        assert!(said.contains("HOME=/root\n"), "{said}");
        assert!(said.contains("PATH=/"), "{said}");
        assert!(said.ends_with("/\n0022\n"), "{said}");
        said.replace('\n', " ")
    });
    checks.run("programs by name", || {
        let status = run(
            &mut client,
            json!({ "path": "busybox", "arg": ["uname", "-s"], "capture-output": true }),
        );
        assert_eq!(decode(&status["out-data"]), b"Linux\n");
        status.to_string()
    });
    checks.run("signals and descriptors", || {
        let said = shell(
            &mut client,
            "/bin/busybox ls /proc/self/fd | /bin/busybox tr '\\n' ' '",
        );
        assert_eq!(said, "0 1 2 3 ");
        let pattern = "^Sig(Blk|Ign|Cgt)";
        let status = run(
            &mut client,
            json!({ "path": "busybox", "arg": ["grep", "-E", pattern, "/proc/self/status"],
                    "capture-output": true }),
        );
        let said = String::from_utf8(decode(&status["out-data"])).expect("text");
        assert_eq!(said.matches("0000000000000000").count(), 3, "{said}");
        "none blocked, none left".into()
    });
    checks.run("orphans are buried", || {
        shell(
            &mut client,
            "for n in 1 2 3 4 5 6 7 8; do /bin/busybox sleep 0 & done; true",
        );
        std::thread::sleep(Duration::from_secs(1));
        let said = shell(
            &mut client,
            "/bin/busybox grep -l '^State:.Z' /proc/[0-9]*/status; true",
        );
        assert_eq!(said, "");
        "no zombies".into()
    });
    checks.run("refused while frozen", || {
        assert_eq!(client.get("guest-fsfreeze-freeze"), 1);
        let refused = start(&mut client, json!({ "path": "true" })).expect_err("a refusal");
        assert_eq!(refused.class, "CommandNotFound");
        assert_eq!(client.get("guest-fsfreeze-thaw"), 1);
        assert_eq!(shell(&mut client, "echo again"), "again\n");
        refused.desc
    });
    checks.finish();
}
