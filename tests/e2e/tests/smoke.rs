//! Both images in QEMU: the agent as PID 1 and alone, and the agent beside a shell.

use std::net::Shutdown;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use gaunt_e2e::checks::Checks;
use gaunt_e2e::client::Client;
use gaunt_e2e::disk::{self, Fs};
use gaunt_e2e::guest::{Guest, Image, Machine};
use gaunt_e2e::scratch::Scratch;
use gaunt_e2e::shell::GuestShell;
use gaunt_e2e::{agent_binary, image_file, process, wait};
use serde_json::json;

/// Disks of one test: ext4, and XFS if wanted.
struct Disks {
    scratch: Scratch,
}

impl Disks {
    fn new() -> Disks {
        let disks = Disks {
            scratch: Scratch::new(),
        };
        disk::raw(&disks.ext4(), Fs::Ext4);
        disks
    }

    fn ext4(&self) -> PathBuf {
        self.scratch.join("ext4.raw")
    }

    fn xfs(&self) -> PathBuf {
        self.scratch.join("xfs.raw")
    }
}

fn mountpoints(client: &mut Client) -> Vec<String> {
    let list = client.get("guest-get-fsinfo");
    let list = list.as_array().expect("a list");
    list.iter()
        .map(|fs| fs["mountpoint"].as_str().expect("a path").to_owned())
        .collect()
}

#[test]
fn the_bare_image_holds_no_program_but_the_agent() {
    let list = "gzip -dc \"$1\" | cpio -itv --quiet";
    let mut command = Command::new("sh");
    command
        .args(["-c", list, "sh"])
        .arg(image_file("bare.cpio.gz"));
    let listed = process::run(&mut command, wait::ANSWER);
    let mut programs = Vec::new();
    for line in listed.lines().filter(|line| line.starts_with('-')) {
        let name = line.split_whitespace().last().expect("a name");
        if line[..10].contains('x') {
            programs.push(name);
        } else {
            let known = name.starts_with("lib/modules/") || name.starts_with("etc/");
            assert!(known, "what is {name}?");
        }
    }
    assert_eq!(programs, ["init"]);
    // And that one asks for no interpreter, so for no library either.
    let bytes = std::fs::read(agent_binary()).expect("the agent");
    let at = |offset: usize| usize::from(bytes[offset]) | usize::from(bytes[offset + 1]) << 8;
    let (table, size, count) = (at(32), at(54), at(56));
    let interpreters = (0..count).filter(|row| at(table + row * size) == 3).count();
    assert!(
        count > 0 && interpreters == 0,
        "{count} segments, {interpreters} interpreters"
    );
}

