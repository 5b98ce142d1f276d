//! Shutdown despite hostile processes and hidden disks, and agents in containers, which must not shut
//! the machine down.
//!
//! Guests: the busybox image, with a second port for an agent in a container; with the program `stuck`;
//! and with disks that later mounts hide. Needs QEMU and the images.

use std::path::Path;
use std::time::{Duration, Instant};

use gaunt_e2e::checks::Checks;
use gaunt_e2e::client::Client;
use gaunt_e2e::cpio::Cpio;
use gaunt_e2e::disk::{self, Fs};
use gaunt_e2e::guest::{Guest, Image, Machine};
use gaunt_e2e::modules::Modules;
use gaunt_e2e::scratch::Scratch;
use gaunt_e2e::wait;
use serde_json::json;

/// Kills every agent but the image's own, and the inits of containers, so that the second port is free.
fn free_second_port(guest: &mut Guest) {
    guest.shell().run(
        "for p in $(pidof gaunt init); do \
         if [ $p != 1 ] && [ $p != $(cat /run/agent.pid) ]; then kill -KILL $p; fi; done; true",
    );
}

/// Starts an agent on the second port through `launcher`, and connects to it.
fn start_second(guest: &mut Guest, launcher: &str) -> Client {
    free_second_port(guest);
    let port = guest.second_port();
    guest.shell().run(&format!(
        "{launcher} /usr/bin/gaunt -p {port} </dev/null >/run/second.log 2>&1 & echo $! >/run/second.pid"
    ));
    let mut client = Client::connect(&guest.second_socket());
    assert!(client.sync(wait::ANSWER).is_some(), "no agent at {port}");
    client
}

#[test]
fn an_agent_in_a_container_does_not_shut_the_machine_down() {
    let mut checks = Checks::new("container");
    let scratch = Scratch::new();
    let ext4 = scratch.join("ext4.raw");
    disk::raw(&ext4, Fs::Ext4);
    let mut guest = Machine::new(Image::Busybox)
        .second_port()
        .disk(&ext4)
        .boot();
    guest.wait_shell();
    let mut machine = guest.client();
    guest.shell().run("echo container >/etc/hostname");
    let mut client = start_second(&mut guest, "unshare -p -f --mount-proc");
    checks.run("PID 1 of a container does not set the host name", || {
        let name = guest.shell().run("hostname");
        assert_eq!(name, "gaunt-busybox");
        name
    });
    for mode in ["powerdown", "halt", "reboot"] {
        checks.run("refuses to shut down from a container", || {
            let refusal = client
                .try_call("guest-shutdown", json!({ "mode": mode }))
                .expect_err("the agent is in a container");
            assert_eq!(refusal.class, "GenericError");
            assert!(refusal.desc.contains("container"), "{}", refusal.desc);
            guest.shell().run("echo x >/data/file && sync /data/file");
            machine.get("guest-ping");
            client.get("guest-ping");
            refusal.desc
        });
    }
    checks.run("reaps the orphans of its container", || {
        let arguments = json!({ "path": "/bin/sh", "arg": ["-c", "sleep 0.1 & exit"] });
        client.call("guest-exec", arguments);
        std::thread::sleep(Duration::from_millis(300));
        let zombies = "grep -l '^State:.Z' /proc/[0-9]*/status";
        wait::expect("no zombies", wait::ANSWER, || !guest.shell().test(zombies));
        "no zombies".into()
    });
    checks.run("ends on SIGTERM", || {
        let agent = "pidof gaunt | tr ' ' '\\n' | grep -vx $(cat /run/agent.pid)";
        let pid = guest.shell().run(agent);
        guest.shell().run(&format!("kill -TERM {pid}"));
        wait::expect("the agent to end", wait::ANSWER, || {
            !guest.shell().test(agent)
        });
        pid
    });
    drop(client);
    checks.run("does not signal the init of its container", || {
        free_second_port(&mut guest);
        let port = guest.second_port();
        let prepare = format!(
            "ln -sf /bin/busybox /run/init; echo ::once:/usr/bin/gaunt -p {port} >/etc/inittab"
        );
        guest.shell().run(&prepare);
        let container = "unshare -p -f --mount-proc /run/init >/dev/null 2>&1 &";
        guest.shell().run(container);
        let mut client = Client::connect(&guest.second_socket());
        client.sync(wait::ANSWER).expect("the agent below the init");
        let refusal = client
            .try_call("guest-shutdown", json!({}))
            .expect_err("the agent is in a container");
        assert!(refusal.desc.contains("container"), "{}", refusal.desc);
        let pids = guest.shell().run("pidof init");
        // On a signal the init would first end the other processes of its container.
        std::thread::sleep(Duration::from_secs(1));
        client.get("guest-ping");
        assert_eq!(guest.shell().run("pidof init"), pids);
        guest.shell().run(&format!("kill -KILL {pids}"));
        "no signal".into()
    });
    checks.run(
        "shuts down from namespaces that include the machine's processes",
        || {
            let mut client = start_second(&mut guest, "unshare -m -u -n -i");
            client.send("{\"execute\":\"guest-shutdown\"}\n");
            assert_eq!(guest.shutdown_reason(), "guest-shutdown");
            assert!(guest.wait_end(wait::ANSWER).success());
            assert!(disk::ext4_is_clean(&ext4));
            "powered off, disk clean".into()
        },
    );
    checks.finish();
}

