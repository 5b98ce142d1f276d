//! The guest-file commands: replies compared with qemu-ga, and behaviour in which gaunt differs.
//!
//! Most tests use agents on this machine. Guest: the busybox image with an ext4 disk, a disk that can be
//! made silent, and dmsetup. Needs QEMU, the images, qemu-ga and dmsetup.

use std::net::Shutdown;
use std::path::Path;
use std::time::{Duration, Instant};

use gaunt_e2e::agent::Agent;
use gaunt_e2e::base64::{decode, encode};
use gaunt_e2e::checks::Checks;
use gaunt_e2e::client::{Client, Refusal, request};
use gaunt_e2e::cpio::Cpio;
use gaunt_e2e::disk::{self, Fs};
use gaunt_e2e::guest::{Guest, Image, Machine};
use gaunt_e2e::modules::Modules;
use gaunt_e2e::process::{program, run};
use gaunt_e2e::scratch::Scratch;
use gaunt_e2e::wait;
use serde_json::{Value, json};

/// A client that records all replies.
struct Session<'a> {
    client: Client,
    directory: &'a Path,
    record: Vec<String>,
}

impl Session<'_> {
    /// Runs a command, and records its reply without handles and without the name of the directory.
    fn ask(&mut self, command: &str, arguments: Value) -> Result<Value, Refusal> {
        let reply = self.client.try_call(command, arguments.clone());
        let mut shown = match &reply {
            Ok(_) if command == "guest-file-open" => "a handle".to_owned(),
            Ok(value) => value.to_string(),
            Err(refusal) => format!("{}: {}", refusal.class, refusal.desc),
        };
        shown = shown.replace(self.directory.to_str().unwrap(), "DIR");
        let mut arguments = arguments;
        if arguments["handle"]
            .as_i64()
            .is_some_and(|handle| (1000..1 << 53).contains(&handle))
        {
            shown = shown.replace(&arguments["handle"].to_string(), "N");
            arguments["handle"] = json!("a handle");
        }
        let arguments = arguments.to_string();
        let arguments = arguments.replace(self.directory.to_str().unwrap(), "DIR");
        self.record
            .push(format!("{command} {arguments} -> {shown}"));
        reply
    }

    fn open(&mut self, path: &str, mode: &str) -> Option<i64> {
        let path = self.path(path);
        let reply = self.ask("guest-file-open", json!({ "path": path, "mode": mode }));
        reply.ok().map(|handle| handle.as_i64().unwrap())
    }

    fn path(&self, path: &str) -> String {
        self.directory.join(path).to_str().unwrap().to_owned()
    }

    fn on(&mut self, command: &str, handle: i64, more: Value) {
        let mut arguments = json!({ "handle": handle });
        for (name, value) in more.as_object().unwrap() {
            arguments[name] = value.clone();
        }
        let _ = self.ask(&format!("guest-file-{command}"), arguments);
    }

    fn write(&mut self, handle: i64, text: &str) {
        self.on(
            "write",
            handle,
            json!({ "buf-b64": encode(text.as_bytes()) }),
        );
    }

    /// Records the content and the mode of a file.
    fn look(&mut self, name: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.directory.join(name);
        let content = std::fs::read_to_string(&path);
        let mode = std::fs::metadata(&path).map(|data| data.permissions().mode());
        self.record.push(format!("{name}: {content:?} {mode:?}"));
    }
}

/// Runs a script with both agents and compares the records. `intended` lists differences: the end of
/// qemu-ga's line, and the end of gaunt's.
fn compare(title: &str, script: impl Fn(&mut Session<'_>), intended: &[(&str, &str)]) {
    let record = |agent: Agent| -> Vec<String> {
        let scratch = Scratch::new();
        scratch.give_away();
        let mut client = agent.client();
        client.sync(wait::ANSWER).expect("an answer to guest-sync");
        let mut session = Session {
            client,
            directory: scratch.path(),
            record: Vec::new(),
        };
        script(&mut session);
        session.record
    };
    let ours = record(Agent::gaunt(&[]));
    let theirs = record(Agent::reference(&[]));
    let mut wrong = Vec::new();
    let mut used = 0;
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let is_intended = intended
            .iter()
            .any(|(their, our)| theirs.ends_with(their) && ours.ends_with(our));
        used += usize::from(is_intended);
        if ours != theirs && !is_intended {
            wrong.push(format!("gaunt   {ours}\n  qemu-ga {theirs}"));
        }
    }
    assert!(wrong.is_empty(), "{title}:\n  {}", wrong.join("\n  "));
    assert_eq!(ours.len(), theirs.len());
    assert!(
        used >= intended.len(),
        "an intended difference does not occur"
    );
    eprintln!(
        "{title}: {} replies, {used} intended differences",
        ours.len()
    );
}