#[test]
fn bare_image() {
    let mut checks = Checks::new("bare");
    let disks = Disks::new();
    let start = Instant::now();
    let mut guest = Machine::new(Image::Bare).disk(&disks.ext4()).boot();
    let mut client = guest.client();
    checks.run("boots and answers", || {
        format!("{:.1} s", start.elapsed().as_secs_f32())
    });
    checks.run("says who it is", || {
        let info = client.get("guest-info");
        let os = client.get("guest-get-osinfo");
        assert_eq!(os["id"], "gaunt");
        assert_eq!(os["variant-id"], "bare");
        format!("{} on {}", info["version"], os["kernel-release"])
    });
    checks.run("has mounted its disk", || {
        let mounted = mountpoints(&mut client);
        assert_eq!(mounted, ["/data"]);
        assert!(!disk::ext4_is_at_rest(&disks.ext4()));
        mounted.join(" ")
    });
    checks.run("freezes: the disk is at rest, seen from outside", || {
        assert_eq!(client.get("guest-fsfreeze-status"), "thawed");
        assert_eq!(client.get("guest-fsfreeze-freeze"), 1);
        assert_eq!(client.get("guest-fsfreeze-status"), "frozen");
        assert!(disk::ext4_is_at_rest(&disks.ext4()));
        client.get("guest-ping");
        "frozen".into()
    });
    checks.run("refuses while frozen what could write", || {
        let refusal = client
            .try_call("guest-fstrim", json!({}))
            .expect_err("a refusal");
        assert_eq!(refusal.class, "CommandNotFound");
        refusal.desc
    });
    checks.run("thaws", || {
        assert_eq!(client.get("guest-fsfreeze-thaw"), 1);
        assert_eq!(client.get("guest-fsfreeze-status"), "thawed");
        assert!(!disk::ext4_is_at_rest(&disks.ext4()));
        "thawed".into()
    });
    checks.run("trims", || {
        let paths = client.get("guest-fstrim")["paths"].clone();
        assert_eq!(paths[0]["path"], "/data");
        assert!(
            paths[0]["trimmed"].as_u64().is_some_and(|bytes| bytes > 0),
            "{paths}"
        );
        paths.to_string()
    });
    checks.run("sees its network card", || {
        let interfaces = client.get("guest-network-get-interfaces");
        let names: Vec<_> = interfaces.as_array().expect("a list").iter().collect();
        let eth0 = names
            .iter()
            .find(|one| one["name"] == "eth0")
            .expect("eth0");
        assert_eq!(eth0["hardware-address"], "52:54:00:12:34:56");
        "eth0".into()
    });
    checks.run("survives a host that comes and goes", || {
        client.send("{\"execute\":\"guest-inf");
        drop(std::mem::replace(
            &mut client,
            Client::connect(&guest.agent_socket()),
        ));
        // Half a request of the host before is dropped; a stray byte costs one error at most.
        client.send("\u{0}\n");
        client.sync(wait::ANSWER).expect("an answer to guest-sync");
        "synchronized".into()
    });
    // The first bytes of a host overtake the news that it is there, every now and then.
    checks.run("answers hosts that come for one request each", || {
        for round in 0..60 {
            drop(std::mem::replace(
                &mut client,
                Client::connect(&guest.agent_socket()),
            ));
            let answer = client.ask("{\"execute\":\"guest-ping\"}\n");
            assert_eq!(answer, json!({ "return": {} }), "round {round}");
            std::thread::sleep(Duration::from_millis([0, 5, 50][round % 3]));
        }
        "60 of 60".into()
    });
    checks.run("half a request ends with its host", || {
        let pauses = [50, 100, 300, 900, 1500];
        for pause in pauses {
            // On a line that is none of the next host's.
            client.sync(wait::ANSWER).expect("an answer to guest-sync");
            client.send("{\"execute\":\"guest-pi");
            // Read before the host leaves: a busy guest may else take both hosts for one.
            std::thread::sleep(Duration::from_millis(50));
            let gone = client.stream().shutdown(Shutdown::Both);
            gone.expect("a connection");
            std::thread::sleep(Duration::from_millis(pause));
            client = Client::connect(&guest.agent_socket());
            let answer = client.ask("{\"execute\":\"guest-ping\"}\n");
            assert_eq!(answer, json!({ "return": {} }), "{pause} ms");
            let answer = client.ask(" ]");
            let desc = &answer["error"]["desc"];
            assert_eq!(desc, "2:2: JSON parse error, expecting value", "{pause} ms");
        }
        format!("after {pauses:?} ms")
    });
    checks.run("survives losing its port", || {
        guest.unplug_port();
        std::thread::sleep(Duration::from_millis(500));
        guest.plug_port();
        client.sync(wait::ANSWER).expect("an answer to guest-sync");
        assert_eq!(mountpoints(&mut client), ["/data"]);
        "synchronized".into()
    });
    checks.run("powers off, and leaves the disk clean", || {
        let start = Instant::now();
        client.send("{\"execute\":\"guest-shutdown\"}\n");
        let reason = guest.shutdown_reason();
        assert_eq!(reason, "guest-shutdown");
        assert!(guest.wait_end(wait::ANSWER).success());
        assert!(disk::ext4_is_at_rest(&disks.ext4()));
        assert!(
            client.line(Duration::from_millis(100)).is_none(),
            "success is silent"
        );
        format!("{:.1} s", start.elapsed().as_secs_f32())
    });
    checks.finish();
}

