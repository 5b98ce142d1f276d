//! The protocol over a unix socket: replies, errors, limits, clients, filters, and the command line.
//!
//! Agents on this machine, without privileges: the kernel refuses every change, such as a trim. No
//! guest. Needs qemu-ga for one comparison.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;

use gaunt_e2e::agent::Agent;
use gaunt_e2e::client::{Client, parse, request};
use gaunt_e2e::scratch::{NOBODY, Scratch, is_root};
use gaunt_e2e::{process, wait};
use qapi::Qga;
use qapi::qga;
use serde_json::{Value, json};

/// Time limit for reading a flood of error lines on a busy machine.
const FLOOD: Duration = Duration::from_secs(120);

/// Commands that change the machine or its accounts. `smoke.rs`, `libvirt.rs`, `hardware.rs` and
/// `accounts.rs` test them in guests.
const TESTED_IN_GUESTS: [&str; 10] = [
    "guest-shutdown",
    "guest-fsfreeze-freeze",
    "guest-set-time",
    "guest-suspend-disk",
    "guest-suspend-ram",
    "guest-suspend-hybrid",
    "guest-set-user-password",
    "guest-ssh-get-authorized-keys",
    "guest-ssh-add-authorized-keys",
    "guest-ssh-remove-authorized-keys",
];