/// Mode of a new file: qemu-ga ignores the umask and uses 0666; gaunt applies the umask, 022 here.
const NEW_FILE: (&str, &str) = ("Ok(33206)", "Ok(33188)");

#[test]
fn files_are_opened_as_qemu_ga_opens_them() {
    compare(
        "open",
        |session| {
            let modes = [
                "r", "rb", "w", "wb", "a", "ab", "r+", "rb+", "r+b", "w+", "wb+", "w+b", "a+",
                "ab+", "a+b",
            ];
            for mode in modes {
                for name in ["new", "old", "missing/x"] {
                    let name = format!("{name}{}", mode.replace('+', "p"));
                    if name.starts_with("old") {
                        std::fs::write(session.directory.join(&name), "0123456789").unwrap();
                        let path = session.path(&name);
                        run(
                            std::process::Command::new("chmod").args(["606", &path]),
                            wait::ANSWER,
                        );
                    }
                    if let Some(handle) = session.open(&name, mode) {
                        session.on("seek", handle, json!({ "offset": 0, "whence": "cur" }));
                        session.on("read", handle, json!({ "count": 3 }));
                        session.on("seek", handle, json!({ "offset": 0, "whence": 1 }));
                        session.write(handle, "abc");
                        session.on("seek", handle, json!({ "offset": 0, "whence": 1 }));
                        session.on("read", handle, json!({}));
                        session.on("flush", handle, json!({}));
                        session.on("close", handle, json!({}));
                        session.on("close", handle, json!({}));
                    }
                    session.look(&name);
                }
            }
            for mode in [
                "", "R", "rw", "wx", "rt", "r++", "rbb", "br", "+r", "we", "r b", "\u{e9}",
            ] {
                session.open("missing", mode);
            }
            let _ = session.ask("guest-file-open", json!({ "path": "" }));
            let _ = session.ask("guest-file-open", json!({ "path": "no/such\u{0}file" }));
            let _ = session.ask("guest-file-open", json!({ "path": "/".repeat(5000) }));
            let long = format!("/{}", "n".repeat(300));
            let _ = session.ask("guest-file-open", json!({ "path": long, "mode": "w" }));
            let dangling = session.path("dangling");
            std::os::unix::fs::symlink(session.path("nowhere"), dangling).unwrap();
            for mode in ["r", "w", "a+"] {
                session.open("dangling", mode);
            }
            for mode in ["r", "w", "r+", "a"] {
                if let Some(handle) = session.open("", mode) {
                    session.on("read", handle, json!({}));
                    session.on("read", handle, json!({ "count": 0 }));
                    session.on("close", handle, json!({}));
                }
            }
            // Relative to the agent's working directory, which is the root directory.
            let _ = session.ask("guest-file-open", json!({ "path": "proc/version" }));
            let _ = session.ask("guest-file-open", json!({ "path": "/root/x", "mode": "w" }));
        },
        &[NEW_FILE],
    );
}

#[test]
fn new_files_obey_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    for (mask, expected) in [("000", 0o666), ("022", 0o644), ("077", 0o600)] {
        let agent = Agent::with_umask(mask);
        let mut client = agent.client();
        let scratch = Scratch::new();
        std::fs::write(scratch.join("old"), "").unwrap();
        std::fs::set_permissions(scratch.join("old"), PermissionsExt::from_mode(0o606)).unwrap();
        scratch.give_away();
        let mut mode = |name: &str, mode: &str| {
            let path = scratch.join(name);
            client.call("guest-file-open", json!({ "path": path, "mode": mode }));
            std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
        };
        for (name, how) in [("w", "w"), ("a", "a"), ("wp", "w+"), ("ap", "a+")] {
            assert_eq!(mode(name, how), expected, "{mask} {how}");
        }
        assert_eq!(mode("old", "w"), 0o606, "{mask}");
    }
}

/// With access to the agent's memory a host could run its own code there, whatever the policy.
#[test]
fn the_agents_memory_cannot_be_opened() {
    let mut agent = Agent::gaunt(&["-b", "guest-exec"]);
    let id = agent.process().id();
    let mut client = agent.client();
    let scratch = Scratch::new();
    let link = scratch.join("link");
    std::os::unix::fs::symlink("/proc/self/mem", &link).unwrap();
    scratch.give_away();
    for path in [
        "/proc/self/mem",
        "/proc/thread-self/mem",
        "//proc/self/mem",
        "proc/self/mem",
        "/proc/self/cwd/proc/self/mem",
        &format!("/proc/{id}/mem"),
        &format!("/proc/{id}/task/{id}/mem"),
        link.to_str().unwrap(),
    ] {
        for mode in ["r", "r+", "w", "a"] {
            let open = json!({ "path": path, "mode": mode });
            let refused = client.try_call("guest-file-open", open);
            let refused = refused.expect_err(path).desc;
            let expected =
                format!("failed to open file '{path}' (mode: '{mode}'): Operation not permitted");
            assert_eq!(refused, expected);
        }
    }
    // Other files of the process can be opened.
    for (path, mode) in [("/proc/self/maps", "r"), ("/proc/self/comm", "r+")] {
        client.call("guest-file-open", json!({ "path": path, "mode": mode }));
    }
}

