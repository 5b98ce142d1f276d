//! Where clients come from: several channels at once, vsock, serial lines, inherited sockets, and the
//! life of a daemon. On this machine, beside qemu-ga where that can be, and in a guest.
//!
//! Needs QEMU and the images.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gaunt_e2e::agent::Agent;
use gaunt_e2e::base64::decode;
use gaunt_e2e::checks::Checks;
use gaunt_e2e::client::Client;
use gaunt_e2e::cpio::Cpio;
use gaunt_e2e::guest::{Guest, Image, Machine, PORT};
use gaunt_e2e::modules::Modules;
use gaunt_e2e::process::{self, Process};
use gaunt_e2e::reference::reference;
use gaunt_e2e::scratch::{NOBODY, Scratch, is_root};
use gaunt_e2e::{agent_binary, wait};
use serde_json::json;

/// Path of `src/bin/vsock.rs` on this machine.
const BUILT: &str = env!("CARGO_BIN_EXE_vsock");

/// Both agents, copied to where nobody can run them.
struct Both {
    scratch: Scratch,
}

impl Both {
    fn new() -> Both {
        let scratch = Scratch::new();
        std::fs::copy(agent_binary(), scratch.join("gaunt")).expect("a copy");
        std::fs::create_dir(scratch.join("qemu-ga.d")).expect("a directory");
        reference().copy_to(&scratch.join("qemu-ga.d"));
        scratch.give_away();
        Both { scratch }
    }

    /// Returns the command that starts gaunt or qemu-ga, as nobody.
    fn command(&self, is_gaunt: bool) -> Command {
        let words = match is_gaunt {
            true => vec![self.scratch.join("gaunt").display().to_string()],
            false => reference().words(&self.scratch.join("qemu-ga.d")),
        };
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().current_dir("/");
        command.arg("-t").arg(self.scratch.path());
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// Runs both with arguments that make no sense: both end with status 1, and what qemu-ga says first
    /// is in the first line of gaunt.
    fn refuse(&self, arguments: &[&str]) -> String {
        let said = [false, true].map(|is_gaunt| {
            let mut command = self.command(is_gaunt);
            let output = process::output(command.args(arguments), wait::ANSWER);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}");
            let text = process::text(&output);
            let line = text.lines().find(|line| !line.is_empty());
            line.expect("an error").to_owned()
        });
        let [reference, gaunt] = said;
        let text = reference.rsplit_once("ritical: ").map(|(_, text)| text);
        let text = text.unwrap_or_else(|| reference.rsplit_once(": ").expect("a text").1);
        assert!(gaunt.contains(text), "{arguments:?}: {gaunt:?}, {text:?}");
        text.to_owned()
    }
}

#[test]
fn a_channel_that_makes_no_sense_is_the_error_of_qemu_ga() {
    let both = Both::new();
    let mut checks = Checks::new("errors");
    for arguments in [
        &["-m", "vsock-listen"][..],
        &["-m", "vsock-listen", "-p", "abc"],
        &["-m", "vsock-listen", "-p", "3:"],
        &["-m", "vsock-listen", "-p", "3:x"],
        &["-m", "vsock-listen", "-p", "4294967296:5"],
        &["-m", "unix-listen"],
        &["-m", "carrier-pigeon", "-p", "/x"],
    ] {
        checks.run("the same text and status", || both.refuse(arguments));
    }
    checks.finish();
}

#[test]
fn several_sockets_are_served_by_one_agent() {
    let scratch = Scratch::new();
    scratch.give_away();
    let other = scratch.join("other");
    // The first pair is that of `Agent`.
    let agent = Agent::gaunt(&["-m", "unix-listen", "-p", other.to_str().expect("ASCII")]);
    let mut clients = [agent.client(), Client::connect(&other)];
    for _ in 0..2 {
        for client in &mut clients {
            client.get("guest-ping");
        }
    }
    let mut command = Command::new(agent_binary());
    for _ in 0..4 {
        command.args(["-m", "unix-listen", "-p", "/nonexistent"]);
    }
    let output = process::output(&mut command, wait::ANSWER);
    assert_eq!(output.status.code(), Some(1));
    let text = process::text(&output);
    assert!(text.contains("too many channels: unix-listen"), "{text}");
    // The path of the channel that is one too many makes no second error.
    command.args(["-m", "vsock-listen", "-p", ":1"]);
    let text = process::text(&process::output(&mut command, wait::ANSWER));
    let lines = text.lines().filter(|line| !line.contains("--help"));
    assert_eq!(lines.count(), 2, "{text}");
}

/// Listens at a path, in a process that ends while a child of it still has the socket.
const LEAVE_SOCKET: &str = "\
import os, socket, sys, time
if os.getuid() == 0: os.setgid(65534); os.setuid(65534)
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
os.fork() or time.sleep(60)
";