#[test]
fn bare_image_that_restarts_and_one_that_has_no_port() {
    let mut checks = Checks::new("bare, restarting");
    // No disk, no port: it must wait for one. Words for which another program would end; and of two
    // words of one name that are not behind the dashes the kernel keeps the last.
    let mut guest = Machine::new(Image::Bare)
        .without_port()
        .kernel("--block-rpcs=guest-get-users")
        .kernel("--block-rpcs=guest-get-cpustats")
        .agent("-V")
        .agent("--nonsense")
        .agent("--block-rpcs=guest-get-load")
        .agent("--help")
        .boot();
    checks.run("waits for a port", || {
        // Late enough for the agent to run; nothing on the host can tell.
        std::thread::sleep(Duration::from_secs(4));
        guest.plug_port();
        let mut client = guest.client();
        assert!(mountpoints(&mut client).is_empty());
        "answers".into()
    });
    checks.run("keeps what made sense of its command line", || {
        let mut client = guest.client();
        let refusal = client
            .try_call("guest-get-load", json!({}))
            .expect_err("blocked");
        assert_eq!(refusal.class, "CommandNotFound");
        refusal.desc
    });
    checks.run("allows little beyond that, and says why", || {
        let mut client = guest.client();
        for command in [
            "guest-get-osinfo",
            "guest-get-users",
            "guest-fsfreeze-status",
        ] {
            client.get(command);
        }
        let shell = json!({ "path": "/init" });
        let key = json!({ "username": "root" });
        for (command, arguments) in [
            ("guest-exec", shell.clone()),
            ("guest-file-open", shell),
            ("guest-ssh-get-authorized-keys", key),
            ("guest-fsfreeze-freeze", json!({})),
            ("guest-get-cpustats", json!({})),
        ] {
            let refusal = client.try_call(command, arguments).expect_err(command);
            assert_eq!(refusal.class, "CommandNotFound", "{command}");
        }
        let serial = guest.serial();
        for why in [
            "gaunt: unknown option: --nonsense; only commands that change nothing",
            "gaunt: the kernel kept only the last of several options of one name; only",
        ] {
            assert_eq!(serial.matches(why).count(), 1, "{serial}");
        }
        "two lines".into()
    });
    checks.run("reboots", || {
        let mut client = guest.client();
        client.send("{\"execute\":\"guest-shutdown\",\"arguments\":{\"mode\":\"reboot\"}}\n");
        let reason = guest.shutdown_reason();
        assert_eq!(reason, "guest-reset");
        guest.wait_end(wait::ANSWER);
        reason
    });
    checks.finish();
}

/// A write that is tried in the background: whether it got through is asked later.
fn begin_write(shell: &mut GuestShell, directory: &str, name: &str) {
    shell.run(&format!(
        "rm -f /run/done.{name}; (echo x >{directory}/{name} && sync {directory}/{name} && \
         touch /run/done.{name}) >/dev/null 2>&1 &"
    ));
}

fn is_done(shell: &mut GuestShell, name: &str) -> bool {
    shell.test(&format!("test -e /run/done.{name}"))
}

/// Long enough for a write that is not blocked to get through.
const SETTLE: Duration = Duration::from_millis(1500);

/// Slows the first disk down to so many bytes a second; 0 is its own speed.
fn throttle(guest: &mut Guest, bytes_per_s: u64) {
    let limits = json!({
        "device": "disk0", "bps": bytes_per_s, "bps_rd": 0, "bps_wr": 0,
        "iops": 0, "iops_rd": 0, "iops_wr": 0
    });
    guest.qmp("block_set_io_throttle", limits);
}

/// Checks that the agent does not run at all for a while.
fn quiet(guest: &mut Guest) -> String {
    // What has just happened may still be under way.
    std::thread::sleep(Duration::from_millis(500));
    let count = "grep -h ctxt_switches /proc/$(cat /run/agent.pid)/status";
    let before = guest.shell().run(count);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(guest.shell().run(count), before);
    "not once in 3 s".into()
}