#[test]
fn errors_about_handles_and_counts_equal_those_of_qemu_ga() {
    compare(
        "handles",
        |session| {
            let handle = session.open("file", "w+").unwrap();
            for unknown in [0, 1, -1, 42, i64::MIN, i64::MAX, 1 << 62] {
                session.on("close", unknown, json!({}));
                session.on("flush", unknown, json!({}));
                session.on("read", unknown, json!({ "count": -1 }));
                session.on("write", unknown, json!({ "buf-b64": "?", "count": -1 }));
                session.on("seek", unknown, json!({ "offset": 0, "whence": 9 }));
            }
            for count in [-1, 0, 1, 50_331_648, 50_331_649, i64::MAX, i64::MIN] {
                session.on("read", handle, json!({ "count": count }));
            }
        },
        &[],
    );
}

#[test]
fn writes_of_bad_base64_equal_those_of_qemu_ga() {
    compare(
        "base64",
        |session| {
            let handle = session.open("file", "w+").unwrap();
            let texts = [
                "",
                "aGVsbG8=",
                "aGVsbG8",
                "aGVsbG8=aGVsbG8=",
                "aGVsbG8=====",
                "aGVs\nbG8=",
                "aGVs bG8=",
                "aGVs\r\n",
                "-_==",
                "a",
                "=",
                "====",
                "a=VsaG=s",
                "aG\u{e9}s",
                "a/Vs",
            ];
            for text in texts {
                session.on("write", handle, json!({ "buf-b64": text }));
                session.on("seek", handle, json!({ "offset": 0, "whence": "set" }));
                session.on("read", handle, json!({}));
                session.on("seek", handle, json!({ "offset": 0, "whence": "set" }));
                for count in [-1, 0, 1, 4, 6, 5000] {
                    session.on("write", handle, json!({ "buf-b64": text, "count": count }));
                }
            }
            // Some clients escape slashes.
            let escaped = r#"{"execute":"guest-file-write","arguments":{"handle":H,"buf-b64":"\/\/8=\u0061GVs"}}"#;
            let reply = session
                .client
                .ask(escaped.replace('H', &handle.to_string()));
            session.record.push(reply.to_string());
        },
        &[],
    );
}

#[test]
fn errors_about_positions_and_arguments_equal_those_of_qemu_ga() {
    compare(
        "arguments",
        |session| {
            let handle = session.open("file", "w+").unwrap();
            for whence in [
                json!(0),
                json!(1),
                json!(2),
                json!("set"),
                json!("cur"),
                json!("end"),
                json!(3),
                json!(-1),
                json!(i64::MAX),
                json!(1.5),
                json!("Set"),
                json!(""),
                json!(null),
                json!([]),
                json!(true),
                json!(u64::MAX),
            ] {
                session.on("seek", handle, json!({ "offset": 2, "whence": whence }));
            }
            for offset in [
                json!(-100),
                json!(0),
                json!(5_000_000_000i64),
                json!(i64::MAX),
                json!(i64::MIN),
                json!("0"),
                json!(1.0),
            ] {
                session.on("seek", handle, json!({ "offset": offset, "whence": 0 }));
                session.on("read", handle, json!({}));
            }
            for command in ["open", "close", "read", "write", "seek", "flush"] {
                let command = format!("guest-file-{command}");
                let _ = session.ask(&command, json!({}));
                let _ = session.ask(&command, json!({ "handle": "1" }));
                let _ = session.ask(&command, json!({ "path": 1 }));
                let _ = session.ask(&command, json!({ "handle": 1, "path": "/", "buf-b64": 1 }));
                let _ = session.ask(&command, json!({ "handle": 1, "path": "/", "mode": 1, "count": "1", "buf-b64": "", "offset": 0, "whence": 0 }));
                let _ = session.ask(
                    &command,
                    json!({ "handle": 1, "path": "/nope", "buf-b64": "" }),
                );
            }
        },
        &[],
    );
}