#[test]
fn a_socket_where_another_agent_listens_is_left_alone() {
    let both = Both::new();
    let mut checks = Checks::new("in use");
    let mut first = Agent::gaunt(&[]);
    let socket = first.socket();
    let path = socket.to_str().expect("ASCII").to_owned();
    let listening = ["-m", "unix-listen", "-p", &path];
    let mut old = first.client();
    checks.run("a second agent ends, and the first goes on", || {
        let output = process::output(both.command(true).args(listening), wait::ANSWER);
        assert_eq!(output.status.code(), Some(1));
        let text = process::text(&output);
        let expected = format!("error opening channel '{path}': Address already in use");
        assert!(text.contains(&expected), "{text}");
        old.get("guest-ping");
        Client::connect(&socket).get("guest-ping");
        text
    });
    checks.run("what a killed agent has left is replaced", || {
        first.process().signal(libc::SIGKILL);
        assert!(first.process().wait(wait::ANSWER).is_some());
        let agent = Process::spawn(both.command(true).args(listening));
        wait::expect("the next agent", wait::ANSWER, || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
        Client::connect(&socket).get("guest-ping");
        format!("pid {}", agent.id())
    });
    checks.run("and so is a socket that only a child of it has", || {
        let path = both.scratch.join("left").display().to_string();
        let mut command = Command::new(process::program("python3", "python3"));
        command.args(["-c", LEAVE_SOCKET, &path]);
        // It leaves the socket and its child.
        let mut leaver = Process::spawn(&mut command);
        assert!(leaver.wait(wait::ANSWER).is_some());
        let connected = std::os::unix::net::UnixStream::connect(&path);
        assert!(connected.is_ok(), "{connected:?}");
        let mut listening = both.command(true);
        listening.args(["-m", "unix-listen", "-p", &path]);
        let _agent = Process::spawn(&mut listening);
        let mut client = wait::until(wait::ANSWER, || {
            let mut client = Client::connect(Path::new(&path));
            client.sync(wait::SETTLE).map(|_| client)
        });
        client.as_mut().expect("an agent").get("guest-ping");
        path
    });
    checks.finish();
}

#[test]
fn a_check_says_what_the_agent_meets_when_it_opens_a_channel() {
    let both = Both::new();
    let mut checks = Checks::new("check");
    let here = both.scratch.path().display().to_string();
    let file = both.scratch.join("file").display().to_string();
    std::fs::write(&file, "text").expect("a file");
    both.scratch.give_away();
    let long = format!("{here}/{}", "x".repeat(108));
    let missing = format!("{here}/none/socket");
    let other = "the path leads to a file or device of another type";
    let directory = "the directory is missing or cannot be written";
    let mut cases = vec![
        ("isa-serial", here.clone(), other),
        ("isa-serial", file.clone(), other),
        ("virtio-serial", file.clone(), other),
        ("virtio-serial", here.clone(), other),
        ("unix-listen", here.clone(), other),
        ("unix-listen", file, other),
        ("unix-listen", long, "File name too long"),
        ("unix-listen", missing, directory),
        ("unix-listen", "/proc/socket".to_owned(), directory),
        // The working directory is `/`, where nobody may write.
        ("unix-listen", "socket".to_owned(), directory),
    ];
    if is_root() {
        let restricted = both.scratch.join("restricted");
        let made = Command::new("mknod")
            .arg(&restricted)
            .args(["c", "4", "64"])
            .status();
        if made.is_ok_and(|status| status.success()) {
            let path = restricted.display().to_string();
            std::fs::set_permissions(&restricted, PermissionsExt::from_mode(0o600))
                .expect("a mode");
            cases.push(("isa-serial", path.clone(), "Permission denied"));
            cases.push(("virtio-serial", path, "Permission denied"));
        }
    }
    if Path::new("/sys/class/misc/vsock").exists() {
        let address = "4294967290:1024".to_owned();
        cases.push(("vsock-listen", address, "the guest does not have this CID"));
        cases.push(("vsock-listen", ":1".to_owned(), "Permission denied"));
    }
    for (method, path, text) in cases {
        checks.run("the check names what the agent cannot open", || {
            let options = ["-m", method, "-p", &path];
            let mut command = both.command(true);
            let output = process::output(command.args(options).arg("--check"), wait::ANSWER);
            assert_eq!(output.status.code(), Some(2));
            let said = process::text(&output);
            let line = said.lines().next().expect("a line");
            assert_eq!(line, format!("{method} {path}: {text}"));
            // The agent itself.
            let log = both.scratch.join("log");
            let stderr = std::fs::File::create(&log).expect("a file");
            let _agent = Process::spawn(both.command(true).args(options).stderr(stderr));
            let mut said = String::new();
            wait::expect("a line of its log", wait::ANSWER, || {
                said = std::fs::read_to_string(&log).expect("a log");
                said.contains("error opening channel") || said.contains("waiting for port")
            });
            said.trim().to_owned()
        });
    }
    for path in ["/", "/nonexistent/log", "/proc/version", "/usr/log", ""] {
        checks.run("the check names why a log cannot be opened", || {
            let output = process::output(both.command(true).args(["-l", path]), wait::ANSWER);
            assert_eq!(output.status.code(), Some(1));
            let said = process::text(&output);
            let text = "gaunt: unable to open specified log file: ";
            let why = said.lines().find_map(|line| line.strip_prefix(text));
            let why = why.unwrap_or_else(|| panic!("{said}"));
            let mut command = both.command(true);
            command.args(["-m", "unix-listen", "-p", &format!("{here}/socket")]);
            command.args(["-l", path]);
            let output = process::output(command.arg("--check"), wait::ANSWER);
            assert_eq!(output.status.code(), Some(2));
            let said = process::text(&output);
            let line = said.lines().nth(1).expect("a line");
            assert_eq!(line, format!("logfile {path}: {why}"));
            // The option that comes last counts.
            let output = process::output(command.arg("--check=json"), wait::ANSWER);
            let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
            let log = json!({ "name": format!("logfile {path}"), "works": false, "missing": why });
            let state = json!({ "name": format!("statedir {here}"), "works": true });
            assert_eq!(found["files"], json!([log, state]));
            line.to_owned()
        });
    }
    checks.run("a relative path begins at the working directory", || {
        let mut command = both.command(true);
        command.current_dir(both.scratch.path());
        command.args(["-m", "unix-listen", "-p", "relative", "--check"]);
        let said = process::text(&process::output(&mut command, wait::ANSWER));
        assert!(said.starts_with("unix-listen relative: works\n"), "{said}");
        assert!(!both.scratch.join("relative").exists());
        "works".to_owned()
    });
    checks.finish();
}

/// Starts the words behind it with the descriptors of `LISTEN_FDS`, a list, as 3, 4 and so on.
const ACTIVATE: &str = "\
import os, sys
fds = [os.dup(int(fd)) for fd in sys.argv[1].split(',') if fd]
for at, fd in enumerate(fds): os.dup2(fd, 200 + at)
os.closerange(3, 200)
for at in range(len(fds)): os.dup2(200 + at, 3 + at, True)
os.closerange(200, 300)
os.environ['LISTEN_PID'] = str(os.getpid() + int(sys.argv[2]))
os.environ['LISTEN_FDS'] = str(len(fds))
os.setgid(65534); os.setuid(65534)
os.execv(sys.argv[3], sys.argv[3:])
";

#[test]
fn an_inherited_socket_is_served_as_by_qemu_ga() {
    let both = Both::new();
    let mut checks = Checks::new("activation");
    let path = both.scratch.join("inherited");
    let listener = UnixListener::bind(&path).expect("a socket");
    let inet = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let (one, other) = (listener.as_raw_fd(), inet.as_raw_fd());
    for fd in [one, other] {
        // SAFETY: fcntl takes numbers, and both descriptors are open.
        unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
    }
    let start = |is_gaunt, fds: &str, off: &str, more: &[&str]| {
        let agent = both.command(is_gaunt);
        let mut command = Command::new(process::program("python3", "python3"));
        command.args(["-c", ACTIVATE, fds, off]);
        command.arg(agent.get_program()).args(agent.get_args());
        command.args(more).current_dir("/");
        command
    };
    for is_gaunt in [false, true] {
        checks.run("a socket is served whatever the options are", || {
            let options = ["-m", "unix-listen", "-p", "/nonexistent/x"];
            let agent = Process::spawn(&mut start(is_gaunt, &one.to_string(), "0", &options));
            // As root, whom gaunt lets in.
            let mut client = Client::connect(&path);
            client.get("guest-ping");
            let environment = client.call(
                "guest-exec",
                json!({ "path": "/usr/bin/env", "capture-output": true }),
            );
            let status = wait::until(wait::ANSWER, || {
                let status = client.call("guest-exec-status", environment.clone());
                (status["exited"] == true).then_some(status)
            });
            let text = status.expect("its end")["out-data"].as_str().map(decode);
            let text = String::from_utf8(text.expect("its output")).expect("text");
            assert!(!text.contains("LISTEN_"), "{text}");
            drop(agent);
            if is_gaunt {
                let mut check = start(true, &one.to_string(), "0", &["--check"]);
                let said = process::text(&process::output(&mut check, wait::ANSWER));
                let line = "inherited socket (LISTEN_FDS): works\n";
                assert!(said.starts_with(line), "{said}");
            }
            format!("gaunt: {is_gaunt}")
        });
    }
    for (fds, off, text) in [
        (
            format!("{one},{one}"),
            "0",
            "qemu-ga only supports listening on one socket",
        ),
        (other.to_string(), "0", "unsupported listen fd type"),
        // Another process is meant.
        (
            one.to_string(),
            "1",
            "error opening channel '/nonexistent/x'",
        ),
    ] {
        checks.run("the same error and status", || {
            let options = ["-m", "isa-serial", "-p", "/nonexistent/x"];
            let listening = ["-m", "unix-listen", "-p", "/nonexistent/x"];
            for is_gaunt in [false, true] {
                // qemu-ga ends without the device, gaunt would wait for it.
                let options = if is_gaunt { listening } else { options };
                let mut command = start(is_gaunt, &fds, off, &options);
                let output = process::output(&mut command, wait::ANSWER);
                assert_eq!(output.status.code(), Some(1));
                let said = process::text(&output);
                assert!(said.contains(text), "{said}");
            }
            text.to_owned()
        });
    }
    checks.finish();
}

#[test]
fn the_log_is_a_file_that_is_opened_anew_or_a_syslog_socket() {
    let scratch = Scratch::new();
    scratch.give_away();
    let (log, old) = (scratch.join("agent.log"), scratch.join("old.log"));
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let run = |agent: &Agent| {
        // Logged without its arguments.
        let arguments = json!({ "path": "/bin/true", "arg": ["hidden"] });
        agent.client().call("guest-exec", arguments);
    };
    let mut agent = Agent::gaunt(&["-v", "-l", log.to_str().expect("ASCII")]);
    run(&agent);
    let said = read(&log);
    assert!(said.ends_with(" gaunt: exec: /bin/true\n"), "{said}");
    let time: f64 = said
        .lines()
        .next_back()
        .and_then(|line| line.split(' ').next()?.parse().ok())
        .expect("a time");
    assert!(time > 1.7e9, "{said}");
    std::fs::rename(&log, &old).expect("a new name");
    agent.process().signal(libc::SIGHUP);
    wait::expect("the new log", wait::ANSWER, || log.exists());
    run(&agent);
    assert!(read(&log).contains("exec: /bin/true"));
    assert_eq!(read(&old), said);
    assert!(!said.contains("hidden"), "{said}");
    assert!(agent.log().is_empty(), "{}", agent.log());

    let path = scratch.join("syslog");
    let listen = || {
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).expect("a socket");
        scratch.give_away();
        socket
            .set_read_timeout(Some(wait::ANSWER))
            .expect("a limit");
        socket
    };
    let mut socket = listen();
    let agent = Agent::gaunt(&["-v", "-l", path.to_str().expect("ASCII")]);
    for _ in 0..2 {
        run(&agent);
        let mut line = [0; 1024];
        let said = loop {
            let count = socket.recv(&mut line).expect("a line");
            let said = String::from_utf8_lossy(&line[..count]).into_owned();
            if said.contains("exec") {
                break said;
            }
        };
        assert_eq!(said, "<31>gaunt: exec: /bin/true\n");
        // The daemon ends, and starts anew; a line between is lost.
        drop(std::mem::replace(
            &mut socket,
            UnixDatagram::unbound().expect("a socket"),
        ));
        run(&agent);
        std::fs::remove_file(&path).expect("the socket");
        run(&agent);
        socket = listen();
    }
    let text = Both::new().refuse(&["-m", "unix-listen", "-p", "/x", "-l", "/nonexistent/log"]);
    assert!(text.contains("unable to open specified log file"), "{text}");
}