#[test]
fn the_qapi_crate_synchronizes_and_decodes_every_reply() {
    let agent = Agent::gaunt(&[]);
    let stream = UnixStream::connect(agent.socket()).expect("a connection");
    stream
        .set_read_timeout(Some(wait::ANSWER))
        .expect("a time limit");
    let mut qga = Qga::from_stream(&stream);
    qga.guest_sync(0x1234_5678)
        .expect("an answer to guest-sync");
    let info = qga.execute(&qga::guest_info {}).expect("guest-info");
    assert!(
        info.version.starts_with("11.1.0+gaunt."),
        "{}",
        info.version
    );
    let listed: BTreeSet<String> = info
        .supported_commands
        .iter()
        .map(|command| command.name.clone())
        .collect();
    let mut asked: BTreeSet<String> = TESTED_IN_GUESTS
        .iter()
        .map(|name| name.to_string())
        .collect();
    asked.extend(["guest-info".into(), "guest-sync".into()]);

    // Each reply must decode into the type that the crate has generated from QEMU's schema.
    macro_rules! decode {
        ($name:literal, $command:expr) => {{
            if listed.contains($name) {
                let reply = qga.execute(&$command);
                assert!(reply.is_ok(), "{}: {:?}", $name, reply.err());
            }
            asked.insert($name.to_string());
        }};
    }
    decode!("guest-ping", qga::guest_ping {});
    decode!("guest-get-time", qga::guest_get_time {});
    decode!("guest-get-osinfo", qga::guest_get_osinfo {});
    decode!("guest-get-host-name", qga::guest_get_host_name {});
    decode!("guest-get-timezone", qga::guest_get_timezone {});
    decode!("guest-get-users", qga::guest_get_users {});
    decode!(
        "guest-network-get-interfaces",
        qga::guest_network_get_interfaces {}
    );
    decode!("guest-get-fsinfo", qga::guest_get_fsinfo {});
    decode!("guest-get-vcpus", qga::guest_get_vcpus {});
    decode!("guest-fsfreeze-status", qga::guest_fsfreeze_status {});
    decode!("guest-fstrim", qga::guest_fstrim { minimum: None });
    // An empty list selects nothing.
    let nothing = qga::guest_fsfreeze_freeze_list {
        mountpoints: Some(Vec::new()),
    };
    decode!("guest-fsfreeze-freeze-list", nothing);
    decode!("guest-fsfreeze-thaw", qga::guest_fsfreeze_thaw {});
    let program = qga::guest_exec {
        path: "true".into(),
        arg: Some(vec!["x".into()]),
        env: None,
        input_data: Some(b"input".to_vec()),
        capture_output: None,
    };
    let pid = qga.execute(&program).expect("guest-exec").pid;
    asked.insert("guest-exec".into());
    decode!("guest-exec-status", qga::guest_exec_status { pid });
    decode!(
        "guest-set-vcpus",
        qga::guest_set_vcpus { vcpus: Vec::new() }
    );
    decode!("guest-get-disks", qga::guest_get_disks {});
    decode!("guest-get-memory-blocks", qga::guest_get_memory_blocks {});
    let no_blocks = qga::guest_set_memory_blocks {
        mem_blks: Vec::new(),
    };
    decode!("guest-set-memory-blocks", no_blocks);
    decode!(
        "guest-get-memory-block-info",
        qga::guest_get_memory_block_info {}
    );
    decode!("guest-get-diskstats", qga::guest_get_diskstats {});
    decode!("guest-get-cpustats", qga::guest_get_cpustats {});
    decode!("guest-network-get-route", qga::guest_network_get_route {});
    let scratch = agent.state().join("file");
    let open = qga::guest_file_open {
        path: scratch.display().to_string(),
        mode: Some("w+".into()),
    };
    let handle = qga.execute(&open).expect("guest-file-open");
    asked.insert("guest-file-open".into());
    let write = qga::guest_file_write {
        handle,
        buf_b64: b"written by the qapi crate".to_vec(),
        count: None,
    };
    decode!("guest-file-write", write);
    decode!("guest-file-flush", qga::guest_file_flush { handle });
    let read = qga::guest_file_read {
        handle,
        count: None,
    };
    decode!("guest-file-read", read);
    decode!("guest-file-close", qga::guest_file_close { handle });
    let written = std::fs::read(&scratch).expect("the file");
    assert_eq!(written, b"written by the qapi crate");
    drop(qga);
    drop(stream);

    // The crate lacks guest-sync-delimited, a newer command, and the alternate type of `whence`.
    let mut client = agent.client();
    client.send("\u{0}{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":-7}}\n");
    client
        .line(wait::ANSWER)
        .expect("an error line for the stray byte");
    let line = client.line(wait::ANSWER).expect("the delimited reply");
    assert_eq!(line.first(), Some(&0xFF));
    assert_eq!(parse(&line[1..]), json!({ "return": -7 }));
    let load = client.get("guest-get-load");
    for name in ["load1m", "load5m", "load15m"] {
        assert!(load[name].is_number(), "{load}");
    }
    let path = scratch.display().to_string();
    let handle = client.call("guest-file-open", json!({ "path": path }));
    let seek = json!({ "handle": handle, "offset": -4, "whence": "end" });
    let position = client.call("guest-file-seek", seek);
    assert_eq!(
        position,
        json!({ "position": written.len() - 4, "eof": false })
    );
    let others = ["guest-sync-delimited", "guest-get-load", "guest-file-seek"];
    asked.extend(others.map(str::to_owned));

    let missed: Vec<_> = listed.difference(&asked).collect();
    assert!(
        missed.is_empty(),
        "listed by guest-info but not tested: {missed:?}"
    );
}

#[test]
fn a_request_may_arrive_in_any_split() {
    let agent = Agent::gaunt(&[]);
    let mut client = agent.client();
    let text =
        br#"{"execute": 'guest-sync', "arguments": {"id": 42}, "id": {"a": ["\u00e9", -0.5]}}"#;
    let expected = json!({ "return": 42, "id": { "a": ["\u{e9}", -0.5] } });
    for at in 1..text.len() {
        client.send(&text[..at]);
        // Time in which the agent usually reads the first half.
        std::thread::sleep(Duration::from_micros(300));
        client.send(&text[at..]);
        assert_eq!(client.reply(), expected, "split at {at}");
    }
    for byte in text {
        client.send([*byte]);
    }
    assert_eq!(client.reply(), expected, "byte by byte");
    // Three requests without line feeds.
    client.send([text.as_slice(), text, text].concat());
    for _ in 0..3 {
        assert_eq!(client.reply(), expected, "three in a row");
    }
}