#[test]
fn ends_of_file_and_positions_equal_those_of_qemu_ga() {
    compare(
        "ends",
        |session| {
            for size in [0, 1, 5, 4095, 4096, 4097, 8192, 65536, 65537, 200_000] {
                let path = session.directory.join("sized");
                std::fs::write(&path, "x".repeat(size)).unwrap();
                for count in [1, 2, 3, 4096, 65535, 65536, 65537, 300_000] {
                    let handle = session.open("sized", "r").unwrap();
                    for _ in 0..3 {
                        session.on("read", handle, json!({ "count": count }));
                    }
                    // The file grows.
                    std::fs::write(&path, "x".repeat(size + 7)).unwrap();
                    session.on("read", handle, json!({ "count": count }));
                    std::fs::write(&path, "x".repeat(size)).unwrap();
                    session.on("close", handle, json!({}));
                }
            }
            let handle = session.open("mixed", "w+").unwrap();
            session.write(handle, "0123456789");
            session.on("seek", handle, json!({ "offset": 2, "whence": 0 }));
            session.on("read", handle, json!({ "count": 3 }));
            session.write(handle, "ABC");
            session.on("read", handle, json!({ "count": 1 }));
            session.on("seek", handle, json!({ "offset": -1, "whence": 2 }));
            session.write(handle, "END");
            session.on("read", handle, json!({}));
            session.on("flush", handle, json!({}));
            session.look("mixed");
            session.on("close", handle, json!({}));
            let handle = session.open("mixed", "a+").unwrap();
            session.on("read", handle, json!({ "count": 2 }));
            session.write(handle, "+1");
            session.on("seek", handle, json!({ "offset": 0, "whence": 1 }));
            session.on("seek", handle, json!({ "offset": 1, "whence": 0 }));
            session.write(handle, "+2");
            session.on("seek", handle, json!({ "offset": 0, "whence": 1 }));
            session.on("close", handle, json!({}));
            session.look("mixed");
        },
        &[NEW_FILE],
    );
}

#[test]
fn devices_and_pipes_equal_those_of_qemu_ga() {
    compare(
        "devices",
        |session| {
            for path in [
                "/dev/zero",
                "/dev/null",
                "/proc/version",
                "/proc/self/mounts",
                "/sys/kernel/mm/transparent_hugepage/enabled",
                "/sys/kernel/notes",
                "/dev/full",
            ] {
                for mode in ["r", "r+"] {
                    let Some(handle) = session.open(path, mode) else {
                        continue;
                    };
                    session.on("read", handle, json!({ "count": 10 }));
                    // No count that contains the number of a handle: the records mask those.
                    session.on("read", handle, json!({ "count": 70_000 }));
                    session.on("close", handle, json!({}));
                }
            }
            run(
                std::process::Command::new("mkfifo").args(["-m", "666", &session.path("fifo")]),
                wait::ANSWER,
            );
            session.open("fifo", "w");
            let reader = session.open("fifo", "r").unwrap();
            session.on("read", reader, json!({}));
            let writer = session.open("fifo", "w").unwrap();
            session.on("read", reader, json!({ "count": 5 }));
            session.write(writer, "hello");
            session.on("flush", writer, json!({}));
            session.on("read", reader, json!({ "count": 5 }));
            session.on("seek", reader, json!({ "offset": 0, "whence": 0 }));
            session.on("close", writer, json!({}));
            session.on("read", reader, json!({}));
        },
        &[],
    );
}

#[test]
fn a_failed_write_is_reported_by_the_write_itself() {
    let agent = Agent::gaunt(&[]);
    let mut client = agent.client();
    let full = open(&mut client, "/dev/full", "w");
    let refused = client.try_call(
        "guest-file-write",
        json!({ "handle": full, "buf-b64": "aGVs" }),
    );
    assert_eq!(
        refused.unwrap_err().desc,
        "failed to write to file: No space left on device"
    );
    assert_eq!(
        client.call("guest-file-close", json!({ "handle": full })),
        json!({})
    );
}

/// A read takes what the pipe holds, and a write fills its room. qemu-ga loses bytes here.
#[test]
fn pipes_are_read_and_written_as_far_as_possible() {
    let agent = Agent::gaunt(&[]);
    let mut client = agent.client();
    let scratch = Scratch::new();
    scratch.give_away();
    let fifo = scratch.join("fifo");
    run(
        std::process::Command::new("mkfifo")
            .args(["-m", "666"])
            .arg(&fifo),
        wait::ANSWER,
    );
    let fifo = fifo.to_str().unwrap();
    let (reader, writer) = (open(&mut client, fifo, "r"), open(&mut client, fifo, "w"));
    let big = encode(&[b'x'; 100_000]);
    let wrote = client.call(
        "guest-file-write",
        json!({ "handle": writer, "buf-b64": big }),
    );
    assert_eq!(wrote, json!({ "count": 65536, "eof": false }));
    let refused = client.try_call(
        "guest-file-write",
        json!({ "handle": writer, "buf-b64": big }),
    );
    assert_eq!(
        refused.unwrap_err().desc,
        "failed to write to file: Resource temporarily unavailable"
    );
    let read = client.call(
        "guest-file-read",
        json!({ "handle": reader, "count": 100_000 }),
    );
    assert_eq!(
        (&read["count"], &read["eof"]),
        (&json!(65536), &json!(false))
    );
    client.call("guest-file-close", json!({ "handle": reader }));
    let refused = client.try_call(
        "guest-file-write",
        json!({ "handle": writer, "buf-b64": big }),
    );
    assert_eq!(
        refused.unwrap_err().desc,
        "failed to write to file: Broken pipe"
    );
    assert!(client.get("guest-ping").is_object());
}

