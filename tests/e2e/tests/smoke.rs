//! Boot, freeze, trim, port hot-plug and shutdown in both images.
//!
//! Guests: the bare image, where the agent is PID 1 and the only program, and the busybox image, where
//! it runs beside a shell; each on x86_64 and on aarch64. Disks: ext4, and XFS in the busybox guest.
//! Needs QEMU and the images.

use std::net::Shutdown;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use gaunt_e2e::checks::Checks;
use gaunt_e2e::client::{Client, request};
use gaunt_e2e::disk::{self, Fs};
use gaunt_e2e::guest::{Guest, Image, Machine, Processor};
use gaunt_e2e::scratch::Scratch;
use gaunt_e2e::{agent_binary, image_file, process, wait};
use serde_json::{Value, json};

/// The disk images of one test: ext4, and the path for an XFS image.
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

/// Thaws whatever an earlier check has left frozen.
fn thaw(client: &mut Client) {
    client.get("guest-fsfreeze-thaw");
    assert_eq!(client.get("guest-fsfreeze-status"), "thawed");
}

/// Freezes the only disk of the bare guest, whatever an earlier check has left.
fn freeze(client: &mut Client) {
    thaw(client);
    assert_eq!(client.get("guest-fsfreeze-freeze"), 1);
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
            assert!(known, "unexpected file: {name}");
        }
    }
    assert_eq!(programs, ["init"]);
    // No PT_INTERP segment in the agent, so it needs no library.
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
fn a_bare_guest_boots_freezes_trims_and_powers_off() {
    life_of_a_bare_guest(Processor::X86_64, "bare");
}

#[test]
fn a_bare_guest_on_aarch64_boots_freezes_trims_and_powers_off() {
    life_of_a_bare_guest(Processor::Aarch64, "bare, aarch64");
}

fn life_of_a_bare_guest(processor: Processor, name: &'static str) {
    let mut checks = Checks::new(name);
    let disks = Disks::new();
    let start = Instant::now();
    let machine = Machine::new(Image::Bare).processor(processor);
    let mut guest = machine.disk(&disks.ext4()).boot();
    let mut client = guest.client();
    checks.run("boots and answers", || {
        format!("{:.1} s", start.elapsed().as_secs_f32())
    });
    checks.run("reports its version and system", || {
        let info = client.get("guest-info");
        let os = client.get("guest-get-osinfo");
        assert_eq!(os["id"], "gaunt");
        assert_eq!(os["variant-id"], "bare");
        format!("{} on {}", info["version"], os["kernel-release"])
    });
    checks.run("has mounted its disk", || {
        let mounted = mountpoints(&mut client);
        assert_eq!(mounted, ["/data"]);
        assert!(!disk::ext4_is_clean(&disks.ext4()));
        mounted.join(" ")
    });
    freezes_of_the_only_disk(&mut checks, &mut client, &disks);
    checks.run("reports its network card", || {
        let interfaces = client.get("guest-network-get-interfaces");
        let names: Vec<_> = interfaces.as_array().expect("a list").iter().collect();
        let eth0 = names
            .iter()
            .find(|one| one["name"] == "eth0")
            .expect("eth0");
        assert_eq!(eth0["hardware-address"], "52:54:00:12:34:56");
        "eth0".into()
    });
    drop(client);
    clients_come_and_go(&mut checks, &mut guest);
    checks.run("powers off and leaves the disk clean", || {
        let mut client = guest.client();
        thaw(&mut client);
        let start = Instant::now();
        client.send("{\"execute\":\"guest-shutdown\"}\n");
        let reason = guest.shutdown_reason();
        assert_eq!(reason, "guest-shutdown");
        assert!(guest.wait_end(wait::ANSWER).success());
        assert!(disk::ext4_is_clean(&disks.ext4()));
        assert!(
            client.line(Duration::from_millis(100)).is_none(),
            "guest-shutdown must not reply on success"
        );
        format!("{:.1} s", start.elapsed().as_secs_f32())
    });
    checks.finish();
}