#[test]
fn garbage_never_ends_the_agent_and_ff_always_resynchronizes() {
    let agent = Agent::gaunt(&[]);
    let mut client = agent.client();
    let rows: [&[u8]; 14] = [
        b"\xff",
        b"garbage\n",
        b"{\"execute\":\"gue\xff",
        b"{\"execute\":\xff",
        b"{\"a\":\"",
        b"'",
        b"[[[[{",
        b"]",
        b"{]}",
        b"\x00\x01\x02\x1b\x7f",
        b"{\"execute\":{}}",
        b"{\"execute\":\"guest-ping\",\"execute\":\"guest-ping\"}",
        b"123456789012345678901234567890 ",
        b"\xef\xbb\xbf{\"execute\":\"guest-nothing\"}",
    ];
    for row in rows {
        client.send(row);
        client.send(b"\xff");
        let skipped = client.sync(wait::ANSWER);
        assert!(
            skipped.is_some_and(|lines| lines > 0),
            "after {row:?}: {skipped:?}"
        );
    }
    // After complete garbage guest-sync works without 0xFF as well, as libvirt sends it.
    client.send("nonsense\n");
    assert_eq!(client.sync(wait::ANSWER), Some(1));
}

#[test]
fn a_thousand_unread_replies_take_no_memory_and_are_not_lost() {
    let agent = Agent::gaunt(&[]);
    let mut client = agent.client();
    client.sync(wait::ANSWER).expect("an answer to guest-sync");
    client.get("guest-info");
    let before = agent.resident_kb();
    // Another thread sends: the agent stops reading requests while its replies are not read.
    let mut writer = client.stream().try_clone().expect("a second handle");
    let sender = std::thread::spawn(move || {
        for id in 0..1000 {
            let text = format!("{{\"execute\":\"guest-info\",\"id\":{id}}}\n");
            writer
                .write_all(text.as_bytes())
                .expect("the agent takes our bytes");
        }
    });
    std::thread::sleep(Duration::from_millis(500));
    let during = agent.resident_kb();
    assert!(
        during <= before + 64,
        "{before} kB before, {during} kB with replies unread"
    );
    for id in 0..1000 {
        let reply = client.reply();
        assert_eq!(reply["id"], id);
        assert!(reply["return"]["supported_commands"].is_array(), "{reply}");
    }
    sender.join().expect("the sender");
    let after = agent.resident_kb();
    assert!(after <= before + 64, "{before} kB before, {after} kB after");
}