/// /proc/self is the agent, also if a child opened the file.
#[test]
fn proc_self_is_the_agent() {
    let agent = Agent::gaunt(&[]);
    let mut client = agent.client();
    let status = open(&mut client, "/proc/self/status", "r");
    let read = client.call(
        "guest-file-read",
        json!({ "handle": status, "count": 50_000 }),
    );
    let text = decode(read["buf-b64"].as_str().unwrap());
    let pid = format!("\nPid:\t{}\n", { agent }.process().id());
    assert!(String::from_utf8(text).unwrap().contains(&pid), "{pid}");
}

/// Returns pseudo-random bytes.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

#[test]
fn a_write_never_reaches_a_file_that_was_opened_later() {
    let agent = Agent::gaunt(&[]);
    let (mut client, mut other) = (agent.client(), agent.client());
    let path = |name: &str| agent.state().join(name);
    let open = |client: &mut Client, name: &str| {
        let arguments = json!({ "path": path(name).to_str(), "mode": "w" });
        client.call("guest-file-open", arguments)
    };
    for bytes in [4 << 20, 24 << 20] {
        let first = open(&mut client, "first");
        let data = encode(&vec![b'x'; bytes]);
        let arguments = json!({ "handle": first, "buf-b64": data });
        client.send(request("guest-file-write", &arguments));
        // The file is closed during the write. The kernel would give its descriptor to the next file.
        other.call("guest-file-close", json!({ "handle": first }));
        let second = open(&mut other, "second");
        let reply = client.reply();
        let len = |name: &str| std::fs::metadata(path(name)).expect("a file").len();
        assert_eq!(len("second"), 0, "{reply}");
        if let Some(count) = reply["return"]["count"].as_u64() {
            assert_eq!(count, len("first"));
        }
        let arguments = json!({ "handle": second, "buf-b64": "QUFB" });
        assert_eq!(other.call("guest-file-write", arguments)["count"], 3);
        other.call("guest-file-close", json!({ "handle": second }));
        assert_eq!(std::fs::read(path("second")).expect("a file"), b"AAA");
    }
}

#[test]
fn the_largest_read_is_complete_and_takes_little_memory() {
    let agent = Agent::gaunt(&[]);
    let mut client = agent.client();
    let scratch = Scratch::new();
    let path = scratch.join("large");
    let content = noise(48 << 20);
    std::fs::write(&path, &content).unwrap();
    scratch.give_away();
    let path = path.to_str().unwrap();
    let handle = client.call("guest-file-open", json!({ "path": path }));
    let whole = json!({ "handle": handle, "count": 48 << 20 });
    let read = client.call("guest-file-read", whole.clone());
    assert_eq!(
        (&read["count"], &read["eof"]),
        (&json!(48 << 20), &json!(false))
    );
    assert!(decode(read["buf-b64"].as_str().unwrap()) == content);
    let read = client.call("guest-file-read", whole.clone());
    assert_eq!(read, json!({ "count": 0, "buf-b64": "", "eof": true }));
    assert!(agent.peak_kb() <= 1024, "{} kB", agent.peak_kb());
    assert!(agent.resident_kb() <= 400, "{} kB", agent.resident_kb());

    // A client that does not read its reply delays no other client, and the agent buffers nothing.
    client.call(
        "guest-file-seek",
        json!({ "handle": handle, "offset": 0, "whence": 0 }),
    );
    client.send(request("guest-file-read", &whole));
    client.send(request("guest-ping", &json!({})));
    let mut other = agent.client();
    let start = Instant::now();
    for _ in 0..50 {
        other.get("guest-ping");
    }
    assert!(start.elapsed() < wait::ANSWER);
    assert!(agent.peak_kb() <= 1024, "{} kB", agent.peak_kb());
    // Closing the file ends the read early, with the true count.
    other.call("guest-file-close", json!({ "handle": handle }));
    let read = client.reply()["return"].take();
    let part = decode(read["buf-b64"].as_str().unwrap());
    assert_eq!(read["count"], part.len());
    assert!(part.len() < content.len() && content.starts_with(&part));
    assert_eq!(client.reply(), json!({ "return": {} }));

    // A client that leaves during a read.
    let handle = client.call("guest-file-open", json!({ "path": path }));
    client.send(request(
        "guest-file-read",
        &json!({ "handle": handle, "count": 48 << 20 }),
    ));
    wait::expect("the reply to begin", wait::ANSWER, || {
        client.line(Duration::from_millis(1)).is_none()
    });
    drop(client);
    other.call("guest-file-close", json!({ "handle": handle }));

    // A write almost as large as a request may be.
    let copy = scratch.join("copy");
    let handle = other.call("guest-file-open", json!({ "path": copy, "mode": "w" }));
    let part = &content[..47 << 20];
    let wrote = other.call(
        "guest-file-write",
        json!({ "handle": handle, "buf-b64": encode(part) }),
    );
    assert_eq!(wrote, json!({ "count": part.len(), "eof": false }));
    assert!(std::fs::read(&copy).unwrap() == part);
    assert!(agent.resident_kb() <= 400, "{} kB", agent.resident_kb());
}

