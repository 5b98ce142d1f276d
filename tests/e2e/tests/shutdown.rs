//! Shutdown where something is in its way, and agents that may not shut down at all.

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

/// Starts an agent on the second port by way of `wrapper`, and connects to it.
fn start_second(guest: &mut Guest, wrapper: &str) -> Client {
    let port = guest.second_port();
    guest.shell().run(&format!(
        "{wrapper} /usr/bin/gaunt -p {port} </dev/null >/run/second.log 2>&1 & echo $! >/run/second.pid"
    ));
    let mut client = Client::connect(&guest.second_socket());
    assert!(client.sync(wait::ANSWER).is_some(), "no agent at {port}");
    client
}

#[test]
fn a_container_is_not_the_machine() {
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
    checks.run("PID 1 of a container has none of the duties", || {
        let name = guest.shell().run("hostname");
        assert_eq!(name, "gaunt-busybox");
        name
    });
    for mode in ["powerdown", "halt", "reboot"] {
        checks.run("its shutdown is an error, and nothing is done", || {
            let refusal = client
                .try_call("guest-shutdown", json!({ "mode": mode }))
                .expect_err("the machine is not its own");
            assert_eq!(refusal.class, "GenericError");
            assert!(refusal.desc.contains("container"), "{}", refusal.desc);
            guest.shell().run("echo x >/data/file && sync /data/file");
            machine.get("guest-ping");
            client.get("guest-ping");
            refusal.desc
        });
    }
    checks.run("it buries the orphans of its container", || {
        let arguments = json!({ "path": "/bin/sh", "arg": ["-c", "sleep 0.1 & exit"] });
        client.call("guest-exec", arguments);
        std::thread::sleep(Duration::from_millis(300));
        let zombies = "grep -l '^State:.Z' /proc/[0-9]*/status";
        wait::expect("no zombies", wait::ANSWER, || !guest.shell().test(zombies));
        "none left".into()
    });
    checks.run("SIGTERM ends it", || {
        let agent = "pidof gaunt | tr ' ' '\\n' | grep -vx $(cat /run/agent.pid)";
        let pid = guest.shell().run(agent);
        guest.shell().run(&format!("kill -TERM {pid}"));
        wait::expect("its end", wait::ANSWER, || !guest.shell().test(agent));
        pid
    });
    drop(client);
    checks.run("the init of a container is not told either", || {
        let port = guest.second_port();
        let prepare = format!(
            "ln -s /bin/busybox /run/init; echo ::once:/usr/bin/gaunt -p {port} >/etc/inittab"
        );
        guest.shell().run(&prepare);
        let container = "unshare -p -f --mount-proc /run/init >/dev/null 2>&1 &";
        guest.shell().run(container);
        let mut client = Client::connect(&guest.second_socket());
        client.sync(wait::ANSWER).expect("the agent below the init");
        let refusal = client
            .try_call("guest-shutdown", json!({}))
            .expect_err("the machine is not its own");
        assert!(refusal.desc.contains("container"), "{}", refusal.desc);
        let pids = guest.shell().run("pidof init");
        // Signalled, the init would end all others of its container first.
        std::thread::sleep(Duration::from_secs(1));
        client.get("guest-ping");
        assert_eq!(guest.shell().run("pidof init"), pids);
        guest.shell().run(&format!("kill -KILL {pids}"));
        "not told".into()
    });
    checks.run(
        "with the machine's processes it shuts the machine down",
        || {
            let mut client = start_second(&mut guest, "unshare -m -u -n -i");
            client.send("{\"execute\":\"guest-shutdown\"}\n");
            assert_eq!(guest.shutdown_reason(), "guest-shutdown");
            assert!(guest.wait_end(wait::ANSWER).success());
            assert!(disk::ext4_is_at_rest(&ext4));
            "powered off, disk at rest".into()
        },
    );
    checks.finish();
}

/// Processes that are in the way.
const STUCK: &str = env!("CARGO_BIN_EXE_stuck");
const HOSTILE: &str = env!("CARGO_BIN_EXE_hostile");

/// Inserts the modules that a test has added, if the kernel does not have them built in.
const INSERT: &str = "for m in /root/modules/*.ko; do if [ -e $m ]; then insmod $m; fi; done";