#[test]
fn a_client_that_does_not_read_blocks_no_other() {
    let agent = Agent::gaunt(&[]);
    let mut deaf = agent.client();
    deaf.stream().set_nonblocking(true).expect("a mode");
    // Sends until the socket buffers of both directions are full.
    let line = request("guest-info", &json!({})).into_bytes();
    let (mut at, mut full) = (0, 0);
    while full < 20 {
        match deaf.stream().write(&line[at..]) {
            Ok(count) => (at, full) = ((at + count) % line.len(), 0),
            Err(_) => {
                full += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
    let mut other = agent.client();
    assert_eq!(other.sync(wait::ANSWER), Some(0));
}

#[test]
fn megabytes_of_garbage_leave_memory_as_it_was() {
    let agent = Agent::gaunt(&[]);
    let mut client = agent.client();
    client.sync(wait::ANSWER).expect("an answer to guest-sync");
    let before = agent.resident_kb();
    for kind in 0..4_u8 {
        let mut writer = client.stream().try_clone().expect("a second handle");
        let sender = std::thread::spawn(move || {
            let mut state = 0x9E37_79B9_7F4A_7C15_u64.wrapping_add(u64::from(kind));
            let mut random = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            };
            for _ in 0..64 {
                // Random bytes; random letters; brackets; half requests.
                let chunk: Vec<u8> = match kind {
                    0 => (0..4096).flat_map(|_| random()).collect(),
                    1 => (0..4096)
                        .flat_map(|_| random().map(|byte| byte % 64 + 64))
                        .collect(),
                    2 => (0..4096)
                        .map(|_| b"[]{},:\" "[usize::from(random()[0] % 8)])
                        .collect(),
                    _ => b"{\"execute\": \"guest-ping\", \"arguments\": {\"x\":\n\xff".repeat(100),
                };
                writer.write_all(&chunk).expect("the agent takes our bytes");
            }
            // Ends an open string or message.
            writer
                .write_all(b"\xff\n")
                .expect("the agent takes our bytes");
        });
        // Reads and drops the replies.
        let mut buffer = vec![0; 1 << 16];
        client
            .stream()
            .set_read_timeout(Some(Duration::from_millis(300)))
            .expect("a time limit");
        while !sender.is_finished() || client.stream().read(&mut buffer).is_ok() {
            let _ = client.stream().read(&mut buffer);
        }
        sender.join().expect("the sender");
        client.sync(FLOOD).expect("an answer to guest-sync");
        let after = agent.resident_kb();
        assert!(
            after <= before + 64,
            "kind {kind}: {before} kB before, {after} kB after"
        );
    }
    assert!(agent.peak_kb() <= 2048, "peak {} kB", agent.peak_kb());
}

#[test]
fn requests_past_a_limit_are_errors_and_memory_is_returned() {
    let agent = Agent::gaunt(&[]);
    let mut client = agent.client();
    client.sync(wait::ANSWER).expect("an answer to guest-sync");
    let before = agent.resident_kb();

    let nested = "[".repeat(1025);
    client.send(&nested);
    let reply = client.reply();
    assert_eq!(reply["error"]["desc"], "JSON nesting depth limit exceeded");
    client.send("\u{0}\n");
    client.sync(wait::ANSWER).expect("an answer to guest-sync");

    // A large request within the limits: the agent maps memory for it and unmaps it.
    let long = "x".repeat(8 << 20);
    client.limit = FLOOD;
    let reply = client.ask(format!("{{\"execute\":\"guest-ping\",\"id\":\"{long}\"}}"));
    assert_eq!(reply["id"].as_str().map(str::len), Some(long.len()));
    client.sync(wait::ANSWER).expect("an answer to guest-sync");
    let after = agent.resident_kb();
    assert!(
        after <= before + 64,
        "{before} kB before, {after} kB after an id of 8 MiB"
    );

    // A request past a limit: a string of more than 64 MiB.
    let block = vec![b'x'; 1 << 20];
    client.send("{\"id\":\"");
    for _ in 0..64 {
        client.send(&block);
    }
    let reply = client.reply();
    assert_eq!(reply["error"]["desc"], "JSON token size limit exceeded");
    client.send("\u{0}\n");
    client.sync(FLOOD).expect("an answer to guest-sync");
    let after = agent.resident_kb();
    assert!(
        after <= before + 64,
        "{before} kB before, {after} kB after a string of 64 MiB"
    );
}

#[test]
fn slow_commands_of_several_clients_all_run() {
    const EACH: usize = 50;
    let agent = Agent::gaunt(&[]);
    for command in ["guest-get-users", "guest-get-fsinfo", "guest-exec"] {
        let arguments = match command {
            "guest-exec" => json!({ "path": "/nonexistent" }),
            _ => json!({}),
        };
        // At most two clients may start programs at once.
        let count = if command == "guest-exec" { 2 } else { 4 };
        let mut clients: Vec<Client> = (0..count).map(|_| agent.client()).collect();
        let requests = request(command, &arguments).repeat(EACH);
        for client in &mut clients {
            client.send(&requests);
        }
        for client in &mut clients {
            for _ in 0..EACH {
                let reply = client.reply().to_string();
                assert!(!reply.contains("temporarily unavailable"), "{reply}");
            }
        }
    }
}

#[test]
fn fifty_thousand_requests_leave_memory_as_it_was() {
    let agent = Agent::gaunt(&[]);
    let mut client = agent.client();
    let commands = [
        "guest-info",
        "guest-get-osinfo",
        "guest-get-fsinfo",
        "guest-network-get-interfaces",
        "guest-get-vcpus",
        "guest-no-such-command",
    ];
    let ask_all = |client: &mut Client, rounds: usize| {
        for _ in 0..rounds {
            for command in commands {
                client.ask(request(command, &json!({})));
            }
        }
    };
    ask_all(&mut client, 20);
    let pack = request("guest-ping", &json!({})).repeat(500);
    let send_pack = |client: &mut Client| {
        client.send(&pack);
        for _ in 0..500 {
            client.reply();
        }
    };
    send_pack(&mut client);
    let before = agent.resident_kb();
    ask_all(&mut client, 200);
    // Most of the requests are pings, which are the fastest.
    for _ in 0..96 {
        send_pack(&mut client);
    }
    let after = agent.resident_kb();
    assert!(after <= before, "{before} kB before, {after} kB after");
    eprintln!("resident {after} kB, peak {} kB", agent.peak_kb());
}

#[test]
fn error_positions_are_counted_for_each_client() {
    let agent = Agent::gaunt(&[]);
    let position = |client: &mut Client, request: &str| {
        let reply = client.ask(request);
        let desc = reply["error"]["desc"].as_str().expect("an error");
        desc.split(": JSON").next().unwrap_or_default().to_owned()
    };
    let (mut one, mut other) = (agent.client(), agent.client());
    assert_eq!(position(&mut one, "\n\n  ]"), "3:3");
    assert_eq!(position(&mut other, "]"), "1:1");
    assert_eq!(position(&mut one, "]\n"), "3:4");
    one.send(request("guest-ping", &json!({})));
    assert_eq!(one.reply(), json!({ "return": {} }));
    assert_eq!(position(&mut one, " {]"), "5:3");
    // Half a line, with half a message that is already invalid.
    other.send("\n [1 2");
    assert_eq!(position(&mut other, " "), "2:5");
    drop((one, other));
    for _ in 0..4 {
        assert_eq!(position(&mut agent.client(), " ]"), "1:2");
    }
}

#[test]
fn two_hundred_clients_leave_no_descriptor_open() {
    let mut agent = Agent::gaunt(&[]);
    let descriptors = format!("/proc/{}/fd", agent.process().id());
    let open = || {
        std::fs::read_dir(&descriptors)
            .expect("descriptors")
            .count()
    };
    assert_eq!(agent.client().sync(wait::ANSWER), Some(0));
    let mut before = 0;
    wait::expect("the first client to be closed", wait::ANSWER, || {
        let count = open();
        std::mem::replace(&mut before, count) == count
    });
    for round in 0..200 {
        let mut client = agent.client();
        match round % 4 {
            // Leaves in the middle of a request, which must not affect the next client.
            0 => client.send("{\"execute\":\"guest-sync\",\"argum"),
            1 => client.send(request("guest-info", &json!({})).repeat(20)),
            2 => {}
            _ => assert_eq!(client.sync(wait::ANSWER), Some(0), "round {round}"),
        }
    }
    assert_eq!(agent.client().sync(wait::ANSWER), Some(0));
    wait::expect("all clients to be closed", wait::ANSWER, || {
        open() <= before
    });
    assert!(agent.process().ended().is_none());
}

#[test]
fn the_agent_ends_successfully_on_sigterm() {
    let mut agent = Agent::gaunt(&[]);
    assert_eq!(agent.client().sync(wait::ANSWER), Some(0));
    agent.process().signal(libc::SIGTERM);
    let status = agent.process().wait(wait::ANSWER).expect("the agent ends");
    assert!(status.success(), "{status}");
}

/// Runs `work` as another user, on a thread of its own: the system call changes only its thread.
fn as_user<T: Send>(uid: u32, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: setresuid takes three numbers and no memory.
            let done = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
            assert_eq!(done, 0, "setresuid: {}", std::io::Error::last_os_error());
            work()
        });
        thread.join().expect("the thread succeeds")
    })
}

