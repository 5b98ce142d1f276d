//! An agent that starts in an initramfs follows the guest to its final root directory.
//!
//! Guest: the busybox image with scripts as PID 1, and an ext4 disk with busybox's init. It changes its
//! root directory three times: switch_root from the initramfs to a tmpfs, pivot_root to another tmpfs,
//! switch_root to the disk. Needs QEMU, the images and busybox-static.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use gaunt_e2e::checks::Checks;
use gaunt_e2e::client::{Client, Refusal};
use gaunt_e2e::cpio::Cpio;
use gaunt_e2e::guest::{Image, Machine};
use gaunt_e2e::process::program;
use gaunt_e2e::scratch::Scratch;
use gaunt_e2e::{disk, wait};
use serde_json::{Value, json};

/// PID 1 of the initramfs. It starts the agent before it mounts anything.
const INIT: &str = r#"#!/bin/sh
b=/bin/busybox
$b mknod /dev/null c 1 3
/usr/bin/gaunt >/gaunt.log 2>&1 &
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
$b mount -t tmpfs run /run
$b modprobe -a $($b grep -E 'virtio_(pci|console|blk)|ext4' /etc/modules)
$b mkdir /new
$b mount -t tmpfs none /new
$b mkdir -p /new/bin /new/etc /new/proc /new/sys /new/dev /new/run
$b cp $b /new/bin/busybox
$b cp /first /second /new
echo first >/new/etc/name
for name in proc sys dev run; do $b mount --move /$name /new/$name; done
exec $b switch_root /new $b sh /first
"#;

/// PID 1 of the first tmpfs.
const FIRST: &str = r#"
b=/bin/busybox
until [ -e /run/leave-first ]; do $b sleep 0.1; done
$b mkdir /new
$b mount -t tmpfs none /new
$b mkdir -p /new/bin /new/etc /new/proc /new/sys /new/dev /new/run /new/old
$b cp $b /new/bin/busybox
$b cp /second /new
echo second >/new/etc/name
for name in proc sys dev run; do $b mount --move /$name /new/$name; done
cd /new
$b pivot_root . old
exec $b chroot . $b sh /second
"#;

/// PID 1 of the second tmpfs.
const SECOND: &str = r#"
b=/bin/busybox
until [ -e /run/leave-second ]; do $b sleep 0.1; done
$b umount -l /old
$b mkdir /new
$b mount -t ext4 /dev/vda /new
for name in proc sys dev run; do $b mount --move /$name /new/$name; done
echo >/init
exec $b switch_root /new /sbin/init
"#;

/// Actions of busybox's init on the disk.
const INITTAB: &str = "::sysinit:/bin/busybox touch /run/booted\n\
                       ::shutdown:/bin/busybox cp /etc/name /trace\n\
                       ::shutdown:/bin/busybox umount -a -r\n";

fn make_disk(path: &Path, directory: &Path) {
    for name in ["bin", "sbin", "etc", "proc", "sys", "dev", "run"] {
        fs::create_dir_all(directory.join(name)).expect("a directory");
    }
    let busybox = program("busybox", "busybox-static");
    fs::copy(busybox, directory.join("bin/busybox")).expect("a copy of busybox");
    symlink("../bin/busybox", directory.join("sbin/init")).expect("a link");
    fs::write(directory.join("etc/inittab"), INITTAB).expect("a file");
    fs::write(directory.join("etc/name"), "disk\n").expect("a file");
    disk::ext4_of(path, directory);
}

/// Runs busybox in the guest through guest-exec. Returns its exit status, or the error of the start.
fn busybox(client: &mut Client, words: &[&str]) -> Result<Value, Refusal> {
    let arguments = json!({ "path": "/bin/busybox", "arg": words });
    let pid = client.try_call("guest-exec", arguments)?["pid"].clone();
    let mut status = Value::Null;
    wait::expect("a program to end", wait::ANSWER, || {
        status = client.call("guest-exec-status", json!({ "pid": pid }));
        status["exited"] == true
    });
    Ok(status["exitcode"].clone())
}