/// The process in a pid file; dropping it kills that.
struct Daemon(u32);

impl Daemon {
    fn of(pid_file: &Path) -> Daemon {
        let number = || {
            std::fs::read_to_string(pid_file)
                .ok()?
                .strip_suffix('\n')?
                .parse()
                .ok()
        };
        Daemon(wait::until(wait::ANSWER, number).expect("a pid file"))
    }

    /// What is the same for both agents: umask, working directory, leader of its session, descriptors
    /// 0 to 2, and the length and mode of the pid file.
    fn facts(&self, pid_file: &Path) -> Vec<String> {
        let of = |name: &str| format!("/proc/{}/{name}", self.0);
        let link = |name: &str| std::fs::read_link(of(name)).expect("a link");
        let status = std::fs::read_to_string(of("status")).expect("a status");
        let umask = status.lines().find(|line| line.starts_with("Umask"));
        let stat = std::fs::read_to_string(of("stat")).expect("a stat");
        let (_, numbers) = stat.rsplit_once(')').expect("a name");
        let session = numbers.split_whitespace().nth(3).expect("a session");
        let mut facts = vec![
            umask.expect("a umask").to_owned(),
            (session == self.0.to_string()).to_string(),
            format!("{:o}", pid_file.metadata().expect("a file").mode()),
        ];
        facts.extend(["cwd", "fd/0", "fd/1", "fd/2"].map(|name| link(name).display().to_string()));
        facts
    }
}