#[test]
fn only_root_and_the_agents_user_can_use_the_socket() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| {
        std::fs::metadata(path)
            .expect("a file")
            .permissions()
            .mode()
    };
    for mask in ["000", "022", "0177"] {
        let agent = Agent::with_umask(mask);
        assert_eq!(mode(&agent.socket()) & 0o7777, 0o600, "{mask}");
        assert_eq!(agent.client().get("guest-ping"), json!({}));
    }
    if !is_root() {
        eprintln!("left out: only root can connect as another user");
        return;
    }
    const STRANGER: u32 = 4711;
    let agent = Agent::gaunt(&[]);
    let path = agent.socket();
    let directory = path.parent().expect("a directory");
    std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).expect("a mode");
    let connect = |uid: u32| as_user(uid, || UnixStream::connect(&path));
    let refused = connect(STRANGER).expect_err("no permission");
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    // With access to the socket file the user is refused by SO_PEERCRED.
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).expect("a mode");
    let mut buffer = [0; 64];
    for _ in 0..50 {
        let mut stream = connect(STRANGER).expect("a connection");
        let _ = stream.write_all(request("guest-ping", &json!({})).as_bytes());
        stream
            .set_read_timeout(Some(wait::ANSWER))
            .expect("a limit");
        let read = stream.read(&mut buffer);
        // The agent closes the connection. With an unread request the client sees a reset.
        let reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(read.as_ref().is_ok_and(|count| *count == 0) || read.is_err_and(|e| reset(&e)));
    }
    for uid in [NOBODY, 0] {
        let mut stream = connect(uid).expect("a connection");
        stream
            .set_read_timeout(Some(wait::ANSWER))
            .expect("a limit");
        stream
            .write_all(request("guest-ping", &json!({})).as_bytes())
            .expect("the agent takes our bytes");
        let count = stream.read(&mut buffer).expect("a reply");
        assert_eq!(&buffer[..count], b"{\"return\": {}}\n", "{uid}");
    }
    let said = agent
        .log()
        .matches("a connection of uid 4711 was refused")
        .count();
    assert_eq!(said, 1, "{}", agent.log());
}