fn freezes_of_the_only_disk(checks: &mut Checks, client: &mut Client, disks: &Disks) {
    checks.run("freezes: the disk image on the host is consistent", || {
        freeze(client);
        assert_eq!(client.get("guest-fsfreeze-status"), "frozen");
        assert!(disk::ext4_is_clean(&disks.ext4()));
        client.get("guest-ping");
        "frozen".into()
    });
    checks.run("refuses commands that may write while frozen", || {
        freeze(client);
        let refusal = client
            .try_call("guest-fstrim", json!({}))
            .expect_err("a refusal");
        assert_eq!(refusal.class, "CommandNotFound");
        refusal.desc
    });
    checks.run("thaws", || {
        freeze(client);
        assert_eq!(client.get("guest-fsfreeze-thaw"), 1);
        assert_eq!(client.get("guest-fsfreeze-status"), "thawed");
        assert!(!disk::ext4_is_clean(&disks.ext4()));
        "thawed".into()
    });
    checks.run("trims", || {
        thaw(client);
        let paths = client.get("guest-fstrim")["paths"].clone();
        assert_eq!(paths[0]["path"], "/data");
        assert!(
            paths[0]["trimmed"].as_u64().is_some_and(|bytes| bytes > 0),
            "{paths}"
        );
        paths.to_string()
    });
}

/// Replaces a client by a new one, with no pause between them.
fn reconnect(client: &mut Client, guest: &Guest) {
    let next = Client::connect(&guest.agent_socket());
    drop(std::mem::replace(client, next));
}

/// Clients that leave at an awkward moment, and a port that is unplugged. Each check has clients of its
/// own.
fn clients_come_and_go(checks: &mut Checks, guest: &mut Guest) {
    checks.run("survives a client that disconnects", || {
        let mut client = guest.client();
        client.send("{\"execute\":\"guest-inf");
        reconnect(&mut client, guest);
        // The agent drops the first client's half request. The stray NUL costs at most one error.
        client.send("\u{0}\n");
        client.sync(wait::ANSWER).expect("an answer to guest-sync");
        "synchronized".into()
    });
    // The first bytes of a client sometimes arrive before the event that reports its connection.
    checks.run("answers clients that send one request each", || {
        let mut client = guest.client();
        for round in 0..60 {
            reconnect(&mut client, guest);
            let answer = client.ask("{\"execute\":\"guest-ping\"}\n");
            assert_eq!(answer, json!({ "return": {} }), "round {round}");
            std::thread::sleep(Duration::from_millis([0, 5, 50][round % 3]));
        }
        "60 of 60".into()
    });
    checks.run("drops half a request when its client leaves", || {
        let mut client = guest.client();
        let pauses = [50, 100, 300, 900, 1500];
        for pause in pauses {
            // Moves this client to line 2, so that the last error shows that each client counts from line 1.
            let start = Instant::now();
            client.sync(wait::ANSWER).expect("an answer to guest-sync");
            // The agent must read the half request before the client leaves, and notice that it leaves
            // before the next one comes: a busy guest may otherwise see one client instead of two. So
            // both take ten times as long as an answer takes right now.
            let least = 10 * start.elapsed();
            client.send("{\"execute\":\"guest-pi");
            std::thread::sleep(Duration::from_millis(50).max(least));
            let gone = client.stream().shutdown(Shutdown::Both);
            gone.expect("a connection");
            std::thread::sleep(Duration::from_millis(pause).max(least));
            client = Client::connect(&guest.agent_socket());
            let answer = client.ask("{\"execute\":\"guest-ping\"}\n");
            assert_eq!(answer, json!({ "return": {} }), "{pause} ms");
            let answer = client.ask(" ]");
            let desc = &answer["error"]["desc"];
            assert_eq!(desc, "2:2: JSON parse error, expecting value", "{pause} ms");
        }
        format!("after {pauses:?} ms")
    });
    checks.run(
        "continues after its port was unplugged and plugged in",
        || {
            let mut client = guest.client();
            guest.unplug_port();
            std::thread::sleep(Duration::from_millis(500));
            guest.plug_port();
            client.sync(wait::ANSWER).expect("an answer to guest-sync");
            assert_eq!(mountpoints(&mut client), ["/data"]);
            "synchronized".into()
        },
    );
}

/// Asserts that the agent allows only commands that change nothing, and logs why.
fn assert_restricted(guest: &mut Guest) {
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
}