#[test]
fn handles_are_never_reused_and_running_out_is_an_error() {
    let mut seen = std::collections::BTreeSet::new();
    let mut highest = 0;
    for _ in 0..2 {
        let agent = Agent::gaunt(&[]);
        let mut client = agent.client();
        let open = json!({ "path": "/dev/null", "mode": "r+" });
        let mut handles = Vec::new();
        let refused = loop {
            match client.try_call("guest-file-open", open.clone()) {
                Ok(handle) => handles.push(handle.as_i64().unwrap()),
                Err(refusal) => break refusal.desc,
            }
            assert!(handles.len() <= 1024);
        };
        let text = "failed to open file '/dev/null' (mode: 'r+'): Too many open files";
        assert_eq!(refused, text);
        assert!(handles.len() > 900, "{}", handles.len());
        for handle in &handles {
            assert!(seen.insert(*handle) && *handle > highest && *handle < 1 << 53);
            client.call("guest-file-close", json!({ "handle": handle }));
        }
        client.call("guest-file-open", open);
        highest = *handles.last().unwrap();
    }
}

/// Asserts that the agent waits for events, and that a child of it waits for something else.
fn assert_waits_in_a_child(guest: &mut Guest) {
    let said = guest.shell().run(
        "cd /proc/$(cat /run/agent.pid); grep State status; \
         for child in $(cat task/*/children); do cat /proc/$child/wchan; echo; done",
    );
    let (state, children) = said.split_once('\n').unwrap_or((&said, ""));
    assert!(
        state.contains("S (sleeping)"),
        "the agent itself waits: {state}"
    );
    // A worker without a task waits for its socket, first in read(2), later in poll(2).
    let is_idle = |wchan: &str| wchan.contains("unix_stream") || wchan.contains("poll");
    let waits = children.lines().any(|wchan| !is_idle(wchan));
    assert!(waits, "no child waits for the file: {children}");
}

fn open(client: &mut Client, path: &str, mode: &str) -> Value {
    client.call("guest-file-open", json!({ "path": path, "mode": mode }))
}

fn close(client: &mut Client, handle: &Value) {
    client.call("guest-file-close", json!({ "handle": handle }));
}

/// Returns the output of `seq 1 COUNT`.
fn seq(count: usize) -> String {
    (1..=count).map(|number| format!("{number}\n")).collect()
}

/// Asserts that the value of a read is the output of `seq 1 COUNT`.
fn assert_read_seq(read: &Value, count: usize) {
    let expected = seq(count);
    assert_eq!(
        (&read["count"], &read["eof"]),
        (&json!(expected.len()), &json!(true))
    );
    assert!(decode(read["buf-b64"].as_str().unwrap()) == expected.as_bytes());
}

