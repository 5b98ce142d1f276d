//! Mount points that do not lead to what is mounted there: covered, diverted by a user while they are
//! looked up, or longer than any path may be; and a mark of a freeze that is not the agent's. One guest,
//! in which each disk is hidden in its own way.
//!
//! What a freeze says is held against the disks: whether they are at rest as seen from outside, and
//! whether writes to them wait.

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

/// The program that renames directories and does worse: on this machine, and in the guest.
const BUILT: &str = env!("CARGO_BIN_EXE_hostile");
const HOSTILE: &str = "/root/hostile";

/// Freezes while directories are renamed.
const ROUNDS: usize = 10;

/// Long enough for a write that is not blocked to get through.
const SETTLE: Duration = Duration::from_millis(1500);

/// A writer in the guest: counts in a file of a directory, from within. Whatever becomes of the path
/// to it, it writes to the same file system, and what it has written can be read through /proc.
struct Writer {
    pid: String,
}

impl Writer {
    fn start(shell: &mut GuestShell, directory: &str) -> Writer {
        let pid = shell.run(&format!(
            "cd {directory}; (n=0; while :; do n=$((n+1)); echo $n >count; sleep 0.1; done) \
             >/dev/null 2>&1 & echo $! | tee -a /run/strangers"
        ));
        let writer = Writer { pid };
        writer.assert_writes(shell);
        writer
    }

    fn count(&self, shell: &mut GuestShell) -> String {
        shell.run(&format!("cat /proc/{}/cwd/count || true", self.pid))
    }

    /// Whether nothing gets through for a while.
    fn is_blocked(&self, shell: &mut GuestShell) -> bool {
        let before = self.count(shell);
        std::thread::sleep(SETTLE);
        self.count(shell) == before
    }

    fn assert_writes(&self, shell: &mut GuestShell) {
        let before = self.count(shell);
        wait::expect("a write", wait::ANSWER, || self.count(shell) != before);
    }
}

/// How a file system is listed that is mounted first at a place.
fn listed(client: &mut Client, mount_point: &str) -> Value {
    let list = client.get("guest-get-fsinfo");
    let list = list.as_array().expect("a list").iter();
    let mut found = list.filter(|fs| fs["mountpoint"] == mount_point);
    let fs = found
        .next()
        .unwrap_or_else(|| panic!("{mount_point} is not listed"));
    assert!(found.next().is_none(), "{mount_point} is listed once");
    fs.clone()
}

fn trimmed(client: &mut Client, mount_point: &str) -> Value {
    let reply = client.get("guest-fstrim");
    let paths = reply["paths"].as_array().expect("a list");
    let found = paths.iter().find(|path| path["path"] == mount_point);
    found.unwrap_or_else(|| panic!("{reply}")).clone()
}

/// Whether the sizes of a listed file system are those that the guest sees at a place.
fn has_sizes_of(shell: &mut GuestShell, fs: &Value, place: &str) -> bool {
    let seen = shell.run(&format!("stat -f -c '%b %S' {place}"));
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

/// Freezes everything again and again while directories are renamed.
fn freezes_hold(guest: &mut Guest, client: &mut Client, writer: &Writer, all: usize) -> String {
    let mut longest = Duration::ZERO;
    for round in 0..ROUNDS {
        let start = Instant::now();
        let frozen = client.get("guest-fsfreeze-freeze");
        longest = longest.max(start.elapsed());
        assert_eq!(frozen, all, "round {round}");
        // What a client is told is held against the disk now and then: it takes its time.
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
        "{HOSTILE} {words} >/run/hostile.log 2>&1 & echo $! >>/run/strangers"
    ));
}

/// Puts the guest back to where each check begins, whatever became of the one before: a new agent,
/// nothing frozen, one disk mounted, on /data.
fn begin(guest: &mut Guest, client: &mut Client) {
    guest.shell().run(
        "for pid in $(cat /run/strangers 2>/dev/null); do kill -KILL $pid; done; \
         rm -f /run/strangers",
    );
    start_agent(guest, client, "");
    let _ = client.try_call("guest-fsfreeze-thaw", json!({}));
    guest.shell().run(
        "for place in /a /a /t /hidden /hidden/s /whole /h /h/disk /h /f/file; do \
         umount -l $place; done 2>/dev/null; \
         umount -l /home/user/*/e/disk /home/user/*/disk /home/user/*/e 2>/dev/null; \
         mv /dev/moved /dev/vdc 2>/dev/null; rm -rf /home/user/* /h/*; true",
    );
}

/// Kills the agent and starts another.
fn start_agent(guest: &mut Guest, client: &mut Client, arguments: &str) {
    guest.shell().restart_agent(arguments);
    // What is sent while nobody has the port open may be lost.
    let turn = Duration::from_secs(3);
    wait::until(wait::ANSWER, || client.sync(turn)).expect("an answer to guest-sync");
}

/// The disks of the guest, besides one on /data that everybody can reach.
const BY_BIND_MOUNT: &str = "/dev/vda";
const RENAMED: &str = "/dev/vdb";
const BTRFS: &str = "/dev/vdc";
const HIDDEN: &str = "/dev/vdd";