/// Waits until programs find this name in /etc/name, so in this root directory. During a change of the
/// root directory guest-exec fails because /dev is missing.
fn wait_root(client: &mut Client, name: &str) -> String {
    let words = ["grep", "-qx", name, "/etc/name"];
    let mut found = || busybox(client, &words).is_ok_and(|status| status == 0);
    wait::expect(name, wait::ANSWER, &mut found);
    // Programs start in the new root directory.
    let pwd = ["sh", "-c", "[ \"$(pwd)\" = / ]"];
    assert_eq!(busybox(client, &pwd).expect("a program"), 0);
    let processors = client.get("guest-get-cpustats");
    assert_eq!(processors.as_array().map(Vec::len), Some(2));
    name.into()
}

/// Creates a file in the guest.
fn touch(client: &mut Client, path: &str) {
    let status = busybox(client, &["touch", path]);
    assert_eq!(status.expect("a program"), 0);
}

#[test]
fn an_agent_started_in_the_initramfs_follows_each_change_of_root() {
    let mut checks = Checks::new("initramfs");
    let scratch = Scratch::new();
    let ext4 = scratch.join("root.raw");
    make_disk(&ext4, &scratch.join("root"));
    let scripts = Cpio::new()
        .file("init", 0o755, INIT.as_bytes())
        .file("first", 0o644, FIRST.as_bytes())
        .file("second", 0o644, SECOND.as_bytes());
    let mut guest = Machine::new(Image::Busybox)
        .disk(&ext4)
        .overlay(&scripts.finish())
        .boot();
    let mut client = guest.client();
    checks.run("follows switch_root to a tmpfs", || {
        wait_root(&mut client, "first")
    });
    checks.run("follows pivot_root to another tmpfs", || {
        touch(&mut client, "/run/leave-first");
        wait_root(&mut client, "second")
    });
    checks.run("follows switch_root to the disk", || {
        touch(&mut client, "/run/leave-second");
        wait_root(&mut client, "disk")
    });
    checks.run("lists and freezes the root file system", || {
        let list = client.get("guest-get-fsinfo");
        assert_eq!(list[0]["mountpoint"], "/", "{list}");
        assert_eq!(list[0]["disk"][0]["dev"], "/dev/vda", "{list}");
        assert_eq!(client.get("guest-get-disks")[0]["name"], "/dev/vda");
        assert_eq!(client.get("guest-fsfreeze-freeze"), 1);
        assert!(disk::ext4_is_clean(&ext4));
        assert_eq!(client.get("guest-fsfreeze-thaw"), 1);
        "/ on /dev/vda, frozen and thawed".into()
    });
    checks.run("opens files on the disk", || {
        // The check before may have left it frozen.
        client.get("guest-fsfreeze-thaw");
        let handle = client.call("guest-file-open", json!({ "path": "/etc/inittab" }));
        let read = client.call("guest-file-read", json!({ "handle": handle }));
        assert_eq!(read["count"], INITTAB.len());
        read["count"].to_string()
    });
    checks.run(
        "finds its port after it was unplugged and plugged in",
        || {
            guest.unplug_port();
            guest.plug_port();
            client.sync(wait::ANSWER).expect("an answer to guest-sync");
            "synchronized".into()
        },
    );
    checks.run("shuts down through the init", || {
        client.get("guest-fsfreeze-thaw");
        wait::expect("the init", wait::ANSWER, || {
            let words = ["test", "-e", "/run/booted"];
            busybox(&mut client, &words).is_ok_and(|status| status == 0)
        });
        client.send("{\"execute\":\"guest-shutdown\"}\n");
        assert_eq!(guest.shutdown_reason(), "guest-shutdown");
        assert!(guest.wait_end(wait::ANSWER).success());
        assert!(disk::ext4_is_clean(&ext4));
        let trace = disk::ext4_file(&ext4, "/trace");
        assert_eq!(trace, "disk\n");
        "the init's shutdown actions ran".into()
    });
    checks.finish();
}