#[test]
fn a_file_in_place_of_the_socket_is_kept_and_an_error() {
    let scratch = Scratch::new();
    let path = scratch.join("socket");
    let copy = scratch.join("agent");
    std::fs::copy(gaunt_e2e::agent_binary(), &copy).expect("a copy");
    let start = |path: &Path| {
        scratch.give_away();
        let mut command = std::process::Command::new(&copy);
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
            .args(["-m", "unix-listen", "-t"])
            .arg(scratch.path());
        command.arg("-p").arg(path);
        gaunt_e2e::process::output(&mut command, wait::ANSWER)
    };
    let make: [fn(&Path); 3] = [
        |path| std::fs::write(path, "content").expect("a file"),
        |path| std::os::unix::fs::symlink("/etc/hostname", path).expect("a link"),
        |path| std::fs::create_dir(path).expect("a directory"),
    ];
    for make in make {
        make(&path);
        let inode = || std::fs::symlink_metadata(&path).expect("metadata").ino();
        let before = inode();
        let output = start(&path);
        assert_eq!(output.status.code(), Some(1));
        let said = gaunt_e2e::process::text(&output);
        let expected = format!(
            "error opening channel '{}': a file that is not a socket is there",
            path.display()
        );
        assert!(said.contains(&expected), "{said}");
        assert_eq!(before, inode());
        let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path));
    }
    // A socket stays if the agent cannot make a new one, because the name is too long.
    let long = scratch.join(&"n".repeat(100));
    drop(UnixListener::bind(&path).expect("a socket"));
    std::fs::rename(&path, &long).expect("another name");
    let output = start(&long);
    assert_eq!(output.status.code(), Some(1));
    assert!(gaunt_e2e::process::text(&output).contains("File name too long"));
    assert!(long.exists());
}