/// `src/bin/stuck.rs` and `src/bin/hostile.rs`, on this machine.
const STUCK: &str = env!("CARGO_BIN_EXE_stuck");
const HOSTILE: &str = env!("CARGO_BIN_EXE_hostile");

/// Starts `stuck` under the name `name`, and waits until it is ready.
fn start_stuck(guest: &mut Guest, name: &str, words: &str) {
    let shell = guest.shell();
    shell.run(&format!(
        "rm -f /run/stuck; ln -s /root/stuck /bin/{name}; {name} </dev/null {words} >>/run/stuck.log 2>&1 &"
    ));
    let ready = wait::until(wait::ANSWER, || {
        shell.test("test -s /run/stuck").then_some(())
    });
    assert!(
        ready.is_some(),
        "{name}: {}",
        shell.run("cat /run/stuck.log")
    );
}

#[test]
fn processes_of_users_do_not_hinder_a_shutdown() {
    let mut checks = Checks::new("hostile processes");
    let scratch = Scratch::new();
    let ext4 = scratch.join("ext4.raw");
    disk::raw(&ext4, Fs::Ext4);
    // `program` adds the libraries. A later mount hides the program at its own path, hence the copy.
    let archive = Cpio::new().program(Path::new(STUCK));
    let archive = archive.copy("root/stuck", Path::new(STUCK));
    let archive = Modules::of(&["fuse"]).put(archive);
    let mut guest = Machine::new(Image::Busybox)
        .disk(&ext4)
        .overlay(&archive.finish())
        .agent("-v")
        .agent("--logfile=/dev/kmsg")
        // The serial port shows notices of the kernel's log.
        .kernel("loglevel=6")
        .boot();
    guest.wait_shell();
    let mut client = guest.client();
    let shell = guest.shell();
    Modules::insert(shell);
    shell.run("mkdir -m 777 /data/d /tmp/fuse /tmp/silent /tmp/held");
    // Processes with ids above that of the child that ends processes, as after ids have wrapped.
    guest
        .shell()
        .run("echo 30000 >/proc/sys/kernel/ns_last_pid");
    start_stuck(&mut guest, "waiter", "wait 0");
    start_stuck(&mut guest, "@storage", "wait 0");
    start_stuck(&mut guest, "@user", "wait 1000");
    guest.shell().run("echo 1000 >/proc/sys/kernel/ns_last_pid");
    start_stuck(&mut guest, "forks", "fork /data/d");
    // A read of the name of `silent`, a process of root, hangs. Its process id is below those of `waiter`
    // and `@storage`, whose names the agent must still read.
    start_stuck(&mut guest, "silent", "memory 0 /tmp/silent");
    start_stuck(&mut guest, "reads", "read 1000 /tmp/held");
    start_stuck(&mut guest, "memory", "memory 1000 /tmp/fuse");
    checks.run("the log is in the kernel's", || {
        let said = guest.shell().run("dmesg | grep gaunt:");
        assert!(said.contains("gaunt: port open: "), "{said}");
        said
    });
    checks.run("the command line of a process cannot be read", || {
        let shell = guest.shell();
        let pid = shell.run("cat /run/stuck");
        let read = format!("cat /proc/{pid}/cmdline >/run/read 2>&1");
        shell.run(&format!("({read}; touch /run/was-read) >/dev/null 2>&1 &"));
        wait::expect("a fork", wait::ANSWER, || {
            shell.test("test -s /data/d/forked")
        });
        std::thread::sleep(wait::SETTLE);
        assert!(!shell.test("test -e /run/was-read"));
        let status = shell.run(&format!("grep -E '^(Uid|VmSize):' /proc/{pid}/status"));
        assert!(status.contains("1000") && status.contains("kB"), "{status}");
        "the read never ends".into()
    });
    checks.run("powers off within seconds with a clean disk", || {
        let start = Instant::now();
        client.send("{\"execute\":\"guest-shutdown\"}\n");
        assert!(guest.wait_end(wait::ANSWER).success());
        assert!(disk::ext4_is_clean(&ext4));
        format!("{:.1} s", start.elapsed().as_secs_f32())
    });
    checks.run(
        "aborts the FUSE connection of a process that outlives SIGKILL",
        || {
            let serial = guest.serial();
            let aborted = "gaunt: FUSE connections that did not answer were aborted";
            assert!(serial.contains(aborted), "{serial}");
            aborted.to_owned()
        },
    );
    checks.run("spares only storage daemons of root", || {
        let serial = guest.serial();
        let signalled: Vec<_> = serial
            .lines()
            .filter(|line| line.contains("got SIGTERM"))
            .collect();
        assert_eq!(signalled.len(), 2, "{signalled:?}");
        assert!(serial.contains("got SIGTERM: waiter of 0"), "{signalled:?}");
        assert!(
            serial.contains("got SIGTERM: @user of 1000"),
            "{signalled:?}"
        );
        signalled.join(", ")
    });
    checks.finish();
}