#[test]
fn busybox_image() {
    let mut checks = Checks::new("busybox");
    let disks = Disks::new();
    disk::raw(&disks.xfs(), Fs::Xfs);
    let mut guest = Machine::new(Image::Busybox)
        .disk(&disks.ext4())
        .disk(&disks.xfs())
        .boot();
    guest.wait_shell();
    checks.run("no wake-up before a host has connected", || {
        quiet(&mut guest)
    });
    let client = guest.client();
    checks.run("no wake-up with a host that is silent", || {
        quiet(&mut guest)
    });
    drop(client);
    checks.run("no wake-up after the host has gone", || quiet(&mut guest));
    let mut client = guest.client();
    checks.run(
        "nothing in the guest can shut it down but the agent",
        || {
            let shell = guest.shell();
            for name in ["shutdown", "poweroff", "reboot", "halt", "hwclock"] {
                assert!(
                    shell.run(&format!("find / -xdev -name {name}")).is_empty(),
                    "{name}"
                );
            }
            assert!(!shell.test("test -e /dev/virtio-ports"));
            assert!(!shell.test("test -e /sbin"));
            "no /sbin, no /dev/virtio-ports".into()
        },
    );
    checks.run("sees what the guest sees", || {
        let release = guest.shell().run("uname -r");
        assert_eq!(client.get("guest-get-osinfo")["kernel-release"], release);
        assert_eq!(
            client.get("guest-get-host-name")["host-name"],
            guest.shell().run("hostname")
        );
        assert_eq!(mountpoints(&mut client), ["/data2", "/data"]);
        release
    });
    checks.run("a freeze blocks writes, and only where it holds", || {
        let only = json!({ "mountpoints": ["/data"] });
        assert_eq!(client.call("guest-fsfreeze-freeze-list", only), 1);
        begin_write(guest.shell(), "/data", "one");
        begin_write(guest.shell(), "/data2", "two");
        std::thread::sleep(SETTLE);
        assert!(
            !is_done(guest.shell(), "one"),
            "written to a frozen file system"
        );
        assert!(
            is_done(guest.shell(), "two"),
            "not written where nothing is frozen"
        );
        assert_eq!(client.get("guest-fsfreeze-thaw"), 1);
        wait::expect("the write", wait::ANSWER, || is_done(guest.shell(), "one"));
        "/data frozen, /data2 not".into()
    });
    checks.run("a freeze of all blocks all, the agent answers on", || {
        assert_eq!(client.get("guest-fsfreeze-freeze"), 2);
        begin_write(guest.shell(), "/data", "three");
        begin_write(guest.shell(), "/data2", "four");
        std::thread::sleep(SETTLE);
        for name in ["three", "four"] {
            assert!(!is_done(guest.shell(), name), "{name}");
        }
        for command in ["guest-ping", "guest-info", "guest-fsfreeze-status"] {
            client.get(command);
        }
        let refusal = client
            .try_call("guest-fsfreeze-freeze", json!({}))
            .expect_err("no nesting");
        assert_eq!(refusal.class, "CommandNotFound");
        assert_eq!(client.get("guest-fsfreeze-thaw"), 2);
        for name in ["three", "four"] {
            wait::expect(name, wait::ANSWER, || is_done(guest.shell(), name));
        }
        "2 frozen, 2 thawed".into()
    });
    checks.run("SIGTERM ends it, but not while frozen", || {
        assert_eq!(client.get("guest-fsfreeze-freeze"), 2);
        guest.shell().run("kill -TERM $(cat /run/agent.pid)");
        client.get("guest-ping");
        assert_eq!(client.get("guest-fsfreeze-thaw"), 2);
        wait::expect("its end after the thaw", wait::ANSWER, || {
            guest.shell().test("! kill -0 $(cat /run/agent.pid)")
        });
        guest.shell().restart_agent("");
        client.sync(wait::ANSWER).expect("an answer to guest-sync");
        "answers, thaws, and ends".into()
    });
    checks.run("killed while frozen, its next run knows and thaws", || {
        assert_eq!(client.get("guest-fsfreeze-freeze"), 2);
        guest.shell().restart_agent("");
        client.sync(wait::ANSWER).expect("an answer to guest-sync");
        assert_eq!(client.get("guest-fsfreeze-status"), "frozen");
        let refusal = client
            .try_call("guest-get-osinfo", json!({}))
            .expect_err("frozen");
        assert_eq!(refusal.class, "CommandNotFound");
        begin_write(guest.shell(), "/data", "five");
        std::thread::sleep(SETTLE);
        assert!(!is_done(guest.shell(), "five"));
        assert_eq!(client.get("guest-fsfreeze-thaw"), 2);
        wait::expect("the write", wait::ANSWER, || is_done(guest.shell(), "five"));
        assert_eq!(client.get("guest-fsfreeze-status"), "thawed");
        "frozen, then thawed 2".into()
    });
    checks.run("a freeze that nobody thaws ends by itself", || {
        guest.shell().restart_agent("--freeze-timeout=4");
        client.sync(wait::ANSWER).expect("an answer to guest-sync");
        assert_eq!(client.get("guest-fsfreeze-freeze"), 2);
        let start = Instant::now();
        begin_write(guest.shell(), "/data", "six");
        wait::expect("the write", wait::ANSWER, || is_done(guest.shell(), "six"));
        let seconds = start.elapsed().as_secs_f32();
        assert!(seconds > 2.0, "after {seconds} s");
        assert_eq!(client.get("guest-fsfreeze-status"), "thawed");
        // The late thaw tells the host that its snapshot is worth nothing.
        assert_eq!(client.get("guest-fsfreeze-thaw"), 0);
        format!("{seconds:.1} s")
    });
    checks.run("a freeze given up is undone once it completes", || {
        guest.shell().restart_agent("--freeze-timeout=3");
        client.sync(wait::ANSWER).expect("an answer to guest-sync");
        // A write that takes its time keeps the kernel from completing the freeze.
        guest
            .shell()
            .run("dd if=/dev/zero of=/data/slow bs=1M count=4 conv=fsync");
        throttle(&mut guest, 20_000);
        guest.shell().run(
            "rm -f /run/slow; (dd if=/dev/zero of=/data/slow bs=2M count=1 oflag=direct \
             conv=notrunc; touch /run/slow) >/dev/null 2>&1 &",
        );
        std::thread::sleep(SETTLE);
        let refusal = client
            .try_call("guest-fsfreeze-freeze", json!({}))
            .expect_err("given up");
        assert_eq!(
            client.get("guest-fsfreeze-status"),
            "frozen",
            "{}",
            refusal.desc
        );
        throttle(&mut guest, 0);
        wait::expect("the thaw", wait::ANSWER, || {
            client.get("guest-fsfreeze-status") == "thawed"
        });
        wait::expect("the slow write", wait::ANSWER, || {
            guest.shell().test("test -e /run/slow")
        });
        begin_write(guest.shell(), "/data", "seven");
        wait::expect("a write", wait::ANSWER, || is_done(guest.shell(), "seven"));
        assert_eq!(client.get("guest-fsfreeze-thaw"), 0);
        refusal.desc
    });
    checks.run("its mark on a frozen disk, it starts all the same", || {
        guest.shell().restart_agent("-t /data");
        client.sync(wait::ANSWER).expect("an answer to guest-sync");
        assert_eq!(client.get("guest-fsfreeze-freeze"), 2);
        guest.shell().restart_agent("-t /data");
        client.sync(wait::ANSWER).expect("an answer to guest-sync");
        assert_eq!(client.get("guest-fsfreeze-status"), "frozen");
        assert_eq!(client.get("guest-fsfreeze-thaw"), 2);
        assert!(!guest.shell().test("test -e /data/qga.state.isfrozen"));
        "frozen, then thawed 2".into()
    });
    checks.run("the port may be taken away and given back", || {
        guest.unplug_port();
        std::thread::sleep(Duration::from_millis(500));
        guest.plug_port();
        client.sync(wait::ANSWER).expect("an answer to guest-sync");
        "synchronized".into()
    });
    checks.run("unplugged while frozen, it thaws when asked after", || {
        guest.shell().restart_agent("");
        client.sync(wait::ANSWER).expect("an answer to guest-sync");
        assert_eq!(client.get("guest-fsfreeze-freeze"), 2);
        guest.unplug_port();
        guest.plug_port();
        client.sync(wait::ANSWER).expect("an answer to guest-sync");
        assert_eq!(client.get("guest-fsfreeze-status"), "frozen");
        assert_eq!(client.get("guest-fsfreeze-thaw"), 2);
        "thawed 2".into()
    });
    checks.run("a thousand requests unread over the port", || {
        for id in 0..1000 {
            client.send(format!("{{\"execute\":\"guest-ping\",\"id\":{id}}}\n"));
        }
        for id in 0..1000 {
            assert_eq!(client.reply()["id"], id);
        }
        let resident = guest
            .shell()
            .run("grep VmRSS /proc/$(cat /run/agent.pid)/status");
        resident
            .split_whitespace()
            .skip(1)
            .collect::<Vec<_>>()
            .join(" ")
    });
    checks.run("halts", || {
        // The order of things, seen by a program that writes until the end.
        guest
            .shell()
            .run("(while :; do date >/data/last; done) >/dev/null 2>&1 &");
        client.send("{\"execute\":\"guest-shutdown\",\"arguments\":{\"mode\":\"halt\"}}\n");
        // A halted machine stays on; nothing is left that could write.
        wait::expect("the disk to be at rest", wait::ANSWER, || {
            disk::ext4_is_at_rest(&disks.ext4())
        });
        "disk at rest".into()
    });
    checks.finish();
}
