//! Mount points whose path does not lead to the mounted file system: hidden by a later mount, changed
//! by a user during the lookup, or longer than a path may be; and a marker that another user made.
//!
//! Guest: the busybox image with five disks, each hidden in another way. A freeze is checked on the
//! disks: writes must block, and the image on the host must need no recovery. Needs QEMU, the images and
//! btrfs-progs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gaunt_e2e::checks::Checks;
use gaunt_e2e::client::Client;
use gaunt_e2e::cpio::Cpio;
use gaunt_e2e::disk::{self, Fs};
use gaunt_e2e::guest::{Guest, Image, Machine};
use gaunt_e2e::modules::Modules;
use gaunt_e2e::process::program;
use gaunt_e2e::scratch::Scratch;
use gaunt_e2e::shell::GuestShell;
use gaunt_e2e::wait;
use serde_json::{Value, json};

/// The program that makes paths hard to look up: on this machine, and in the guest.
const BUILT: &str = env!("CARGO_BIN_EXE_hostile");
const HOSTILE: &str = "/root/hostile";

/// Number of freezes while directories are renamed.
const ROUNDS: usize = 10;

/// A program in the guest that writes a counter to a file in its working directory. So it stays on its
/// file system whatever happens to the path, and the counter can be read through /proc.
struct Writer {
    pid: String,
}

impl Writer {
    fn start(shell: &mut GuestShell, directory: &str) -> Writer {
        let pid = shell.run(&format!(
            "cd {directory}; (n=0; while :; do n=$((n+1)); echo $n >count; sleep 0.1; done) \
             >/dev/null 2>&1 & echo $! | tee -a /run/started"
        ));
        let writer = Writer { pid };
        writer.assert_writes(shell);
        writer
    }

    fn count(&self, shell: &mut GuestShell) -> String {
        shell.run(&format!("cat /proc/{}/cwd/count || true", self.pid))
    }

    /// Returns whether no write completes for a while.
    fn is_blocked(&self, shell: &mut GuestShell) -> bool {
        let before = self.count(shell);
        std::thread::sleep(wait::SETTLE);
        self.count(shell) == before
    }

    fn assert_writes(&self, shell: &mut GuestShell) {
        let before = self.count(shell);
        wait::expect("a write", wait::ANSWER, || self.count(shell) != before);
    }
}

/// Returns the entry of guest-get-fsinfo with this mount point, which must be the only one.
fn listed(client: &mut Client, mount_point: &str) -> Value {
    let list = client.get("guest-get-fsinfo");
    let list = list.as_array().expect("a list").iter();
    let mut found = list.filter(|fs| fs["mountpoint"] == mount_point);
    let fs = found
        .next()
        .unwrap_or_else(|| panic!("{mount_point} is not listed"));
    assert!(found.next().is_none(), "{mount_point} is listed twice");
    fs.clone()
}

/// Trims all file systems. Returns the result for this mount point.
fn trimmed(client: &mut Client, mount_point: &str) -> Value {
    let reply = client.get("guest-fstrim");
    let paths = reply["paths"].as_array().expect("a list");
    let found = paths.iter().find(|path| path["path"] == mount_point);
    found.unwrap_or_else(|| panic!("{reply}")).clone()
}

/// Returns whether an entry of guest-get-fsinfo has the size that the guest sees at `path`.
fn has_size_of(shell: &mut GuestShell, fs: &Value, path: &str) -> bool {
    let seen = shell.run(&format!("stat -f -c '%b %S' {path}"));
    let mut numbers = seen
        .split(' ')
        .map(|number| number.parse::<u64>().expect("a number"));
    let (blocks, bytes) = (
        numbers.next().expect("blocks"),
        numbers.next().expect("bytes"),
    );
    fs["total-bytes-privileged"] == blocks * bytes
}

fn freeze(client: &mut Client, mount_points: &[&str]) -> Value {
    let which = json!({ "mountpoints": mount_points });
    client.call("guest-fsfreeze-freeze-list", which)
}

/// Freezes and thaws all file systems [`ROUNDS`] times while directories are renamed.
fn assert_freezes_hold(
    guest: &mut Guest,
    client: &mut Client,
    writer: &Writer,
    all: usize,
) -> String {
    let mut longest = Duration::ZERO;
    for round in 0..ROUNDS {
        let start = Instant::now();
        let frozen = client.get("guest-fsfreeze-freeze");
        longest = longest.max(start.elapsed());
        assert_eq!(frozen, all, "round {round}");
        // Only in some rounds, because the check takes time.
        if round % 5 == 0 {
            assert!(writer.is_blocked(guest.shell()), "round {round}");
        }
        let start = Instant::now();
        assert_eq!(client.get("guest-fsfreeze-thaw"), all, "round {round}");
        longest = longest.max(start.elapsed());
        writer.assert_writes(guest.shell());
    }
    format!("{ROUNDS} freezes, the longest call {longest:.1?}")
}