/// Returns whether a process runs: it may have ended, and wait for its parent.
fn runs(number: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{number}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

impl Drop for Daemon {
    fn drop(&mut self) {
        process::signal(self.0, libc::SIGKILL);
        wait::until(wait::ANSWER, || (!runs(self.0)).then_some(()));
    }
}

#[test]
fn a_daemon_is_as_qemu_ga_makes_it() {
    let mut checks = Checks::new("daemon");
    let both = Both::new();
    let [pid_file, socket] = ["pid", "socket"].map(|name| both.scratch.join(name));
    let start = |is_gaunt: bool, options: &[&str]| {
        let mut command = both.command(is_gaunt);
        command.args(["-m", "unix-listen", "-p"]).arg(&socket);
        command.arg("-d").args(options);
        process::output(&mut command, wait::ANSWER)
    };
    let file = pid_file.to_str().expect("ASCII");
    let facts = [false, true].map(|is_gaunt| {
        let mut facts = Vec::new();
        checks.run("excludes others of both kinds", || {
            let output = start(is_gaunt, &["-f", file]);
            assert!(output.status.success() && process::text(&output).is_empty());
            let daemon = Daemon::of(&pid_file);
            wait::expect("its umask", wait::ANSWER, || {
                facts = daemon.facts(&pid_file);
                facts[0].ends_with("0077") && facts[6] == "/dev/null"
            });
            Client::connect(&socket).get("guest-ping");
            // A host that reads the file does not end gaunt's lock.
            if is_gaunt {
                let mut client = Client::connect(&socket);
                let handle = client.call("guest-file-open", json!({ "path": file }));
                client.call("guest-file-close", json!({ "handle": handle }));
            }
            for other in [false, true] {
                let output = start(other, &["-f", file]);
                // The parent of qemu-ga does not wait.
                assert_eq!(output.status.code(), Some(other.into()));
                if other {
                    let text = "Cannot lock pid file: Resource temporarily unavailable";
                    let said = process::text(&output);
                    assert!(said.contains(text), "{said}");
                }
            }
            let checked = process::text(&start(true, &["-f", file, "--check"]));
            let line = format!("pidfile {file}: works\n");
            assert!(checked.contains(&line), "{checked}");
            let number = std::fs::read_to_string(&pid_file).expect("a pid file");
            assert_eq!(number, format!("{}\n", daemon.0));
            assert!(runs(daemon.0));
            String::new()
        });
        checks.run("SIGTERM removes the file", || {
            let output = start(is_gaunt, &["-f", file]);
            assert!(output.status.success());
            let daemon = Daemon::of(&pid_file);
            // Until it answers, SIGTERM kills qemu-ga.
            Client::connect(&socket).get("guest-ping");
            process::signal(daemon.0, libc::SIGTERM);
            wait::expect("its end", wait::ANSWER, || !runs(daemon.0));
            assert!(!pid_file.exists());
            String::new()
        });
        facts
    });
    assert_eq!(facts[0], facts[1]);
    checks.run("what fails is on the terminal and in the status", || {
        for path in ["/nonexistent/pid", "/", "/proc/version", ""] {
            let output = start(true, &["-f", path]);
            assert_eq!(output.status.code(), Some(1), "{path}");
            let said = process::text(&output);
            let text = format!("Could not create '{path}': ");
            let why = said.split(&text).nth(1).expect("a reason").trim_end();
            // A check says so before.
            let output = start(true, &["-f", path, "--check"]);
            assert_eq!(output.status.code(), Some(2), "{path}");
            let line = format!("pidfile {path}: {why}\n");
            assert!(process::text(&output).contains(&line), "{line}");
        }
        let output = start(true, &["-f", file, "--check"]);
        let line = format!("pidfile {file}: works\n");
        assert!(process::text(&output).contains(&line) && !pid_file.exists());
        let output = start(true, &["-f", file, "-p", "/nonexistent/socket"]);
        let said = process::text(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("error opening channel"), "{said}");
        assert!(!pid_file.exists());
        let output = start(true, &["-f", file, "-m", "carrier-pigeon"]);
        assert_eq!(output.status.code(), Some(1));
        String::new()
    });
    checks.run("a log, a relative path, and the keys of the file", || {
        let [log, conf] = ["log", "conf"].map(|name| both.scratch.join(name));
        std::fs::write(&conf, "[general]\ndaemon=true\npidfile=relative\n").expect("a file");
        let mut command = both.command(true);
        command.args(["-m", "unix-listen", "-p"]).arg(&socket);
        command.arg("-l").arg(&log).arg("-v").arg("-c").arg(&conf);
        command.current_dir(both.scratch.path());
        assert!(process::output(&mut command, wait::ANSWER).status.success());
        let pid_file = both.scratch.join("relative");
        let daemon = Daemon::of(&pid_file);
        let said = std::fs::read_to_string(&log).expect("a log");
        assert!(said.contains("port open"), "{said}");
        let descriptor = format!("/proc/{}/fd/2", daemon.0);
        assert_eq!(std::fs::read_link(descriptor).expect("a link"), log);
        process::signal(daemon.0, libc::SIGTERM);
        wait::expect("its end", wait::ANSWER, || !runs(daemon.0));
        assert!(!pid_file.exists());
        String::new()
    });
    checks.run("nothing is written before the thaw", || {
        // An earlier run was killed while frozen.
        let marker = both.scratch.join("qga.state.isfrozen");
        std::fs::write(&marker, "").expect("a marker");
        std::fs::set_permissions(&marker, Permissions::from_mode(0o600)).expect("a mode");
        both.scratch.give_away();
        assert!(start(true, &["-f", file]).status.success());
        let mut client = Client::connect(&socket);
        assert_eq!(client.get("guest-fsfreeze-status"), "frozen");
        assert!(!pid_file.exists());
        client.get("guest-fsfreeze-thaw");
        let daemon = Daemon::of(&pid_file);
        assert!(runs(daemon.0) && !marker.exists());
        String::new()
    });
    checks.finish();
}

#[test]
fn the_service_manager_is_told_when_a_channel_is_open() {
    let both = Both::new();
    let mut checks = Checks::new("ready");
    let [path, socket] = ["notify", "socket"].map(|name| both.scratch.join(name));
    let name = format!("gaunt-{}", std::process::id());
    let of_path = UnixDatagram::bind(&path).expect("a socket");
    let of_name = SocketAddr::from_abstract_name(&name).expect("a name");
    let of_name = UnixDatagram::bind_addr(&of_name).expect("a socket");
    for socket in [&of_path, &of_name] {
        pass_credentials(socket);
    }
    both.scratch.give_away();
    let start = |address: &str, socket: &Path, other: &[&str]| {
        let mut command = both.command(true);
        command.args(["-r", "-m", "unix-listen", "-p"]).arg(socket);
        command.args(other);
        command.env("NOTIFY_SOCKET", address);
        let log = std::fs::File::create(both.scratch.join("log")).expect("a log");
        Process::spawn(command.stderr(log))
    };
    for (address, receiver) in [
        (path.display().to_string(), &of_path),
        (format!("@{name}"), &of_name),
    ] {
        checks.run("READY=1 by the agent's own process, once", || {
            let agent = start(&address, &socket, &[]);
            let mut text = [0; 64];
            receiver
                .set_read_timeout(Some(wait::ANSWER))
                .expect("a limit");
            let (len, sender) = receive_with_sender(receiver, &mut text);
            assert_eq!(&text[..len], b"READY=1");
            assert_eq!(sender, agent.id());
            let mut client = Client::connect(&socket);
            let pid = client.call(
                "guest-exec",
                json!({ "path": "/usr/bin/env", "capture-output": true }),
            );
            let output = wait::until(wait::ANSWER, || {
                let status = client.call("guest-exec-status", pid.clone());
                status["out-data"].as_str().map(decode)
            });
            let output = String::from_utf8(output.expect("its output")).expect("text");
            assert!(!output.contains("NOTIFY_SOCKET"), "{output}");
            receiver.set_nonblocking(true).expect("a mode");
            assert!(receiver.recv(&mut text).is_err());
            receiver.set_nonblocking(false).expect("a mode");
            address.clone()
        });
    }
    checks.run("not before a channel is open, nor at the second", || {
        // The directory is made later, and the agents try again after ten seconds.
        let late = both.scratch.join("late/socket");
        let other = ["-m", "unix-listen", "-p", "/nonexistent/socket"];
        let _other = start(&format!("@{name}"), &socket, &other);
        let _agent = start(&path.display().to_string(), &late, &[]);
        let mut text = [0; 64];
        let pause = Duration::from_millis(500);
        of_path.set_read_timeout(Some(pause)).expect("a limit");
        assert!(of_path.recv(&mut text).is_err());
        std::fs::create_dir(both.scratch.join("late")).expect("a directory");
        both.scratch.give_away();
        of_path
            .set_read_timeout(Some(wait::ANSWER))
            .expect("a limit");
        let len = of_path.recv(&mut text).expect("a signal");
        assert_eq!(&text[..len], b"READY=1");
        of_name.set_nonblocking(true).expect("a mode");
        let sent = std::iter::from_fn(|| of_name.recv(&mut text).ok());
        assert_eq!(sent.count(), 1);
        String::new()
    });
    checks.run("an agent that cannot send it serves all the same", || {
        for (address, why) in [
            ("/nonexistent/notify", "No such file or directory"),
            ("carrier:pigeon", "Invalid argument"),
            ("vsock:1:x", "Invalid argument"),
        ] {
            let _agent = start(address, &socket, &[]);
            let log = both.scratch.join("log");
            let expected = format!("gaunt: cannot send READY=1: {why}\n");
            wait::expect("the line", wait::ANSWER, || {
                std::fs::read_to_string(&log).is_ok_and(|log| log == expected)
            });
            Client::connect(&socket).get("guest-ping");
        }
        String::new()
    });
    checks.finish();
}

/// Has a socket receive the number of the sender's process, as service managers do.
fn pass_credentials(socket: &UnixDatagram) {
    let yes: i32 = 1;
    // SAFETY: setsockopt reads a number of the given size.
    unsafe {
        let (level, option) = (libc::SOL_SOCKET, libc::SO_PASSCRED);
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const yes).cast(),
            4,
        );
    }
}