/// A way to hide a disk: description, and a script whose arguments are the device and a directory.
type Hidden = (&'static str, &'static str);

/// Hidden disks that the agent can find.
const HIDDEN: &[Hidden] = &[
    ("under a tmpfs", "mount $1 $2; mount -t tmpfs none $2"),
    (
        "under two tmpfs, with another mounted on top",
        "mount $1 $2; mount -t tmpfs none $2; mount -t tmpfs none $2; mkdir $2/a
         mount -t tmpfs none $2/a",
    ),
    (
        "in a directory under a tmpfs",
        "mkdir $2/a; mount $1 $2/a; mount -t tmpfs none $2",
    ),
    (
        "under a tmpfs, with a directory bound elsewhere",
        "mkdir $2/a $2/b; mount $1 $2/a; mkdir $2/a/c; mount --bind $2/a/c $2/b
         mount -t tmpfs none $2/a",
    ),
    (
        "under another disk's directory",
        "mount $1 $2; mount --bind /data $2",
    ),
    (
        "under a FUSE file system that never answers",
        "mount $1 $2; /root/hostile mute $2 >/dev/null 2>&1 &
         until grep -q \" $2 fuse\" /proc/mounts; do sleep 0.1; done",
    ),
];

/// Hidden disks that only the kernel can find.
const OUT_OF_REACH: &[Hidden] = &[
    (
        "mounted nowhere, but in use",
        "mount $1 $2; dd if=/dev/zero of=$2/image bs=1M count=1; losetup /dev/loop7 $2/image
         umount -l $2",
    ),
    (
        "under a tmpfs in use",
        "mount $1 $2; mount -t tmpfs none $2; cd $2; ln -s /root/stuck /bin/@inside; rm -f /run/stuck
         @inside wait 0 </dev/null >/dev/null 2>&1 &
         until [ -s /run/stuck ]; do sleep 0.1; done",
    ),
    (
        "in a mount namespace without processes",
        "mkdir $2/m; mount -t tmpfs none $2/m; mount --make-private $2/m; touch $2/m/ns
         unshare --mount=$2/m/ns mount $1 $2",
    ),
];

/// Hides disks in a guest, runs `prepare`, and shuts the guest down. All disks must be clean.
fn check_hidden(checks: &mut Checks, hidden: &[Hidden], prepare: impl FnOnce(&mut Guest)) {
    let scratch = Scratch::new();
    let image = |number: usize| scratch.join(&format!("{number}.raw"));
    let archive = Cpio::new().program(Path::new(STUCK));
    let archive = archive
        .copy("root/stuck", Path::new(STUCK))
        .copy("root/hostile", Path::new(HOSTILE));
    let archive = Modules::of(&["fuse"]).put(archive);
    let mut machine = Machine::new(Image::Busybox).overlay(&archive.finish());
    for number in 0..=hidden.len() {
        disk::raw(&image(number), Fs::Ext4);
        machine = machine.disk(&image(number));
    }
    let mut guest = machine.boot();
    guest.wait_shell();
    let mut client = guest.client();
    Modules::insert(guest.shell());
    // The first disk is mounted on /data.
    for (number, (how, script)) in (1..).zip(hidden) {
        let shell = guest.shell();
        shell.run(&format!(
            "mkdir -p /mnt/{number}; cat >/run/hide <<'END'\n{script}\nEND"
        ));
        let device = char::from(b'a' + number as u8);
        shell.run(&format!("sh -e /run/hide /dev/vd{device} /mnt/{number}"));
        assert!(!disk::ext4_is_clean(&image(number)), "{how}");
    }
    prepare(&mut guest);
    let start = Instant::now();
    client.send("{\"execute\":\"guest-shutdown\"}\n");
    checks.run("powers off", || {
        assert!(guest.wait_end(wait::ANSWER).success());
        format!("{:.1} s", start.elapsed().as_secs_f32())
    });
    for (number, (how, _)) in (1..).zip(hidden) {
        checks.run(how, || {
            assert!(disk::ext4_is_clean(&image(number)));
            "clean".into()
        });
    }
}

#[test]
fn hidden_disks_are_clean_after_a_shutdown() {
    let mut checks = Checks::new("hidden disks");
    check_hidden(&mut checks, HIDDEN, |guest| {
        // Without sysrq-trigger the agent cannot have the kernel remount all disks read-only.
        let shell = guest.shell();
        shell.run("touch /run/trigger; mount --bind /run/trigger /proc/sysrq-trigger");
        start_stuck(guest, "@holder", "wait 0 </proc/sysrq-trigger");
    });
    checks.finish();
}

#[test]
fn disks_out_of_reach_are_clean_after_a_shutdown() {
    let mut checks = Checks::new("disks out of reach");
    check_hidden(&mut checks, OUT_OF_REACH, |_| ());
    checks.finish();
}