fn start(shell: &mut GuestShell, words: &str) {
    shell.run(&format!(
        "{HOSTILE} {words} >/run/hostile.log 2>&1 & echo $! >>/run/started"
    ));
}

/// Restores the state in which each check begins, even if the one before failed: no program of a test,
/// a new agent, nothing frozen, and only /data mounted.
fn begin(guest: &mut Guest, client: &mut Client) {
    guest.shell().run(
        "for pid in $(cat /run/started 2>/dev/null); do kill -KILL $pid; done; \
         rm -f /run/started",
    );
    start_agent(guest, client, "");
    let _ = client.try_call("guest-fsfreeze-thaw", json!({}));
    guest.shell().run(
        "for path in /a /a /t /hidden /hidden/s /whole /h /h/disk /h /f/file; do \
         umount -l $path; done 2>/dev/null; \
         umount -l /home/user/*/e/disk /home/user/*/disk /home/user/*/e 2>/dev/null; \
         mv /dev/moved /dev/vdc 2>/dev/null; rm -rf /home/user/* /h/*; true",
    );
}

/// Kills the agent and starts another with these arguments.
fn start_agent(guest: &mut Guest, client: &mut Client, arguments: &str) {
    guest.shell().restart_agent(arguments);
    // QEMU may drop bytes that arrive while no agent has the port open.
    let turn = Duration::from_secs(3);
    wait::until(wait::ANSWER, || client.sync(turn)).expect("an answer to guest-sync");
}

/// The disks of the guest, besides the one on /data, whose path leads to it.
const BY_BIND_MOUNT: &str = "/dev/vda";
const RENAMED: &str = "/dev/vdb";
const BTRFS: &str = "/dev/vdc";
const HIDDEN: &str = "/dev/vdd";

#[test]
fn freezes_reach_file_systems_whose_path_leads_elsewhere() {
    let mut checks = Checks::new("mounts");
    let scratch = Scratch::new();
    let image = |name: &str, fs| -> PathBuf {
        let path = scratch.join(name);
        disk::raw(&path, fs);
        path
    };
    let archive = Cpio::new()
        .program(Path::new(BUILT))
        .copy("root/hostile", Path::new(BUILT))
        .program(&program("btrfs", "btrfs-progs"));
    let modules = Modules::of(&["btrfs"]);
    let covered = image("covered.raw", Fs::Ext4);
    let mut guest = Machine::new(Image::Busybox)
        .overlay(&modules.put(archive).finish())
        .kernel("image.mount=off")
        .disk(&covered)
        .disk(&image("renamed.raw", Fs::Xfs))
        .disk(&image("btrfs.raw", Fs::Btrfs))
        .disk(&image("hidden.raw", Fs::Ext4))
        .disk(&image("plain.raw", Fs::Ext4))
        .boot();
    guest.wait_shell();
    Modules::insert(guest.shell());
    guest
        .shell()
        .run("mount -t ext4 /dev/vde /data; mkdir /a /t /hidden /whole /h /f /deep");
    let mut client = guest.client();
    let mut run = |name, check: &dyn Fn(&mut Guest, &mut Client) -> String| {
        checks.run(name, || {
            begin(&mut guest, &mut client);
            check(&mut guest, &mut client)
        });
    };
    run(
        "a hidden disk is reached by its bind mount",
        &|guest, client| reached_by_bind_mount(guest, client, &covered),
    );
    run("btrfs is reached by another subvolume", &another_subvolume);
    run(
        "btrfs whose device has no node is frozen",
        &btrfs_without_node,
    );
    run("a user who renames directories diverts no freeze", &renamed);
    run(
        "a user who renames directories makes no freeze wait for FUSE",
        &mute,
    );
    run(
        "a disk with only a bind mount of a file is frozen",
        &only_a_file,
    );
    run(
        "a disk that cannot be reached is an error that names it",
        &unreachable,
    );
    run(
        "a disk that was hidden while frozen is thawed",
        &covered_while_frozen,
    );
    run("a marker that a user made is ignored", &marked_by_a_user);
    run(
        "a path that is too long is an error that names it",
        &too_long,
    );
    checks.finish();
}