#[test]
fn a_path_is_not_believed() {
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
        .kernel("gaunt.mount=off")
        .disk(&covered)
        .disk(&image("renamed.raw", Fs::Xfs))
        .disk(&image("btrfs.raw", Fs::Btrfs))
        .disk(&image("hidden.raw", Fs::Ext4))
        .disk(&image("plain.raw", Fs::Ext4))
        .boot();
    guest.wait_shell();
    guest.shell().run(
        "for m in /root/modules/*; do insmod $m; done; \
         mount -t ext4 /dev/vde /data; mkdir /a /t /hidden /whole /h /f /deep",
    );
    let mut client = guest.client();
    let mut run = |name, check: &dyn Fn(&mut Guest, &mut Client) -> String| {
        checks.run(name, || {
            begin(&mut guest, &mut client);
            check(&mut guest, &mut client)
        });
    };
    run(
        "a covered disk is reached by its bind mount",
        &|guest, client| reached_by_bind_mount(guest, client, &covered),
    );
    run("btrfs is reached by another subvolume", &another_subvolume);
    run(
        "btrfs whose device has no node is frozen",
        &btrfs_without_node,
    );
    run("a user who renames directories diverts no freeze", &renamed);
    run(
        "nor makes it wait for a file system that never answers",
        &mute,
    );
    run(
        "a disk of which only a file is mounted is frozen",
        &only_a_file,
    );
    run(
        "a disk that cannot be reached is an error that names it",
        &unreachable,
    );
    run(
        "a disk that was covered while frozen is thawed",
        &covered_while_frozen,
    );
    run("a mark that a user made does not count", &marked_by_a_user);
    run("no path is too long to be in the list", &too_long);
    checks.finish();
}

/// Freezes everything, which must be `count` file systems, among them that of a writer; thaws it.
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
    assert!(has_sizes_of(shell, &fs, "/t"), "{fs}");
    assert!(trimmed(client, "/a")["trimmed"].is_u64());
    let writer = Writer::start(shell, "/t");
    freeze_all(guest, client, &writer, 2);
    // It goes by its first mount, be that covered or not.
    assert_eq!(freeze(client, &["/t"]), 0);
    assert_eq!(freeze(client, &["/a"]), 1);
    assert!(disk::ext4_is_at_rest(image));
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
    assert!(has_sizes_of(guest.shell(), &fs, "/whole"), "{fs}");
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
    freezes_hold(guest, client, &writer, 2)
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
    freezes_hold(guest, client, &writer, 2)
}

fn only_a_file(guest: &mut Guest, client: &mut Client) -> String {
    let shell = guest.shell();
    shell.run(&format!(
        "mount -t ext4 {HIDDEN} /h; echo x >/h/file; touch /f/file; \
         mount --bind /h/file /f/file; umount /h"
    ));
    let fs = listed(client, "/f/file");
    assert!(has_sizes_of(shell, &fs, "/f/file"), "{fs}");
    assert_eq!(freeze(client, &["/f/file"]), 1);
    shell.run("rm -f /run/done; (echo y >/f/file; touch /run/done) >/dev/null 2>&1 &");
    std::thread::sleep(SETTLE);
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
        let refused = refused.expect_err("it cannot be reached").desc;
        assert_eq!(refused, format!("failed to open /h/disk: {reason}"));
        assert_eq!(client.get("guest-fsfreeze-status"), "thawed");
        // It would hang if the other disk were still frozen.
        guest.shell().run("echo x >/data/x; sync /data/x");
        // It does not matter where others are chosen.
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
    assert_eq!(client.get("guest-fsfreeze-thaw"), 1, "the other one");
    writer.assert_writes(guest.shell());
    let log = guest.shell().run("cat /run/agent.log");
    let mut lines = log.lines();
    let line = lines.find(|line| line.contains("could not be reached"));
    line.expect("the log says so").into()
}

fn marked_by_a_user(guest: &mut Guest, client: &mut Client) -> String {
    const MARK: &str = "/run/shared/qga.state.isfrozen";
    let shell = guest.shell();
    shell.run(&format!(
        "mkdir -p -m 1777 /run/shared; mkfifo {MARK}; chown 1000:1000 {MARK}"
    ));
    start_agent(guest, client, "-t /run/shared");
    assert_eq!(client.get("guest-fsfreeze-status"), "thawed");
    assert_eq!(client.get("guest-fsfreeze-freeze"), 1);
    // The agent's own counts for the next one.
    start_agent(guest, client, "-t /run/shared");
    assert_eq!(client.get("guest-fsfreeze-status"), "frozen");
    assert_eq!(client.get("guest-fsfreeze-thaw"), 1);
    assert!(!guest.shell().test(&format!("test -e {MARK}")));
    "ignored and replaced".into()
}

fn too_long(guest: &mut Guest, client: &mut Client) -> String {
    guest.shell().run(&format!("{HOSTILE} deep {HIDDEN} /deep"));
    let refused = client.try_call("guest-fsfreeze-freeze", json!({}));
    let refused = refused.expect_err("no path is so long").desc;
    assert!(refused.starts_with("failed to open /deep/xxx"), "{refused}");
    assert!(refused.ends_with("x: File name too long"), "{refused}");
    // It would hang if the other disk were still frozen.
    guest.shell().run("echo x >/data/x; sync /data/x");
    format!("{} letters", refused.len())
}