#[test]
fn the_command_line_answers_as_qemu_ga_does() {
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(gaunt_e2e::agent_binary());
        command.args(arguments);
        gaunt_e2e::process::output(&mut command, wait::ANSWER)
    };
    let version = run(&["-V"]);
    assert!(version.status.success());
    let text = String::from_utf8_lossy(&version.stdout).into_owned();
    assert!(text.starts_with("QEMU Guest Agent 11.1.0+gaunt."), "{text}");
    assert!(run(&["--help"]).status.success());
    let commands = String::from_utf8_lossy(&run(&["-b", "help"]).stdout).into_owned();
    assert!(
        commands.lines().any(|line| line == "guest-sync"),
        "{commands}"
    );
    assert_eq!(run(&["--no-such-option"]).status.code(), Some(1));
    assert_eq!(run(&["-m", "carrier-pigeon"]).status.code(), Some(1));
    assert_eq!(run(&["-m", "unix-listen"]).status.code(), Some(1));
}

#[test]
fn a_check_lists_every_command_and_what_the_policy_blocks() {
    let scratch = Scratch::new();
    let check = |arguments: &[&str]| {
        let mut command = std::process::Command::new(gaunt_e2e::agent_binary());
        let socket = scratch.join("socket").display().to_string();
        command.args(["-m", "unix-listen", "-p", &socket, "-b", "guest-exec"]);
        process::output(command.args(arguments), wait::ANSWER)
    };
    let checked = check(&["--check=json"]);
    let found: Value = serde_json::from_slice(&checked.stdout).expect("JSON");
    assert_eq!(found["channels"][0]["works"], true, "{found}");
    let commands = found["commands"].as_array().expect("a list");
    let lacks = |one: &Value| one["works"] == false && one["missing"] != "blocked by policy";
    let status = if commands.iter().any(lacks) { 3 } else { 0 };
    assert_eq!(checked.status.code(), Some(status));
    let info = Agent::gaunt(&[]).client().get("guest-info");
    let known = info["supported_commands"].as_array().expect("a list");
    let names =
        |list: &[Value]| -> Vec<Value> { list.iter().map(|one| one["name"].clone()).collect() };
    // guest-info begins with the last one.
    let mut names_of_info = names(known);
    names_of_info.reverse();
    assert_eq!(names(commands), names_of_info);
    let text = check(&["--check"]);
    assert_eq!(text.status.code(), Some(status));
    let text = String::from_utf8(text.stdout).expect("text");
    let others = ["channels", "files"].map(|list| found[list].as_array().expect("a list").len());
    assert_eq!(others, [1, 1], "{found}");
    assert_eq!(text.lines().count(), commands.len() + 2, "{text}");
    assert!(text.contains("\nguest-exec: blocked by policy\n"), "{text}");
    assert!(text.contains("\nguest-ping: works\n"), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
    // Nothing was made.
    assert!(!scratch.join("socket").exists());
    for wrong in [&["--check=x"][..], &["--check", "-m", "carrier-pigeon"]] {
        assert_eq!(check(wrong).status.code(), Some(1), "{wrong:?}");
    }
}

#[test]
fn a_configuration_file_restricts_commands_before_the_command_line_does() {
    let scratch = Scratch::new();
    let config = scratch.join("qemu-ga.conf");
    // The command line of `Agent::gaunt` has another method.
    let text = "[general]\nblock-rpcs=guest-get-time;guest-get-load\nmethod=virtio-serial\n";
    std::fs::write(&config, text).expect("a file");
    scratch.give_away();
    let config = config.display().to_string();
    let agent = Agent::gaunt(&["-c", &config, "-b", "guest-get-users"]);
    let mut client = agent.client();
    client.get("guest-ping");
    for name in ["guest-get-time", "guest-get-load", "guest-get-users"] {
        let refusal = client
            .try_call(name, json!({}))
            .expect_err("the command is blocked");
        assert_eq!(refusal.class, "CommandNotFound", "{name}");
    }
}

#[test]
fn a_configuration_file_with_an_error_ends_the_agent() {
    let scratch = Scratch::new();
    let config = scratch.join("qemu-ga.conf");
    let run = |text: &str| {
        std::fs::write(&config, text).expect("a file");
        let mut command = std::process::Command::new(gaunt_e2e::agent_binary());
        // No socket can be made in /proc, so the agent ends in any case.
        command.args(["-m", "unix-listen", "-p", "/proc/socket"]);
        let output = process::output(command.env("QGA_CONF", &config), wait::ANSWER);
        assert_eq!(output.status.code(), Some(1));
        process::text(&output)
    };
    let served = "error opening channel";
    let said = run("[general]\nverbose=true\n# block-rpcs=guest-exec\n");
    assert!(said.contains(served), "{said}");
    for (text, expected) in [
        ("[general]\nblock-rpcs\n", "comment: block-rpcs"),
        ("allow-rpcs=guest-ping", "comment: allow-rpcs=guest-ping"),
        ("[general]\nverbose=yes\n", "of key verbose"),
    ] {
        let said = run(text);
        assert!(said.contains(expected), "{said}");
        assert!(said.contains("try 'gaunt --help'"), "{said}");
        assert!(!said.contains(served), "{said}");
    }
    // Nothing waits for a pipe.
    std::fs::remove_file(&config).expect("the file");
    let made = std::process::Command::new("mkfifo").arg(&config).status();
    assert!(made.expect("mkfifo").success());
    let mut command = std::process::Command::new(gaunt_e2e::agent_binary());
    let output = process::output(command.arg("-c").arg(&config), wait::ANSWER);
    assert_eq!(output.status.code(), Some(1));
    assert!(process::text(&output).contains("error loading configuration"));
}

#[test]
fn block_and_allow_lists_refuse_commands_and_show_in_guest_info() {
    let lists = [
        "-b",
        "guest-get-users,guest-nonsense",
        "--blacklist=guest-nonsense,guest-get-load",
    ];
    let agent = Agent::gaunt(&lists);
    assert_eq!(agent.log().matches("guest-nonsense").count(), 1);
    let mut client = agent.client();
    let refusal = client
        .try_call("guest-get-users", json!({}))
        .expect_err("the command is blocked");
    assert_eq!(refusal.class, "CommandNotFound");
    assert_eq!(
        refusal.desc,
        "Command guest-get-users has been disabled: the command is not allowed"
    );
    let expected = ["guest-get-load", "guest-get-users"];
    assert_eq!(client.disabled(), expected.map(str::to_owned).into());

    let agent = Agent::gaunt(&["-a", "guest-sync,guest-ping"]);
    let mut client = agent.client();
    assert_eq!(client.sync(wait::ANSWER), Some(0));
    client.get("guest-ping");
    assert!(client.try_call("guest-info", json!({})).is_err());

    let agent = Agent::gaunt(&["-a", "@info", "-b", "guest-get-load"]);
    let mut client = agent.client();
    client.get("guest-get-osinfo");
    for name in [
        "guest-get-load",
        "guest-shutdown",
        "guest-exec-status",
        "guest-fstrim",
    ] {
        assert!(client.try_call(name, json!({})).is_err(), "{name}");
    }

    // An allow list without a name allows nothing, as in qemu-ga.
    for agent in [Agent::gaunt(&["-a", ","]), Agent::reference(&["-a", ","])] {
        assert!(agent.client().try_call("guest-ping", json!({})).is_err());
    }
}