/// Freezes and thaws all file systems, which must be `count`. Asserts that the writer is blocked meanwhile.
fn freeze_all(guest: &mut Guest, client: &mut Client, writer: &Writer, count: usize) {
    assert_eq!(client.get("guest-fsfreeze-freeze"), count);
    assert!(writer.is_blocked(guest.shell()));
    assert_eq!(client.get("guest-fsfreeze-thaw"), count);
    writer.assert_writes(guest.shell());
}

fn reached_by_bind_mount(guest: &mut Guest, client: &mut Client, image: &Path) -> String {
    let shell = guest.shell();
    shell.run(&format!(
        "mount -t ext4 {BY_BIND_MOUNT} /a; mkdir -p /a/sub; mount --bind /a/sub /t; \
         mount -t tmpfs none /a"
    ));
    let fs = listed(client, "/a");
    assert!(has_size_of(shell, &fs, "/t"), "{fs}");
    assert!(trimmed(client, "/a")["trimmed"].is_u64());
    let writer = Writer::start(shell, "/t");
    freeze_all(guest, client, &writer, 2);
    // The first mount names the file system, even if it is hidden.
    assert_eq!(freeze(client, &["/t"]), 0);
    assert_eq!(freeze(client, &["/a"]), 1);
    assert!(disk::ext4_is_clean(image));
    assert!(writer.is_blocked(guest.shell()));
    assert_eq!(client.get("guest-fsfreeze-thaw"), 1);
    fs.to_string()
}

fn another_subvolume(guest: &mut Guest, client: &mut Client) -> String {
    let shell = guest.shell();
    let btrfs = program("btrfs", "btrfs-progs");
    shell.run(&format!(
        "mount -t btrfs {BTRFS} /whole; {} subvolume create /whole/s; umount /whole; \
         mkdir -p /hidden/s; mount -t btrfs -o subvol=s {BTRFS} /hidden/s; \
         mount -t btrfs {BTRFS} /whole; mount -t tmpfs none /hidden",
        btrfs.display()
    ));
    let fs = listed(client, "/hidden/s");
    assert_eq!(fs["name"], "vdc");
    let writer = Writer::start(shell, "/whole");
    freeze_all(guest, client, &writer, 2);
    assert!(has_size_of(guest.shell(), &fs, "/whole"), "{fs}");
    fs.to_string()
}

fn btrfs_without_node(guest: &mut Guest, client: &mut Client) -> String {
    let shell = guest.shell();
    shell.run(&format!(
        "mount -t btrfs {BTRFS} /whole; mv {BTRFS} /dev/moved"
    ));
    let writer = Writer::start(shell, "/whole");
    freeze_all(guest, client, &writer, 2);
    let fs = listed(client, "/whole");
    let name = fs["name"].as_str().expect("a name");
    assert!(name.starts_with("0:"), "{fs}");
    fs.to_string()
}

fn renamed(guest: &mut Guest, client: &mut Client) -> String {
    let shell = guest.shell();
    shell.run(&format!(
        "cd /home/user; mkdir -p d/disk x; mkfifo x/disk; chown -R 1000:1000 .; \
         mount -t xfs {RENAMED} d/disk"
    ));
    let writer = Writer::start(shell, "/home/user/d/disk");
    start(shell, "exchange /home/user/d /home/user/x");
    assert_freezes_hold(guest, client, &writer, 2)
}

fn mute(guest: &mut Guest, client: &mut Client) -> String {
    let shell = guest.shell();
    shell.run(&format!(
        "cd /home/user; mkdir -p d/e/disk x/e; chown -R 1000:1000 .; \
         mount -t xfs {RENAMED} d/e/disk"
    ));
    start(shell, "mute /home/user/x/e");
    wait::expect("FUSE", wait::ANSWER, || {
        shell.test("grep mounted /run/hostile.log")
    });
    let writer = Writer::start(shell, "/home/user/d/e/disk");
    start(shell, "exchange /home/user/d /home/user/x");
    assert_freezes_hold(guest, client, &writer, 2)
}