/// Receives a datagram, and the number of the process that has sent it.
fn receive_with_sender(socket: &UnixDatagram, text: &mut [u8]) -> (usize, u32) {
    let mut control = [0u64; 8];
    // SAFETY: recvmsg writes to buffers of the given sizes, and the macros read the header that it has
    // written. All of them outlive the calls.
    unsafe {
        let mut part = libc::iovec {
            iov_base: text.as_mut_ptr().cast(),
            iov_len: text.len(),
        };
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        let len = libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0);
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        assert!(len >= 0 && !header.is_null(), "a datagram with credentials");
        let sender: libc::ucred = libc::CMSG_DATA(header)
            .cast::<libc::ucred>()
            .read_unaligned();
        (len as usize, sender.pid as u32)
    }
}

/// As PID 1: loads modules, waits for a signal over vsock, and becomes the agent.
const READY_INIT: &str = "#!/bin/busybox sh
export PATH=/bin:/usr/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
modprobe -a $(cat /etc/modules)
for m in /root/modules/*; do insmod $m 2>/dev/null; done
read -r line </proc/cmdline
case $line in
*ready.type=1*) kind=1 ;;
*) kind=5 ;;
esac
/root/vsock ready $kind 1234 >/run/ready &
until [ -s /run/ready ]; do sleep 0.1; done
exec /usr/bin/gaunt \"$@\"
";

#[test]
fn the_host_is_told_when_pid_1_is_ready() {
    let mut checks = Checks::new("vmm.notify_socket");
    let modules = Modules::of(&["vsock_loopback", "qemu_fw_cfg"]);
    let archive = Cpio::new()
        .program(Path::new(BUILT))
        .copy("root/vsock", Path::new(BUILT))
        .file("root/init", 0o755, READY_INIT.as_bytes());
    let overlay = modules.put(archive).finish();
    let smbios = "type=11,value=io.systemd.credential:vmm.notify_socket=vsock:1:1234";
    let firmware = "name=opt/io.systemd.credentials/vmm.notify_socket,string=vsock-stream:1:1234";
    // vsock-seqpacket:1:1234
    let word = "systemd.set_credential_binary=vmm.notify_socket:dnNvY2stc2VxcGFja2V0OjE6MTIzNA==";
    for (name, qemu, words) in [
        (
            "SMBIOS",
            &["-smbios", "type=11,value=other", "-smbios", smbios][..],
            &["ready.type=5"][..],
        ),
        (
            "firmware configuration",
            &["-fw_cfg", firmware],
            &["ready.type=1"],
        ),
        ("kernel command line", &[], &["ready.type=5", word]),
    ] {
        checks.run(name, || {
            let machine = Machine::new(Image::Busybox).overlay(&overlay).qemu(qemu);
            let machine = words
                .iter()
                .fold(machine, |machine, word| machine.kernel(word));
            // PID 1 is no daemon.
            let machine = machine.kernel("rdinit=/root/init").agent("-d");
            let mut guest = machine.boot();
            let mut client = guest.client();
            let said = wait::until(wait::ANSWER, || {
                let said = read_file(&mut client, "/run/ready");
                said.lines().nth(1).map(str::to_owned)
            });
            let said = said.unwrap_or_else(|| guest.fail("no signal"));
            let (port, text) = said.split_once(' ').expect("a port and a text");
            assert!(port.parse::<u32>().expect("a number") < 1024, "{port}");
            assert_eq!(text, "READY=1");
            let serial = guest.serial();
            assert!(!serial.contains("READY"), "{serial}");
            said
        });
    }
    checks.finish();
}

/// Reads a file of a guest that is shorter than 4 KiB.
fn read_file(client: &mut Client, path: &str) -> String {
    let handle = client.call("guest-file-open", json!({ "path": path }));
    let read = client.call("guest-file-read", json!({ "handle": handle }));
    client.call("guest-file-close", json!({ "handle": handle }));
    let content = read["buf-b64"].as_str().map(decode).expect("a content");
    String::from_utf8(content).expect("text")
}

#[test]
fn a_guest_serves_vsock_and_a_serial_line_beside_its_port() {
    let mut checks = Checks::new("guest");
    let scratch = Scratch::new();
    let line = scratch.join("line");
    let chardev = format!("socket,id=line,path={},server=on,wait=off", line.display());
    let modules = Modules::of(&["vsock_loopback", "vmw_vsock_virtio_transport"]);
    let archive = Cpio::new()
        .program(Path::new(BUILT))
        .copy("root/vsock", Path::new(BUILT));
    let port = format!("/dev/virtio-ports/{PORT}");
    let mut machine = Machine::new(Image::Busybox)
        .overlay(&modules.put(archive).finish())
        .qemu(&["-chardev", &chardev, "-serial", "chardev:line"])
        .qemu(&["-device", "virtio-serial-pci,id=other"]);
    for word in ["-m", "virtio-serial", "-p", &port] {
        machine = machine.agent(word);
    }
    // The guest's own CID on the loopback, which is not there yet.
    for word in ["-m", "vsock-listen", "-p", "1:1024", "--vsock-peer=1"] {
        machine = machine.agent(word);
    }
    // The signal of the machine is the init's. The agent could not send it yet, and would say so.
    let mut guest = machine
        .kernel("systemd.set_credential=vmm.notify_socket:vsock:2:1")
        .boot();
    guest.wait_shell();
    let mut client = guest.client();
    checks.run("three vsock clients beside the host", || {
        let log = guest.shell().run("cat /run/agent.log");
        assert!(!log.contains("READY"), "{log}");
        assert!(log.contains("waiting for port 1:1024"), "{log}");
        guest.shell().run(LOAD);
        wait::expect("the listener", wait::ANSWER, || {
            clients(&mut guest, 3).len() == 9
        });
        // While they are connected the host is answered as well.
        guest
            .shell()
            .run("/root/vsock clients 1 1024 3 >/run/replies");
        client.get("guest-ping");
        let replies = guest.shell().run("cat /run/replies");
        let expected: Vec<_> = (0..9)
            .map(|at| format!("{{\"return\": {{}}, \"id\": {}}}", at / 3 * 10 + at % 3))
            .collect();
        assert_eq!(replies.lines().collect::<Vec<_>>(), expected);
        format!("{} replies", expected.len())
    });
    // Three of the four get a reply.
    let held = |guest: &mut Guest| guest.shell().run("sleep 0.5; grep -c return /run/held");
    checks.run(
        "a fourth vsock client waits, and the port is served",
        || {
            let shell = guest.shell();
            shell.run("/root/vsock clients 1 1024 4 >/run/held 2>&1 &");
            wait::expect("three replies", wait::ANSWER, || held(&mut guest) == "3");
            client.get("guest-ping");
            held(&mut guest)
        },
    );
    checks.run("a port on another bus answers within a second", || {
        guest.unplug_port();
        // The fourth client does not get the slot of the port that is gone.
        assert_eq!(held(&mut guest), "3");
        drop(std::mem::replace(
            &mut client,
            Client::connect(&guest.agent_socket()),
        ));
        guest.qmp(
            "device_add",
            json!({ "driver": "virtserialport", "bus": "other.0", "chardev": "agent",
                    "name": PORT, "id": "port" }),
        );
        let start = Instant::now();
        assert!(client.sync(wait::ANSWER).is_some());
        let took = start.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert_eq!(held(&mut guest), "3");
        guest.shell().run("killall vsock");
        format!("{} ms", took.as_millis())
    });
    checks.run("programs of the guest are no host", || {
        guest.shell().restart_agent("-m vsock-listen -p :1024");
        wait::expect("the listener", wait::ANSWER, || {
            clients(&mut guest, 1) == ["closed"; 3]
        });
        let log = guest.shell().run("tail -1 /run/agent.log");
        assert!(log.contains("a connection of CID 1 was refused"), "{log}");
        log
    });
    checks.run("a listener waits for the module", || {
        let unload = "rmmod vsock_loopback vmw_vsock_virtio_transport \
                      vmw_vsock_virtio_transport_common vsock";
        let stop = "kill $(cat /run/agent.pid); while pidof gaunt; do sleep 0.1; done";
        guest.shell().run(&format!("{stop}; {unload}"));
        guest
            .shell()
            .restart_agent("-m vsock-listen -p :1024 --vsock-peer=4294967295");
        let waits = "sleep 0.5; tail -1 /run/agent.log | grep 'waiting for port :1024'";
        let log = guest.shell().run(waits);
        guest.shell().run(LOAD);
        wait::expect("the listener", wait::ANSWER, || {
            clients(&mut guest, 1).len() == 3
        });
        log
    });
    checks.run("a serial line", || {
        let ports = "-m vsock-listen -p :1025 -m isa-serial -p /dev/ttyS2";
        guest.shell().restart_agent(ports);
        let mut other = Client::connect(&line);
        // What comes before the line is open is dropped.
        wait::expect("a reply", wait::ANSWER, || {
            other.sync(Duration::from_secs(1)).is_some()
        });
        // Raw: neither echoed nor changed.
        let id = "\u{3}\r\n\u{4}";
        let echo = other.ask(json!({ "execute": "guest-ping", "id": id }).to_string());
        assert_eq!(echo["id"], id);
        // A check says so beside the agent, which goes on. The guest has a fourth line without a circuit.
        let check = "/usr/bin/gaunt --check -m isa-serial -p /dev/ttyS";
        let vsock = "-m vsock-listen -p :1025 -m virtio-serial";
        let said = guest
            .shell()
            .run(&format!("{check}2 {vsock} | head -3; {check}3 | head -1"));
        let expected = [
            "isa-serial /dev/ttyS2: works".to_owned(),
            "vsock-listen :1025: works".to_owned(),
            format!("virtio-serial {port}: works"),
            "isa-serial /dev/ttyS3: no such device".to_owned(),
        ];
        assert_eq!(said.lines().collect::<Vec<_>>(), expected);
        let echo = other.ask(json!({ "execute": "guest-ping", "id": id }).to_string());
        assert_eq!(echo["id"], id);
        format!("{echo}")
    });
    checks.run("a syslog daemon that starts after the agent", || {
        let shell = guest.shell();
        shell.run("rm -f /dev/log; : >/run/agent.log");
        shell.restart_agent("-v -l /dev/log -m isa-serial -p /dev/ttyS2");
        wait::expect("a line", wait::ANSWER, || {
            shell.test("grep 'port open' /run/agent.log")
        });
        assert!(
            !shell.test("test -e /dev/log"),
            "{}",
            shell.run("ls -l /dev/log")
        );
        let check = "/usr/bin/gaunt -l /dev/log --check | grep logfile";
        assert_eq!(shell.run(check), "logfile /dev/log: no such device");
        shell.run("busybox syslogd -O /run/messages; until [ -S /dev/log ]; do sleep 0.1; done");
        assert_eq!(shell.run(check), "logfile /dev/log: works");
        let mut other = Client::connect(&line);
        wait::expect("a reply", wait::ANSWER, || {
            other.sync(Duration::from_secs(1)).is_some()
        });
        let words = json!({ "path": "/bin/busybox", "arg": ["true"] });
        other.call("guest-exec", words);
        wait::expect("the line", wait::ANSWER, || {
            guest
                .shell()
                .test("grep 'exec: /bin/busybox' /run/messages")
        });
        guest.shell().run("tail -n 1 /run/messages")
    });
    // Last: the kernel keeps its module in use for some seconds.
    checks.run("a ready signal that nobody takes", || {
        let said = guest.shell().run(
            "NOTIFY_SOCKET=vsock:1:4321 /usr/bin/gaunt -t /tmp -m unix-listen -p /tmp/x 2>/tmp/log & \
             until [ -s /tmp/log ]; do sleep 0.1; done; kill $!; cat /tmp/log",
        );
        let expected = "gaunt: cannot send READY=1: Connection reset by peer";
        assert_eq!(said.trim_end(), expected);
        said
    });
    checks.finish();
}

/// Loads the modules that are not there yet.
const LOAD: &str = "for m in /root/modules/*; do insmod $m 2>/dev/null; done; true";

/// The lines that so many clients over vsock print in the guest; none if they cannot connect.
fn clients(guest: &mut Guest, count: u32) -> Vec<String> {
    let command = format!("/root/vsock clients 1 1024 {count} 2>/dev/null");
    let ran = guest.shell().try_run(&command, wait::ANSWER);
    ran.output.lines().map(str::to_owned).collect()
}