#[test]
fn files_in_a_guest_are_read_and_written_and_never_block_the_agent() {
    let mut checks = Checks::new("files in a guest");
    let scratch = Scratch::new();
    let image = scratch.join("disk");
    disk::raw(&image, Fs::Ext4);
    let silent = scratch.join("silent");
    disk::raw(&silent, Fs::None);
    let dmsetup = program("dmsetup", "dmsetup");
    let modules = Modules::of(&["vfat", "nls_cp437", "nls_ascii"]);
    let mut guest = Machine::new(Image::Busybox)
        .overlay(&modules.put(Cpio::new().program(&dmsetup)).finish())
        .disk(&image)
        .disk(&silent)
        .boot();
    guest.wait_shell();
    let shell = guest.shell();
    Modules::insert(shell);
    shell.run("mkdir -p /mnt");
    let mut client = guest.client();

    checks.run("refuses memory under any name", || {
        refuses_memory(&mut guest, &mut client)
    });
    checks.run("reports a full file system", || {
        reports_a_full_file_system(&mut guest, &mut client)
    });
    checks.run("reads a file that is not in the page cache", || {
        let shell = guest.shell();
        shell.run("seq 1 200000 >/data/numbers; sync; echo 3 >/proc/sys/vm/drop_caches");
        let handle = open(&mut client, "/data/numbers", "r");
        let arguments = json!({ "handle": handle, "count": 4_000_000 });
        let read = client.call("guest-file-read", arguments);
        assert_read_seq(&read, 200_000);
        close(&mut client, &handle);
        format!("{} bytes", read["count"])
    });
    let dm = format!("DM_DISABLE_UDEV=1 {}", dmsetup.display());
    checks.run("a child waits for a silent disk with ext4", || {
        waits_for_a_silent_ext4(&mut guest, &mut client, &dm)
    });
    checks.run("a child waits for a silent disk with FAT", || {
        waits_for_a_silent_fat(&mut guest, &mut client, &dm)
    });
    checks.run("a child waits for os-release on a silent disk", || {
        waits_for_a_silent_os_release(&mut guest, &mut client, &dm)
    });
    let handle = open(&mut client, "/data/stuck", "w");
    checks.run("a child waits for a file system that others froze", || {
        waits_for_a_frozen_file_system(&mut guest, &mut client, &handle)
    });
    checks.run(
        "open files do not keep the disk from a clean unmount",
        || {
            guest.shell().run("fsfreeze --unfreeze /data; true");
            let write = json!({ "handle": handle, "buf-b64": "bG8K" });
            assert_eq!(client.call("guest-file-write", write)["count"], 3);
            client.send(request("guest-shutdown", &json!({})));
            guest.wait_end(Duration::from_secs(60));
            assert!(disk::ext4_is_clean(&image));
            "clean".into()
        },
    );
    checks.finish();
}

/// Memory of PID 1, of the agent, and of the machine.
fn refuses_memory(guest: &mut Guest, client: &mut Client) -> String {
    guest.shell().run(
        "touch /tmp/one /tmp/own; mount --bind /proc/1/mem /tmp/one; \
         mount --bind /proc/$(cat /run/agent.pid)/mem /tmp/own; mkdir /tmp/proc; mount -t proc proc /tmp/proc; \
         mknod /tmp/mem c 1 1; mknod /tmp/kmem c 1 2; mknod /tmp/port c 1 4; mknod /tmp/null c 1 3",
    );
    for path in [
        "/proc/1/mem",
        "/tmp/one",
        "/tmp/own",
        "/tmp/proc/1/mem",
        "/tmp/proc/self/mem",
        "/tmp/mem",
        "/tmp/kmem",
        "/tmp/port",
    ] {
        for mode in ["r", "r+"] {
            let open = json!({ "path": path, "mode": mode });
            let refused = client.try_call("guest-file-open", open);
            let refused = refused.expect_err(path).desc;
            let why = refused.rsplit(": ").next().unwrap_or_default();
            // A kernel may lack the driver of a device in /tmp.
            let no_driver = why == "No such device or address" && path.starts_with("/tmp/");
            assert!(why == "Operation not permitted" || no_driver, "{refused}");
        }
    }
    let device = open(client, "/tmp/null", "r+");
    close(client, &device);
    guest.shell().run("umount /tmp/one /tmp/own /tmp/proc");
    "8 paths".into()
}

fn reports_a_full_file_system(guest: &mut Guest, client: &mut Client) -> String {
    let shell = guest.shell();
    shell.run("mkdir /tmp/small && mount -t tmpfs -o size=64k tmpfs /tmp/small");
    let handle = open(client, "/tmp/small/file", "w");
    let big = json!({ "handle": handle, "buf-b64": encode(&[7; 100_000]) });
    let refused = client.try_call("guest-file-write", big).unwrap_err();
    assert_eq!(
        refused.desc,
        "failed to write to file: No space left on device"
    );
    close(client, &handle);
    refused.desc
}

/// Length of a read that is longer than the file of [`begin_silent_read`].
const READ: u32 = 1_000_000;

/// Mounts a file system on a device-mapper disk, opens a file on it, stops the disk from answering,
/// and requests a read, for which a child must wait. Returns the handle.
fn begin_silent_read(
    guest: &mut Guest,
    client: &mut Client,
    dm: &str,
    [kind, make, options]: [&str; 3],
) -> Value {
    let node = "/dev/mapper/silent";
    let shell = guest.shell();
    // An earlier check that failed may have left it.
    shell.run(&format!(
        "{dm} resume silent; umount -l /mnt; {dm} remove --retry silent; true"
    ));
    shell.run(&format!(
        "echo 0 32768 linear /dev/vdb 0 | {dm} create silent"
    ));
    shell.run(&format!(
        "{make} {node} >/dev/null && mount -t {kind} {node} /mnt"
    ));
    shell.run("seq 1 100000 >/mnt/numbers; umount /mnt");
    shell.run(&format!("mount -t {kind} -o {options} {node} /mnt"));
    let handle = open(client, "/mnt/numbers", "r");
    // Without a flush, which would wait for the disk as well.
    guest
        .shell()
        .run(&format!("{dm} suspend --nolockfs --noflush silent"));
    let read = json!({ "handle": handle, "count": READ });
    client.send(request("guest-file-read", &read));
    assert!(client.line(Duration::from_secs(2)).is_none());
    assert_waits_in_a_child(guest);
    handle
}