fn only_a_file(guest: &mut Guest, client: &mut Client) -> String {
    let shell = guest.shell();
    shell.run(&format!(
        "mount -t ext4 {HIDDEN} /h; echo x >/h/file; touch /f/file; \
         mount --bind /h/file /f/file; umount /h"
    ));
    let fs = listed(client, "/f/file");
    assert!(has_size_of(shell, &fs, "/f/file"), "{fs}");
    assert_eq!(freeze(client, &["/f/file"]), 1);
    shell.run("rm -f /run/done; (echo y >/f/file; touch /run/done) >/dev/null 2>&1 &");
    std::thread::sleep(wait::SETTLE);
    assert!(!shell.test("test -e /run/done"));
    assert_eq!(client.get("guest-fsfreeze-thaw"), 1);
    wait::expect("the write", wait::ANSWER, || {
        shell.test("test -e /run/done")
    });
    fs.to_string()
}

fn unreachable(guest: &mut Guest, client: &mut Client) -> String {
    let mut said = Vec::new();
    for (cover, reason) in [
        ("true", "No such file or directory"),
        ("mkdir /h/disk", "the path leads to another file system"),
        ("mkfifo /h/disk", "the path leads to another file system"),
    ] {
        guest.shell().run(&format!(
            "mkdir -p /h/disk; mount -t ext4 {HIDDEN} /h/disk; mount -t tmpfs none /h; {cover}"
        ));
        let fs = listed(client, "/h/disk");
        assert_eq!(fs["name"], "vdd");
        let sizes = ["used-bytes", "total-bytes", "total-bytes-privileged"];
        assert!(sizes.iter().all(|size| fs.get(size).is_none()), "{fs}");
        let expected = json!({ "path": "/h/disk", "error": format!("failed to open: {reason}") });
        assert_eq!(trimmed(client, "/h/disk"), expected);
        let refused = client.try_call("guest-fsfreeze-freeze", json!({}));
        let refused = refused.expect_err("the disk cannot be reached").desc;
        assert_eq!(refused, format!("failed to open /h/disk: {reason}"));
        assert_eq!(client.get("guest-fsfreeze-status"), "thawed");
        // This write hangs if the other disk is still frozen.
        guest.shell().run("echo x >/data/x; sync /data/x");
        // A freeze of other mount points succeeds.
        assert_eq!(freeze(client, &["/data"]), 1);
        assert_eq!(client.get("guest-fsfreeze-thaw"), 1);
        guest.shell().run("umount /h; umount /h/disk");
        said.push(refused);
    }
    said.join("; ")
}

fn covered_while_frozen(guest: &mut Guest, client: &mut Client) -> String {
    let shell = guest.shell();
    shell.run(&format!("mount -t ext4 {BY_BIND_MOUNT} /a"));
    let writer = Writer::start(shell, "/a");
    assert_eq!(client.get("guest-fsfreeze-freeze"), 2);
    guest.shell().run("mount -t tmpfs none /a");
    assert!(writer.is_blocked(guest.shell()));
    // The agent counts only /data. It has the kernel thaw all others, which do not count.
    assert_eq!(client.get("guest-fsfreeze-thaw"), 1);
    writer.assert_writes(guest.shell());
    let log = guest.shell().run("cat /run/agent.log");
    let mut lines = log.lines();
    let line = lines.find(|line| line.contains("could not be reached"));
    line.expect("the log says so").into()
}

fn marked_by_a_user(guest: &mut Guest, client: &mut Client) -> String {
    const MARKER: &str = "/run/shared/qga.state.isfrozen";
    let shell = guest.shell();
    shell.run(&format!(
        "mkdir -p -m 1777 /run/shared; mkfifo {MARKER}; chown 1000:1000 {MARKER}"
    ));
    start_agent(guest, client, "-t /run/shared");
    assert_eq!(client.get("guest-fsfreeze-status"), "thawed");
    assert_eq!(client.get("guest-fsfreeze-freeze"), 1);
    // The next agent obeys the marker that an agent made.
    start_agent(guest, client, "-t /run/shared");
    assert_eq!(client.get("guest-fsfreeze-status"), "frozen");
    assert_eq!(client.get("guest-fsfreeze-thaw"), 1);
    assert!(!guest.shell().test(&format!("test -e {MARKER}")));
    "ignored and replaced".into()
}

fn too_long(guest: &mut Guest, client: &mut Client) -> String {
    guest.shell().run(&format!("{HOSTILE} deep {HIDDEN} /deep"));
    let refused = client.try_call("guest-fsfreeze-freeze", json!({}));
    let refused = refused.expect_err("the path is too long").desc;
    assert!(refused.starts_with("failed to open /deep/xxx"), "{refused}");
    assert!(refused.ends_with("x: File name too long"), "{refused}");
    // This write hangs if the other disk is still frozen.
    guest.shell().run("echo x >/data/x; sync /data/x");
    format!("an error of {} letters", refused.len())
}
