//! guest-exec and guest-exec-status: results compared with qemu-ga, limits, load, and the agent as
//! PID 1.
//!
//! Most tests use agents on this machine, which run programs without privileges. Guest: the busybox
//! image with the agent as PID 1 and an ext4 disk. Needs QEMU, the images, qemu-ga and strace.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use gaunt_e2e::agent::Agent;
use gaunt_e2e::base64::{self, encode};
use gaunt_e2e::checks::Checks;
use gaunt_e2e::client::{Client, Refusal, request};
use gaunt_e2e::compare::{compare, lines, synchronized};
use gaunt_e2e::disk::{self, Fs};
use gaunt_e2e::guest::{Image, Machine};
use gaunt_e2e::reference::reference;
use gaunt_e2e::scratch::Scratch;
use gaunt_e2e::{process, wait};
use serde_json::{Value, json};

/// Bytes that the agent keeps of one stream: `base::limits`.
const STREAM: usize = 16 << 20;

/// Decodes a member of a reply.
fn decode(text: &Value) -> Vec<u8> {
    base64::decode(text.as_str().expect("a string"))
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

/// Runs a program to its end. Returns its status.
fn run(client: &mut Client, arguments: Value) -> Value {
    let pid = start(client, arguments).unwrap_or_else(|refusal| panic!("{}", refusal.desc));
    finish(client, pid)
}

/// Runs a shell script, which must succeed. Returns its output.
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

/// Removes `out-truncated` and `err-truncated` if the reference is a qemu-ga before 11.1, which reports
/// them only when they are true.
fn mask_for_older(result: &mut Value) {
    if reference().is_older()
        && let Some(members) = result.as_object_mut()
    {
        members.retain(|name, _| !name.ends_with("-truncated"));
    }
}

#[test]
fn errors_about_arguments_equal_those_of_qemu_ga() {
    let mut rows = Vec::new();
    for wrong in ["null", "5", "1.5", "[]", "{}", "\"x\"", "true", "[\"x\",5]"] {
        for member in ["path", "arg", "env", "input-data", "capture-output"] {
            // No such program, in case the other arguments are valid.
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
fn the_error_about_an_unknown_pid_names_it() {
    let (_agent, mut client) = ours();
    for pid in [0, -1, 1, i64::MIN, i64::MAX, 999_999_999] {
        let refused = client.try_call("guest-exec-status", json!({ "pid": pid }));
        let refused = refused.expect_err("a refusal");
        assert_eq!(refused.class, "GenericError");
        assert_eq!(refused.desc, format!("PID {pid} does not exist"));
    }
}

/// Makes files that can be executed, and files that cannot.
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

/// Runs a program. Returns its status, or the error of the start.
fn outcome(client: &mut Client, arguments: &Value) -> Value {
    match start(client, arguments.clone()) {
        Ok(pid) => finish(client, pid),
        Err(refusal) => json!([refusal.class, refusal.desc]),
    }
}

#[test]
fn programs_start_fail_and_end_as_under_qemu_ga() {
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
        // Environment.
        json!({ "path": "env", "env": [], all: true }),
        json!({ "path": "/usr/bin/env", "env": ["A=b", "A=c", "C=", "PATH=/x"], all: true }),
        json!({ "path": "sh", "arg": ["-c", "tr '\\0' '|' </proc/self/environ"], "env": ["no equals", "", "=x"], all: true }),
        json!({ "path": "hash", "env": [search], all: true }),
        json!({ "path": "plain", "arg": ["one"], "env": [search], all: true }),
        json!({ "path": "true", "env": ["PATH=/no/such"] }),
        json!({ "path": "true", "env": ["PATH="] }),
        json!({ "path": "closed", "env": [search] }),
        json!({ "path": "lost", "env": [search] }),
        // Scripts, and files that cannot be executed.
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
        // Exit statuses and signals.
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
    // Descriptors, signals, working directory, umask.
    let look = "for n in 0 1 2; do stat -L -c %F /dev/fd/$n; done";
    let own = "ls /proc/self/fd | tr '\\n' ' '; pwd; umask; \
               grep -E '^(SigBlk|SigCgt|SigPnd)' /proc/self/status";
    for mode in ["none", "merged", "separated"] {
        cases.push(json!({ "path": "sh", "arg": ["-c", look], all: mode }));
    }
    cases.push(json!({ "path": "sh", "arg": ["-c", own], all: "merged", "input-data": "eA==" }));

    let (_ours, mut ours) = ours();
    let (_theirs, mut theirs) = theirs();
    // gaunt resets all ignored signals for its programs. qemu-ga cannot reset the two that the C library
    // reserves, so SigIgn is not part of the comparison.
    let ignored = shell(&mut ours, "grep SigIgn /proc/self/status");
    assert_eq!(ignored, "SigIgn:\t0000000000000000\n");
    let mut differences = Vec::new();
    for case in &cases {
        let mut mine = outcome(&mut ours, case);
        mask_for_older(&mut mine);
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

/// qemu-ga closes its own descriptor 0 in these modes, so each comparison uses a new qemu-ga.
#[test]
fn one_stream_can_be_captured_many_times() {
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
            mask_for_older(&mut mine);
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
fn the_default_environment_has_the_agents_path_and_a_shell() {
    let (_agent, mut client) = ours();
    let said = shell(&mut client, "tr '\\0' '\\n' </proc/$$/environ");
    let variables: BTreeSet<&str> = said.lines().collect();
    // The agents of the tests have only PATH in their environment.
    assert!(variables.contains("PATH=/usr/bin:/bin"), "{said}");
    assert!(variables.contains("SHELL=/bin/sh"), "{said}");
    let homes = variables.iter().filter(|entry| entry.starts_with("HOME="));
    assert!(homes.count() <= 1, "{said}");
    // An `env` without PATH does not hide the agent's PATH from the search for the program.
    let status = run(
        &mut client,
        json!({ "path": "printf", "arg": ["x"], "env": ["A=b"], "capture-output": true }),
    );
    assert_eq!(status["out-data"], encode(b"x"));
}

#[test]
fn each_stream_is_kept_up_to_its_cap() {
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
    // The agent has unmapped the streams after the last reply.
    assert!(agent.resident_kb() < 1024, "{} kB", agent.resident_kb());
}

#[test]
fn input_that_the_program_does_not_read_blocks_no_request() {
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
fn a_program_reads_48_mib_of_input() {
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
fn a_background_process_that_holds_the_pipes_does_not_delay_the_result() {
    let (_agent, mut client) = ours();
    let begun = Instant::now();
    let script = "printf before; sleep 1000 & echo $! >&2";
    let arguments = json!({ "path": "sh", "arg": ["-c", script], "capture-output": "separated" });
    let status = run(&mut client, arguments);
    let took = begun.elapsed();
    assert_eq!(decode(&status["out-data"]), b"before");
    // The background process may still write to both pipes, so both streams count as truncated.
    for name in ["out-truncated", "err-truncated"] {
        assert_eq!(status[name], true, "{name}");
    }
    assert_eq!(status["exitcode"], 0);
    assert!(
        took > Duration::from_millis(400) && took < wait::ANSWER,
        "{took:?}"
    );
    let sleeper = String::from_utf8(decode(&status["err-data"])).expect("text");
    shell(&mut client, &format!("kill {}", sleeper.trim()));
    // Without captured output there are no pipes to wait for.
    let begun = Instant::now();
    let pid = start(
        &mut client,
        json!({ "path": "sh", "arg": ["-c", "sleep 60 &"] }),
    );
    finish(&mut client, pid.expect("a program"));
    assert!(begun.elapsed() < wait::ANSWER);
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
                .expect_err("a result is reported once");
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

/// Asserts that the agent knows no program of this number.
fn assert_unknown(client: &mut Client, pid: i64) {
    let refused = client.try_call("guest-exec-status", json!({ "pid": pid }));
    let refused = refused.expect_err("a refusal").desc;
    assert_eq!(refused, format!("PID {pid} does not exist"));
}

#[test]
fn results_are_kept_until_a_client_asks() {
    let (agent, mut client) = ours();
    let running: Vec<i64> = (0..128)
        .map(|_| start(&mut client, json!({ "path": "true" })).expect("a program"))
        .collect();
    // The agent reaps children before a client asks for their status.
    wait::expect("no child left", wait::ANSWER, || {
        agent.children().is_empty()
    });
    // Any client may ask, in any order.
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

/// No client asks for the status of these programs.
#[test]
fn after_ten_thousand_programs_the_newest_results_are_kept() {
    const COUNT: usize = 10_000;
    // The agent keeps 128 results, and drops the one that ended first: at the end of a batch up to 63
    // older programs may have ended after some of the newest.
    const KEPT: usize = 64;
    let (agent, mut client) = ours();
    let begun = Instant::now();
    let (mut pids, mut before) = (Vec::new(), (0, 0));
    for number in 0..COUNT {
        // Stays below the limit of running programs, however slow this machine is.
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
        assert_unknown(&mut client, *pid);
    }
    for (number, pid) in (old.len()..).zip(newest) {
        let expected = json!({ "exited": true, "exitcode": number % 100 });
        assert_eq!(finish(&mut client, *pid), expected, "{number}");
        assert_unknown(&mut client, *pid);
    }
    assert!(took < Duration::from_secs(300), "{took:?}");
    eprintln!("{COUNT} programs: {took:?}, {} kB", agent.resident_kb());
}

#[test]
fn running_programs_are_never_dropped_from_the_table() {
    let (_agent, mut client) = ours();
    let sleeper = json!({ "path": "sleep", "arg": ["1000"] });
    let kill = |pid: i64| process::signal(u32::try_from(pid).expect("a number"), libc::SIGKILL);
    let mut running: Vec<i64> = (0..128)
        .map(|_| start(&mut client, sleeper.clone()).expect("a program"))
        .collect();
    let refused = start(&mut client, json!({ "path": "true" })).expect_err("all run");
    assert_eq!(refused.desc, "too many child processes are running");
    // A program that ends makes room, whatever its position in the table.
    let ended = running.remove(60);
    kill(ended);
    let new = wait::until(wait::ANSWER, || start(&mut client, sleeper.clone()).ok());
    running.push(new.expect("room for one more"));
    assert_unknown(&mut client, ended);
    start(&mut client, json!({ "path": "true" })).expect_err("all run");
    for pid in running {
        assert_eq!(status(&mut client, pid), json!({ "exited": false }));
        kill(pid);
    }
}

#[test]
fn the_captured_bytes_of_all_programs_have_a_cap() {
    let (agent, mut client) = ours();
    let script = format!("yes | head -c {STREAM}; yes | head -c {STREAM} >&2");
    let arguments = json!({ "path": "sh", "arg": ["-c", script], "capture-output": true });
    let pids: Vec<i64> = (0..10)
        .map(|_| {
            let pid = start(&mut client, arguments.clone()).expect("a program");
            wait::expect("the program to end", wait::ANSWER, || {
                agent.children().is_empty()
            });
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
        assert_unknown(&mut client, *pid);
    }
    assert_eq!(shell(&mut client, "echo again"), "again\n");
}

#[test]
fn programs_do_not_inherit_each_others_pipes() {
    let (_agent, mut client) = ours();
    let reader = json!({ "path": "cat", "capture-output": true,
                         "input-data": encode(&vec![b'x'; 1 << 20]) });
    let sleeper = json!({ "path": "sh", "capture-output": true,
                          "arg": ["-c", "ls /proc/self/fd | tr '\\n' ' '; exec sleep 1000"] });
    // An inherited pipe end would keep the reader from seeing the end of its input.
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
fn arguments_environment_and_input_are_not_logged() {
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

/// Returns parent, process group and session of a process.
fn kin(pid: impl std::fmt::Display) -> [String; 3] {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let (_, rest) = stat.rsplit_once(") ").expect("a name");
    let mut words = rest.split(' ').skip(1).map(str::to_owned);
    [(); 3].map(|()| words.next().expect("a number"))
}

#[test]
fn programs_share_the_agents_session_and_survive_its_end() {
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

/// Delay of the start of a program in the next test. Two requests of another client must take less, on a
/// busy machine as well.
const DELAY: Duration = Duration::from_secs(12);
/// A measured time is this much below [`DELAY`], or above.
const MARGIN: Duration = Duration::from_millis(500);

/// strace delays the child in execve, as a file system that does not answer would.
#[test]
fn a_program_that_hangs_in_execve_delays_only_its_client() {
    let (agent, mut client) = ours();
    let mut other = agent.client();
    let _tracer = agent.trace(&[
        "-e",
        "trace=execve",
        "-o",
        "/dev/null",
        "-e",
        &format!("inject=execve:delay_enter={}", DELAY.as_micros()),
    ]);
    let arguments = json!({ "path": "true", "capture-output": true });
    let text = request("guest-exec", &arguments);
    for killed in [true, false] {
        let begun = Instant::now();
        client.send(&text);
        wait::expect("a child", wait::ANSWER, || !agent.children().is_empty());
        other.get("guest-ping");
        assert_eq!(frozen(&mut other), "thawed");
        assert!(
            begun.elapsed() < DELAY - MARGIN,
            "the other client was delayed"
        );
        if killed {
            let child = agent.children()[0];
            process::signal(child, libc::SIGKILL);
        }
        let reply = client.reply();
        if killed {
            let desc = &reply["error"]["desc"];
            assert_eq!(desc, "child process has terminated abnormally", "{reply}");
        } else {
            assert!(
                begun.elapsed() > DELAY - MARGIN,
                "the child was not delayed"
            );
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
fn the_agent_as_pid_1_runs_programs_and_reaps_orphans() {
    let mut checks = Checks::new("exec under PID 1");
    let scratch = Scratch::new();
    let disk = scratch.join("ext4.raw");
    disk::raw(&disk, Fs::Ext4);
    let mut guest = Machine::new(Image::Busybox)
        .kernel("rdinit=/usr/bin/gaunt")
        .disk(&disk)
        .boot();
    let mut client = guest.client();
    checks.run("environment, working directory and umask", || {
        let said = shell(&mut client, "/bin/busybox env; /bin/busybox pwd; umask");
        // Not the HOME=/ that the kernel passes to its init.
        assert_eq!(said.matches("HOME=").count(), 1, "{said}");
        assert!(said.contains("HOME=/root\n"), "{said}");
        assert!(said.contains("PATH=/"), "{said}");
        assert!(said.ends_with("/\n0022\n"), "{said}");
        said.replace('\n', " ")
    });
    checks.run("finds programs in PATH", || {
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
        "no signal blocked, ignored or caught".into()
    });
    checks.run("reaps orphans", || {
        shell(
            &mut client,
            "for n in 1 2 3 4 5 6 7 8; do /bin/busybox sleep 0 & done; true",
        );
        wait::expect("no zombies", wait::ANSWER, || {
            let zombies = "/bin/busybox grep -l '^State:.Z' /proc/[0-9]*/status; true";
            shell(&mut client, zombies).is_empty()
        });
        "no zombies".into()
    });
    checks.run("refuses guest-exec while frozen", || {
        assert_eq!(client.get("guest-fsfreeze-freeze"), 1);
        let refused = start(&mut client, json!({ "path": "true" })).expect_err("a refusal");
        assert_eq!(refused.class, "CommandNotFound");
        assert_eq!(client.get("guest-fsfreeze-thaw"), 1);
        assert_eq!(shell(&mut client, "echo again"), "again\n");
        refused.desc
    });
    checks.finish();
}