#[test]
fn a_bare_guest_waits_for_its_port_survives_bad_options_and_reboots() {
    let mut checks = Checks::new("bare, restarting");
    // No disk, and no port until later. -V, --help and an unknown option must not end PID 1. Of two
    // options of one name before the dashes the kernel keeps only the last.
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
        wait::expect("the agent's log", wait::BOOT, || {
            guest.serial().contains("unknown option: --nonsense")
        });
        std::thread::sleep(wait::SETTLE);
        guest.plug_port();
        let mut client = guest.client();
        assert!(mountpoints(&mut client).is_empty());
        "answers".into()
    });
    checks.run("obeys the valid option of its command line", || {
        let mut client = guest.client();
        let refusal = client
            .try_call("guest-get-load", json!({}))
            .expect_err("blocked");
        assert_eq!(refusal.class, "CommandNotFound");
        refusal.desc
    });
    checks.run(
        "allows only commands that change nothing, and logs why",
        || {
            assert_restricted(&mut guest);
            "two lines in the log".into()
        },
    );
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

/// The busybox guest with an ext4 and an XFS disk, and a client of its agent.
struct ShellGuest {
    qemu: Guest,
    client: Client,
}

impl ShellGuest {
    /// Starts an agent with these options in a guest where nothing is frozen, no disk is slow and no
    /// agent remembers a freeze, whatever an earlier check has left.
    fn start_agent(&mut self, options: &str) {
        self.qemu.end_slow_write();
        let shell = self.qemu.shell();
        // The new agent learns from the marker that it has to thaw.
        shell.run("touch /run/qga.state.isfrozen");
        shell.restart_agent("");
        self.sync();
        self.client.get("guest-fsfreeze-thaw");
        wait::expect("the thaw", wait::ANSWER, || self.status() == "thawed");
        self.qemu.shell().run("rm -f /data/qga.state*");
        if !options.is_empty() {
            self.restart(options);
        }
    }

    /// Kills the agent, and starts it with these options.
    fn restart(&mut self, options: &str) {
        self.qemu.shell().restart_agent(options);
        self.sync();
    }

    fn sync(&mut self) {
        let synchronized = self.client.sync(wait::ANSWER);
        synchronized.expect("an answer to guest-sync");
    }

    fn status(&mut self) -> Value {
        self.client.get("guest-fsfreeze-status")
    }

    /// Freezes both file systems.
    fn freeze(&mut self) {
        assert_eq!(self.client.get("guest-fsfreeze-freeze"), 2);
    }

    /// Thaws both file systems.
    fn thaw(&mut self) {
        assert_eq!(self.client.get("guest-fsfreeze-thaw"), 2);
    }
}

/// Asserts that the agent does not wake up for 3 seconds.
fn assert_idle(guest: &mut Guest) -> String {
    let mut count = || {
        let count = "grep -h ctxt_switches /proc/$(cat /run/agent.pid)/status";
        guest.shell().run(count)
    };
    // Lets the agent finish its work on recent events.
    let is_settled = || {
        let before = count();
        std::thread::sleep(Duration::from_millis(500));
        (count() == before).then_some(before)
    };
    let before = wait::until(Duration::from_secs(5), is_settled);
    let before = before.expect("the agent comes to rest");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(count(), before);
    "no wake-up in 3 s".into()
}

#[test]
fn an_agent_beside_a_shell_idles_freezes_thaws_and_halts() {
    life_beside_a_shell(Processor::X86_64, "busybox");
}

#[test]
fn an_agent_beside_a_shell_on_aarch64_idles_freezes_thaws_and_halts() {
    life_beside_a_shell(Processor::Aarch64, "busybox, aarch64");
}

fn life_beside_a_shell(processor: Processor, name: &'static str) {
    let mut checks = Checks::new(name);
    let disks = Disks::new();
    disk::raw(&disks.xfs(), Fs::Xfs);
    let mut qemu = Machine::new(Image::Busybox)
        .processor(processor)
        .disk(&disks.ext4())
        .disk(&disks.xfs())
        .boot();
    qemu.wait_shell();
    idleness(&mut checks, &mut qemu);
    let client = qemu.client();
    let mut guest = ShellGuest { qemu, client };
    facts(&mut checks, &mut guest);
    freezes(&mut checks, &mut guest);
    memory_of_a_freeze(&mut checks, &mut guest);
    agents_that_end_while_frozen(&mut checks, &mut guest);
    freeze_timeouts(&mut checks, &mut guest);
    ports_and_replies(&mut checks, &mut guest);
    checks.run("halts", || {
        guest.start_agent("");
        // This program writes to the disk until the shutdown kills it.
        let write = "(while :; do date >/data/last; done) >/dev/null 2>&1 &";
        guest.qemu.shell().run(write);
        let halt = "{\"execute\":\"guest-shutdown\",\"arguments\":{\"mode\":\"halt\"}}\n";
        guest.client.send(halt);
        // QEMU keeps running a halted machine.
        wait::expect("the disk to be unmounted", wait::ANSWER, || {
            disk::ext4_is_clean(&disks.ext4())
        });
        "disk unmounted".into()
    });
    checks.finish();
}