/// Starts a process that is in the way, called `name`, and waits until it is.
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
fn no_user_is_in_the_way_of_a_shutdown() {
    let mut checks = Checks::new("in the way");
    let scratch = Scratch::new();
    let ext4 = scratch.join("ext4.raw");
    disk::raw(&ext4, Fs::Ext4);
    // For its libraries; the program itself is hidden where the guest mounts something over it.
    let archive = Cpio::new().program(Path::new(STUCK));
    let archive = archive.copy("root/stuck", Path::new(STUCK));
    let archive = Modules::of(&["fuse"]).put(archive);
    let mut guest = Machine::new(Image::Busybox)
        .disk(&ext4)
        .overlay(&archive.finish())
        .boot();
    guest.wait_shell();
    let mut client = guest.client();
    let shell = guest.shell();
    shell.run(INSERT);
    shell.run("mkdir -m 777 /data/d /tmp/fuse /tmp/silent");
    // Numbers that are higher than that of the child which ends them, as in a guest whose numbers have
    // begun anew.
    guest
        .shell()
        .run("echo 30000 >/proc/sys/kernel/ns_last_pid");
    start_stuck(&mut guest, "told", "told 0");
    start_stuck(&mut guest, "@storage", "told 0");
    start_stuck(&mut guest, "@user", "told 1000");
    guest.shell().run("echo 1000 >/proc/sys/kernel/ns_last_pid");
    start_stuck(&mut guest, "forks", "fork /data/d");
    // Of root's, before those whose name must be asked for.
    start_stuck(&mut guest, "silent", "memory 0 /tmp/silent");
    start_stuck(&mut guest, "memory", "memory 1000 /tmp/fuse");
    checks.run("the command line of a process cannot be read", || {
        let shell = guest.shell();
        let pid = shell.run("cat /run/stuck");
        let read = format!("cat /proc/{pid}/cmdline >/run/read 2>&1");
        shell.run(&format!("({read}; touch /run/was-read) >/dev/null 2>&1 &"));
        std::thread::sleep(Duration::from_secs(1));
        assert!(!shell.test("test -e /run/was-read"));
        assert!(shell.test("test -s /data/d/forked"));
        let status = shell.run(&format!("grep -E '^(Uid|VmSize):' /proc/{pid}/status"));
        assert!(status.contains("1000") && status.contains("kB"), "{status}");
        "never answers".into()
    });
    checks.run("powers off within seconds, the disk clean", || {
        let start = Instant::now();
        client.send("{\"execute\":\"guest-shutdown\"}\n");
        assert!(guest.wait_end(wait::ANSWER).success());
        assert!(disk::ext4_is_at_rest(&ext4));
        format!("{:.1} s", start.elapsed().as_secs_f32())
    });
    checks.run("only storage daemons of root's were spared", || {
        let serial = guest.serial();
        let told: Vec<_> = serial
            .lines()
            .filter(|line| line.contains("told to end"))
            .collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(serial.contains("told to end: told of 0"), "{told:?}");
        assert!(serial.contains("told to end: @user of 1000"), "{told:?}");
        told.join(", ")
    });
    checks.finish();
}

/// How a disk is hidden, by a script that is given the device and a directory of its own.
type Hidden = (&'static str, &'static str);

/// Disks that can be found again.
const COVERED: &[Hidden] = &[
    ("under a tmpfs", "mount $1 $2; mount -t tmpfs none $2"),
    (
        "under two, which hold others",
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
        "under a FUSE server's",
        "mount $1 $2; /root/hostile mute $2 >/dev/null 2>&1 & sleep 1",
    ),
];

/// Disks that only the kernel finds.
const OUT_OF_REACH: &[Hidden] = &[
    (
        "mounted nowhere, but in use",
        "mount $1 $2; dd if=/dev/zero of=$2/image bs=1M count=1; losetup /dev/loop7 $2/image
         umount -l $2",
    ),
    (
        "under a tmpfs in use",
        "mount $1 $2; mount -t tmpfs none $2; cd $2; ln -s /root/stuck /bin/@inside
         @inside told 0 </dev/null >/dev/null 2>&1 & sleep 1",
    ),
    (
        "in a mount namespace without processes",
        "mkdir $2/m; mount -t tmpfs none $2/m; mount --make-private $2/m; touch $2/m/ns
         unshare --mount=$2/m/ns mount $1 $2",
    ),
];

/// Has a guest hide disks, prepares it by a last command, and shuts it down.
fn check_hidden(checks: &mut Checks, hidden: &[Hidden], last: impl FnOnce(&mut Guest)) {
    let scratch = Scratch::new();
    let image = |place: usize| scratch.join(&format!("{place}.raw"));
    let archive = Cpio::new().program(Path::new(STUCK));
    let archive = archive
        .copy("root/stuck", Path::new(STUCK))
        .copy("root/hostile", Path::new(HOSTILE));
    let archive = Modules::of(&["fuse"]).put(archive);
    let mut machine = Machine::new(Image::Busybox).overlay(&archive.finish());
    for place in 0..=hidden.len() {
        disk::raw(&image(place), Fs::Ext4);
        machine = machine.disk(&image(place));
    }
    let mut guest = machine.boot();
    guest.wait_shell();
    let mut client = guest.client();
    guest.shell().run(INSERT);
    // The first disk is mounted on /data.
    for (place, (how, script)) in hidden.iter().enumerate() {
        let shell = guest.shell();
        shell.run(&format!(
            "mkdir -p /mnt/{place}; cat >/run/hide <<'END'\n{script}\nEND"
        ));
        let device = char::from(b'b' + place as u8);
        shell.run(&format!("sh -e /run/hide /dev/vd{device} /mnt/{place}"));
        assert!(!disk::ext4_is_at_rest(&image(place + 1)), "{how}");
    }
    last(&mut guest);
    let start = Instant::now();
    client.send("{\"execute\":\"guest-shutdown\"}\n");
    checks.run("powers off", || {
        assert!(guest.wait_end(wait::ANSWER).success());
        format!("{:.1} s", start.elapsed().as_secs_f32())
    });
    for (place, (how, _)) in hidden.iter().enumerate() {
        checks.run(how, || {
            assert!(disk::ext4_is_at_rest(&image(place + 1)));
            "clean".into()
        });
    }
}

#[test]
fn covered_disks_end_clean() {
    let mut checks = Checks::new("covered disks");
    check_hidden(&mut checks, COVERED, |guest| {
        // So that the kernel cannot be asked to make all disks read-only.
        let shell = guest.shell();
        shell.run("touch /run/trigger; mount --bind /run/trigger /proc/sysrq-trigger");
        start_stuck(guest, "@holder", "told 0 </proc/sysrq-trigger");
    });
    checks.finish();
}

#[test]
fn disks_out_of_reach_end_clean() {
    let mut checks = Checks::new("disks out of reach");
    check_hidden(&mut checks, OUT_OF_REACH, |_| ());
    checks.finish();
}