/// Asserts that the read was complete, and removes the disk.
fn end_silent_read(
    guest: &mut Guest,
    client: &mut Client,
    dm: &str,
    handle: &Value,
    read: &Value,
) -> String {
    assert_read_seq(read, 100_000);
    close(client, handle);
    let remove = format!("umount /mnt; {dm} remove silent");
    guest.shell().run(&remove);
    format!("{} bytes", read["count"])
}

/// ext4 supports RWF_NOWAIT: a read that would wait fails at once, and a child repeats it.
fn waits_for_a_silent_ext4(guest: &mut Guest, client: &mut Client, dm: &str) -> String {
    let handle = begin_silent_read(guest, client, dm, ["ext4", "mke2fs", "ro"]);
    guest.shell().run(&format!("{dm} resume silent"));
    let read = client.reply()["return"].clone();
    end_silent_read(guest, client, dm, &handle, &read)
}

/// Commands without a handle read files as well.
fn waits_for_a_silent_os_release(guest: &mut Guest, client: &mut Client, dm: &str) -> String {
    let node = "/dev/mapper/silent";
    guest.shell().run(&format!(
        "echo 0 32768 linear /dev/vdb 0 | {dm} create silent; mke2fs {node} >/dev/null; \
         mount -t ext4 {node} /mnt; echo ID=silent >/mnt/os-release; umount /mnt; \
         mount -t ext4 -o ro {node} /mnt; mkdir -p /etc; ln -sf /mnt/os-release /etc/os-release; \
         {dm} suspend --nolockfs --noflush silent"
    ));
    client.send(request("guest-get-osinfo", &json!({})));
    assert!(client.line(Duration::from_secs(2)).is_none());
    assert_waits_in_a_child(guest);
    guest.shell().run(&format!("{dm} resume silent"));
    let reply = client.reply()["return"].clone();
    guest.shell().run(&format!(
        "rm /etc/os-release; umount /mnt; {dm} remove silent"
    ));
    assert_eq!(reply["id"], "silent");
    "ID=silent".into()
}

/// FAT does not support RWF_NOWAIT: a child does every read.
fn waits_for_a_silent_fat(guest: &mut Guest, client: &mut Client, dm: &str) -> String {
    let fat = ["vfat", "mkdosfs", "codepage=437,iocharset=ascii"];
    let handle = begin_silent_read(guest, client, dm, fat);
    // The next client is served at once, but the file is busy.
    let gone = client.stream().shutdown(Shutdown::Both);
    gone.expect("a connection");
    std::thread::sleep(Duration::from_millis(1500));
    *client = guest.client();
    let read = json!({ "handle": handle, "count": READ });
    let refused = client.try_call("guest-file-read", read.clone());
    let busy = "failed to read file: Device or resource busy";
    assert_eq!(refused.expect_err("a child reads").desc, busy);
    guest.shell().run(&format!("{dm} resume silent"));
    let start = json!({ "handle": handle, "offset": 0, "whence": 0 });
    wait::expect("the child to end", wait::ANSWER, || {
        let sought = client.try_call("guest-file-seek", start.clone());
        sought.is_ok()
    });
    let read = client.call("guest-file-read", read);
    end_silent_read(guest, client, dm, &handle, &read)
}

/// A program in the guest freezes the file system: a write to an open file waits, and so does the
/// creation of a file.
fn waits_for_a_frozen_file_system(
    guest: &mut Guest,
    client: &mut Client,
    handle: &Value,
) -> String {
    guest.shell().run("fsfreeze --freeze /data");
    let write = json!({ "handle": handle, "buf-b64": "aGVs" });
    client.send(request("guest-file-write", &write));
    assert!(client.line(Duration::from_secs(2)).is_none());
    assert_waits_in_a_child(guest);
    guest.shell().run("fsfreeze --unfreeze /data");
    assert_eq!(
        client.reply(),
        json!({ "return": { "count": 3, "eof": false } })
    );
    guest.shell().run("fsfreeze --freeze /data");
    let new = json!({ "path": "/data/new", "mode": "w" });
    client.send(request("guest-file-open", &new));
    assert!(client.line(Duration::from_secs(2)).is_none());
    assert_waits_in_a_child(guest);
    guest.shell().run("fsfreeze --unfreeze /data");
    assert!(client.reply()["return"].is_i64());
    "a write and an open".into()
}