fn idleness(checks: &mut Checks, guest: &mut Guest) {
    checks.run("does not wake up before a client has connected", || {
        assert_idle(guest)
    });
    checks.run("does not wake up while a client is silent", || {
        let _client = guest.client();
        assert_idle(guest)
    });
    checks.run("does not wake up after the client has left", || {
        drop(guest.client());
        assert_idle(guest)
    });
}

fn facts(checks: &mut Checks, guest: &mut ShellGuest) {
    checks.run(
        "is the only program in the guest that can shut it down",
        || {
            let shell = guest.qemu.shell();
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
    checks.run("reports the guest's kernel, host name and mounts", || {
        let client = &mut guest.client;
        let release = guest.qemu.shell().run("uname -r");
        assert_eq!(client.get("guest-get-osinfo")["kernel-release"], release);
        assert_eq!(
            client.get("guest-get-host-name")["host-name"],
            guest.qemu.shell().run("hostname")
        );
        assert_eq!(mountpoints(client), ["/data2", "/data"]);
        release
    });
}

fn freezes(checks: &mut Checks, guest: &mut ShellGuest) {
    checks.run(
        "a freeze of one file system blocks writes there only",
        || {
            guest.start_agent("");
            let only = json!({ "mountpoints": ["/data"] });
            assert_eq!(guest.client.call("guest-fsfreeze-freeze-list", only), 1);
            let shell = guest.qemu.shell();
            let frozen = shell.begin_write("/data");
            shell.begin_write("/data2").wait(shell);
            frozen.assert_blocked(shell);
            assert_eq!(guest.client.get("guest-fsfreeze-thaw"), 1);
            frozen.wait(guest.qemu.shell());
            "/data frozen, /data2 not".into()
        },
    );
    checks.run(
        "a freeze of all blocks all writes, and the agent answers",
        || {
            guest.start_agent("");
            guest.freeze();
            let shell = guest.qemu.shell();
            let writes = ["/data", "/data2"].map(|directory| shell.begin_write(directory));
            for write in &writes {
                write.assert_blocked(shell);
            }
            let client = &mut guest.client;
            for command in ["guest-ping", "guest-info", "guest-fsfreeze-status"] {
                client.get(command);
            }
            let refusal = client
                .try_call("guest-fsfreeze-freeze", json!({}))
                .expect_err("a second freeze is refused");
            assert_eq!(refusal.class, "CommandNotFound");
            guest.thaw();
            for write in &writes {
                write.wait(guest.qemu.shell());
            }
            "2 frozen, 2 thawed".into()
        },
    );
}

fn memory_of_a_freeze(checks: &mut Checks, guest: &mut ShellGuest) {
    checks.run("gives back the memory that a freeze locks", || {
        /// Of all processes, in kB.
        const MOST: u64 = 300;
        guest.start_agent("");
        guest.freeze();
        // The sum over all processes of one line of a file in /proc.
        let mut sum = |name: &str, file: &str| -> u64 {
            let script = format!(
                "for p in $(pidof gaunt); do grep -h ^{name}: /proc/$p/{file}; done \
                 | {{ s=0; while read n kb u; do s=$((s + kb)); done; echo $s; }}"
            );
            let sum = guest.qemu.shell().run(&script);
            sum.trim().parse().expect("a number")
        };
        let (locked, frozen) = (sum("VmLck", "status"), sum("Pss", "smaps_rollup"));
        assert!(frozen > MOST && locked > MOST, "{locked} kB locked");
        // The worker is made right after the thaw.
        let commands = ["guest-fsfreeze-thaw", "guest-get-fsinfo"];
        guest
            .client
            .send(commands.map(|name| request(name, &json!({}))).concat());
        assert_eq!(guest.client.reply()["return"], 2);
        assert!(guest.client.reply()["return"].is_array());
        let mut kb = 0;
        let found = wait::until(wait::ANSWER, || {
            kb = sum("Pss", "smaps_rollup");
            (kb <= MOST).then_some(())
        });
        assert!(found.is_some(), "{kb} kB");
        format!("{locked} kB locked, {frozen} kB while frozen, {kb} kB after")
    });
}

fn agents_that_end_while_frozen(checks: &mut Checks, guest: &mut ShellGuest) {
    checks.run("SIGTERM while frozen ends the agent after the thaw", || {
        guest.start_agent("");
        guest.freeze();
        guest.qemu.shell().run("kill -TERM $(cat /run/agent.pid)");
        guest.client.get("guest-ping");
        guest.thaw();
        wait::expect("the agent to end after the thaw", wait::ANSWER, || {
            guest.qemu.shell().test("! kill -0 $(cat /run/agent.pid)")
        });
        guest.restart("");
        "answers, thaws, and ends".into()
    });
    checks.run(
        "an agent started after one killed while frozen thaws",
        || {
            guest.start_agent("");
            guest.freeze();
            guest.restart("");
            assert_eq!(guest.status(), "frozen");
            let refusal = guest.client.try_call("guest-get-osinfo", json!({}));
            assert_eq!(refusal.expect_err("frozen").class, "CommandNotFound");
            let shell = guest.qemu.shell();
            let write = shell.begin_write("/data");
            write.assert_blocked(shell);
            guest.thaw();
            write.wait(guest.qemu.shell());
            assert_eq!(guest.status(), "thawed");
            "frozen, then thawed 2".into()
        },
    );
    checks.run(
        "starts while its state directory is on a frozen disk",
        || {
            guest.start_agent("-t /data");
            guest.freeze();
            guest.restart("-t /data");
            assert_eq!(guest.status(), "frozen");
            guest.thaw();
            let marker = "test -e /data/qga.state.isfrozen";
            assert!(!guest.qemu.shell().test(marker));
            "frozen, then thawed 2".into()
        },
    );
    checks.run(
        "thaws on request after its port was replugged while frozen",
        || {
            guest.start_agent("");
            guest.freeze();
            guest.qemu.unplug_port();
            guest.qemu.plug_port();
            guest.sync();
            assert_eq!(guest.status(), "frozen");
            guest.thaw();
            "thawed 2".into()
        },
    );
}

fn freeze_timeouts(checks: &mut Checks, guest: &mut ShellGuest) {
    checks.run("a freeze without a thaw ends at the freeze timeout", || {
        // Long enough for a freeze on a busy machine, which must complete before its timeout.
        guest.start_agent("--freeze-timeout=10");
        let start = Instant::now();
        guest.freeze();
        let shell = guest.qemu.shell();
        shell.begin_write("/data").wait(shell);
        let seconds = start.elapsed().as_secs_f32();
        // The timeout begins after the request was sent. The two clocks may differ a little.
        assert!(seconds > 9.0, "after {seconds} s");
        assert_eq!(guest.status(), "thawed");
        // The late thaw answers 0, so the host learns that its snapshot is not consistent.
        assert_eq!(guest.client.get("guest-fsfreeze-thaw"), 0);
        format!("{seconds:.1} s")
    });
    checks.run(
        "a freeze that completes after its timeout is undone",
        || {
            guest.start_agent("--freeze-timeout=3");
            guest.qemu.begin_slow_write();
            let refusal = guest
                .client
                .try_call("guest-fsfreeze-freeze", json!({}))
                .expect_err("the freeze timed out");
            assert_eq!(guest.status(), "frozen", "{}", refusal.desc);
            guest.qemu.end_slow_write();
            wait::expect("the thaw", wait::ANSWER, || guest.status() == "thawed");
            guest.qemu.wait_slow_write();
            let shell = guest.qemu.shell();
            shell.begin_write("/data").wait(shell);
            assert_eq!(guest.client.get("guest-fsfreeze-thaw"), 0);
            refusal.desc
        },
    );
}

fn ports_and_replies(checks: &mut Checks, guest: &mut ShellGuest) {
    checks.run("the port may be unplugged and plugged in", || {
        guest.start_agent("");
        guest.qemu.unplug_port();
        std::thread::sleep(Duration::from_millis(500));
        guest.qemu.plug_port();
        guest.sync();
        "synchronized".into()
    });
    checks.run(
        "answers a thousand requests whose replies are read late",
        || {
            guest.start_agent("");
            let client = &mut guest.client;
            for id in 0..1000 {
                client.send(format!("{{\"execute\":\"guest-ping\",\"id\":{id}}}\n"));
            }
            for id in 0..1000 {
                assert_eq!(client.reply()["id"], id);
            }
            let resident = "grep VmRSS /proc/$(cat /run/agent.pid)/status";
            let resident = guest.qemu.shell().run(resident);
            let words: Vec<_> = resident.split_whitespace().skip(1).collect();
            words.join(" ")
        },
    );
}
