//! Every command of virsh that needs an agent, with its effect in the guest or on its disks.
//!
//! Guest: a libvirt domain with the busybox image, an ext4 and an XFS disk. It has no udev, no /sbin and
//! no program that could shut it down. Needs QEMU, the images, libvirt and e2fsprogs.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use gaunt_e2e::checks::Checks;
use gaunt_e2e::client::request;
use gaunt_e2e::disk;
use gaunt_e2e::guest::{Image, Machine};
use gaunt_e2e::libvirt::{DOMAIN, Libvirt, quiesced_snapshot};
use gaunt_e2e::process::{output, program, text};
use gaunt_e2e::scratch::Scratch;
use gaunt_e2e::shell::GuestShell;
use gaunt_e2e::wait;
use serde_json::{Value, json};

/// Limit of a reply that is a list: `REPLY_LIST_BYTES` in the agent's sources.
const REPLY_LIST_BYTES: usize = (10 << 20) - 4096;

/// Returns the value of a line `key : value` in output of virsh.
fn value<'a>(text: &'a str, key: &str) -> &'a str {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == key)
        .map(|(_, value)| value.trim())
        .unwrap_or_else(|| panic!("no {key} in:\n{text}"))
}

/// Prints the guest's online processors.
const ONLINE: &str = "cat /sys/devices/system/cpu/online";

/// Takes the second processor online. The first one is never offline.
const BOTH_ONLINE: &str = "echo 1 >/sys/devices/system/cpu/cpu1/online";

/// Prints the guest's hardware clock, in seconds since 1970.
const RTC: &str = "cat /sys/class/rtc/rtc0/since_epoch";

fn seconds(shell: &mut GuestShell, command: &str) -> u64 {
    shell.run(command).parse().expect("seconds")
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

/// Returns the guest's time as virsh reports it.
fn domtime(libvirt: &Libvirt) -> u64 {
    let text = libvirt.ok(&["domtime", DOMAIN]);
    value(&text, "Time").parse().expect("seconds")
}

/// Asserts that a time lies between two others, give or take some seconds.
fn assert_between(time: u64, (from, to): (u64, u64), slack_s: u64) {
    let is_between = from <= time + slack_s && time <= to + slack_s;
    assert!(is_between, "{time} is not from {from} to {to}");
}

/// Thaws whatever an earlier check has left frozen.
fn thaw(libvirt: &Libvirt) {
    libvirt.virsh(&["domfsthaw", DOMAIN]);
}

#[test]
fn every_agent_command_of_virsh_works() {
    let mut checks = Checks::new("virsh");
    let libvirt = Libvirt::start();
    let mut shell = libvirt.boot();
    let shell = &mut shell;
    requests_as_text(&mut checks, &libvirt);
    names_and_lists(&mut checks, &libvirt, shell);
    clocks(&mut checks, &libvirt, shell);
    processors(&mut checks, &libvirt, shell);
    suspend(&mut checks, &libvirt);
    password(&mut checks, &libvirt, shell);
    ssh_keys(&mut checks, &libvirt, shell);
    guestinfo(&mut checks, &libvirt, shell);
    freezes(&mut checks, &libvirt, shell);
    trim(&mut checks, &libvirt, shell);
    let has_snapshot = snapshot(&mut checks, &libvirt, shell);
    reboot(&mut checks, &libvirt, shell);
    shutdown(&mut checks, &libvirt, shell);
    if has_snapshot {
        images_of_the_snapshot(&mut checks, &libvirt);
    }
    checks.finish();
}

fn requests_as_text(checks: &mut Checks, libvirt: &Libvirt) {
    checks.run("qemu-agent-command", || {
        let reply = libvirt.ok(&["qemu-agent-command", DOMAIN, r#"{"execute":"guest-info"}"#]);
        assert!(reply.contains("11.1.0+gaunt."), "{reply}");
        let said = libvirt.refusal(&["qemu-agent-command", DOMAIN, r#"{"execute":"guest-x"}"#]);
        assert!(
            said.contains("The command guest-x has not been found"),
            "{said}"
        );
        "a reply and an error".into()
    });
    checks.run("takes a reply of the largest size of a list", || {
        let ask = |request: &str| {
            libvirt.virsh(&["qemu-agent-command", DOMAIN, "--timeout", "60", request])
        };
        // The reply around the base64 text takes less than 200 bytes.
        let count = (REPLY_LIST_BYTES - 200) / 4 * 3;
        let program = json!({
            "path": "/bin/busybox", "capture-output": "stdout",
            "arg": ["dd", "if=/dev/zero", format!("bs={count}"), "count=1"],
        });
        let started = ask(&request("guest-exec", &program));
        let started: Value = serde_json::from_slice(&started.stdout).expect("JSON");
        let status = json!({ "pid": started["return"]["pid"] });
        let status = request("guest-exec-status", &status);
        let ended = wait::until(wait::ANSWER, || {
            let ended = ask(&status);
            let runs = String::from_utf8_lossy(&ended.stdout).contains(r#""exited":false"#);
            (!runs).then_some(ended)
        });
        // The daemon takes the reply. virsh may lack room for it: its limit is 4 MiB in libvirt 9.
        let said = text(&ended.expect("dd ends"));
        assert!(
            said.contains(r#""exited":true"#) || said.contains("encode message payload"),
            "{said:.500}"
        );
        libvirt.ok(&["qemu-agent-command", DOMAIN, r#"{"execute":"guest-ping"}"#]);
        format!("{count} bytes in base64")
    });
}

fn names_and_lists(checks: &mut Checks, libvirt: &Libvirt, shell: &mut GuestShell) {
    checks.run("domfsinfo", || {
        let text = libvirt.ok(&["domfsinfo", DOMAIN]);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .filter(|row: &Vec<&str>| row.first().is_some_and(|word| word.starts_with('/')))
            .collect();
        // In mount order, with the host's names of the disks.
        assert_eq!(
            rows,
            [
                ["/data", "vda", "ext4", "vda"],
                ["/data2", "vdb", "xfs", "vdb"]
            ]
        );
        "2 file systems, on vda and vdb".into()
    });
    checks.run("domhostname", || {
        let name = libvirt.ok(&["domhostname", DOMAIN, "--source", "agent"]);
        assert_eq!(name, shell.run("hostname"));
        name
    });
}

fn clocks(checks: &mut Checks, libvirt: &Libvirt, shell: &mut GuestShell) {
    checks.run("domtime", || {
        let before = (seconds(shell, "date +%s"), now());
        let theirs = domtime(libvirt);
        let after = (seconds(shell, "date +%s"), now());
        assert_between(theirs, (before.0, after.0), 1);
        assert_between(theirs, (before.1, after.1), 60);
        theirs.to_string()
    });
    checks.run("domtime --time, system clock and RTC", || {
        libvirt.ok(&["domtime", DOMAIN, "--time", "1893553445"]);
        let guest = seconds(shell, "date +%s");
        let rtc = seconds(shell, RTC);
        for time in [guest, rtc] {
            assert_between(time, (1893553445, 1893553505), 0);
        }
        format!("2030: clock {guest}, RTC {rtc}")
    });
    checks.run("domtime --sync, from the RTC", || {
        libvirt.ok(&["domtime", DOMAIN, "--time", "1893553445"]);
        shell.run("date -u -s '2001-02-03 04:05:06'");
        libvirt.ok(&["domtime", DOMAIN, "--sync"]);
        let before = seconds(shell, RTC);
        let guest = seconds(shell, "date +%s");
        assert_between(guest, (before, seconds(shell, RTC)), 2);
        assert!(guest >= 1893553445, "clock {guest}");
        format!("from 2001 back to {guest}")
    });
    checks.run("domtime --now", || {
        let before = now();
        libvirt.ok(&["domtime", DOMAIN, "--now"]);
        let (guest, rtc) = (seconds(shell, "date +%s"), seconds(shell, RTC));
        for time in [guest, rtc] {
            assert_between(time, (before, now()), 3);
        }
        format!("clock {guest}, RTC {rtc}")
    });
    checks.run("domifaddr --source agent", || {
        let text = libvirt.ok(&["domifaddr", DOMAIN, "--source", "agent"]);
        let mac = shell.run("cat /sys/class/net/eth0/address");
        let has = |words: &[&str]| {
            text.lines()
                .any(|line| words.iter().all(|word| line.contains(word)))
        };
        assert!(has(&["eth0", &mac, "ipv4", "10.0.2.15/24"]), "{text}");
        assert!(has(&["lo", "127.0.0.1/8"]), "{text}");
        "eth0 10.0.2.15/24".into()
    });
}

fn processors(checks: &mut Checks, libvirt: &Libvirt, shell: &mut GuestShell) {
    checks.run("guestvcpus", || {
        shell.run(BOTH_ONLINE);
        let text = libvirt.ok(&["guestvcpus", DOMAIN]);
        assert_eq!(value(&text, "vcpus"), "0-1");
        assert_eq!(
            value(&text, "online"),
            shell.run("cat /sys/devices/system/cpu/online")
        );
        shell.run("echo 0 >/sys/devices/system/cpu/cpu1/online");
        let text = libvirt.ok(&["guestvcpus", DOMAIN]);
        assert_eq!(value(&text, "online"), "0");
        assert_eq!(libvirt.ok(&["vcpucount", DOMAIN, "--guest"]), "1");
        "0-1, then 0 with one taken offline".into()
    });
    checks.run("setvcpus --guest, down and up", || {
        shell.run(BOTH_ONLINE);
        libvirt.ok(&["setvcpus", DOMAIN, "1", "--guest"]);
        assert_eq!(shell.run(ONLINE), "0");
        assert_eq!(libvirt.ok(&["vcpucount", DOMAIN, "--guest"]), "1");
        libvirt.ok(&["setvcpus", DOMAIN, "2", "--guest"]);
        assert_eq!(shell.run(ONLINE), "0-1");
        libvirt.ok(&["guestvcpus", DOMAIN, "--cpulist", "1", "--disable"]);
        assert_eq!(shell.run(ONLINE), "0");
        libvirt.ok(&["guestvcpus", DOMAIN, "--cpulist", "1", "--enable"]);
        shell.run(ONLINE)
    });
}

fn suspend(checks: &mut Checks, libvirt: &Libvirt) {
    checks.run("dompmsuspend mem, dompmwakeup", || {
        libvirt.ok(&["domtime", DOMAIN, "--now"]);
        libvirt.ok(&["dompmsuspend", DOMAIN, "mem"]);
        wait::expect("the guest to suspend", wait::ANSWER, || {
            libvirt.ok(&["domstate", DOMAIN]) == "pmsuspended"
        });
        libvirt.ok(&["dompmwakeup", DOMAIN]);
        wait::expect("the guest to wake up", wait::ANSWER, || {
            libvirt.ok(&["domstate", DOMAIN]) == "running"
        });
        libvirt.wait_agent();
        let time = domtime(libvirt);
        assert!(time.abs_diff(now()) <= 60, "{time}");
        // The guest has no swap device.
        let said = libvirt.refusal(&["dompmsuspend", DOMAIN, "disk"]);
        assert!(
            said.contains("suspend mode is not supported by the guest"),
            "{said}"
        );
        "the agent answers after the wake-up".into()
    });
    // The next check must find the guest awake, even if this one failed.
    libvirt.virsh(&["dompmwakeup", DOMAIN]);
}

fn password(checks: &mut Checks, libvirt: &Libvirt, shell: &mut GuestShell) {
    checks.run("set-user-password, plain and --encrypted", || {
        let before = shell.run("cat /etc/shadow");
        libvirt.ok(&["set-user-password", DOMAIN, "user", "correct horse"]);
        let field =
            |shell: &mut GuestShell| shell.run("sed -n 's/^user:\\([^:]*\\):.*/\\1/p' /etc/shadow");
        let hash = field(shell);
        let salt = hash.split('$').nth(2).expect("a salt").to_owned();
        let same = format!("/bin/busybox mkpasswd -m sha512 -S '{salt}' 'correct horse'");
        assert_eq!(hash, shell.run(&same));
        let given = "$6$saltsalt$abcdefghijklmnopqrstuvwxyz";
        libvirt.ok(&["set-user-password", DOMAIN, "user", given, "--encrypted"]);
        assert_eq!(field(shell), given);
        let kept = shell.run("grep -v ^user: /etc/shadow");
        assert_eq!(kept, before.lines().next().expect("root's line"));
        let mode = shell.run("stat -c '%a %u:%g' /etc/shadow");
        assert_eq!(mode, "640 0:0");
        libvirt.refusal(&["set-user-password", DOMAIN, "nobody", "x"]);
        format!("salt {salt}, the same hash as mkpasswd's; root's line unchanged")
    });
}

fn ssh_keys(checks: &mut Checks, libvirt: &Libvirt, shell: &mut GuestShell) {
    checks.run("get-user-sshkeys, set-user-sshkeys", || {
        const FIRST: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFirst first@host";
        const SECOND: &str = "no-pty ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAASecond second key";
        let keys = |libvirt: &Libvirt| libvirt.ok(&["get-user-sshkeys", DOMAIN, "user"]);
        let file = |name: &str, text: &str| {
            let path = libvirt.path(name);
            std::fs::write(&path, text).expect("a file");
            let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            std::fs::set_permissions(&path, everybody).expect("permissions");
            path
        };
        shell.run("rm -rf /home/user/.ssh");
        let (first, second) = (file("first", FIRST), file("second", SECOND));
        libvirt.ok(&["set-user-sshkeys", DOMAIN, "user", "--file", &first]);
        libvirt.ok(&["set-user-sshkeys", DOMAIN, "user", "--file", &second]);
        let listed = keys(libvirt);
        assert!(
            listed.contains(FIRST) && listed.contains(SECOND),
            "{listed}"
        );
        let mode = shell.run("cd /home/user && stat -c '%a %u:%g %n' .ssh .ssh/authorized_keys");
        assert_eq!(
            mode,
            "700 1000:1000 .ssh\n600 1000:1000 .ssh/authorized_keys"
        );
        libvirt.ok(&[
            "set-user-sshkeys",
            DOMAIN,
            "user",
            "--file",
            &first,
            "--remove",
        ]);
        assert_eq!(keys(libvirt), SECOND);
        libvirt.ok(&[
            "set-user-sshkeys",
            DOMAIN,
            "user",
            "--file",
            &first,
            "--reset",
        ]);
        assert_eq!(keys(libvirt), FIRST);
        mode.replace('\n', ", ")
    });
}

fn guestinfo(checks: &mut Checks, libvirt: &Libvirt, shell: &mut GuestShell) {
    checks.run("guestinfo, option by option", || {
        for (option, has, has_not) in [
            ("--user", "user.count", "os."),
            ("--os", "os.kernel-release", "user."),
            ("--timezone", "timezone.offset", "os."),
            ("--hostname", "hostname", "os."),
            ("--filesystem", "fs.1.mountpoint", "os."),
            ("--disk", "disk.count", "os."),
            ("--interface", "if.count", "os."),
        ] {
            let text = libvirt.ok(&["guestinfo", DOMAIN, option]);
            assert!(
                text.contains(has) && !text.contains(has_not),
                "{option}: {text}"
            );
        }
        let text = libvirt.ok(&["guestinfo", DOMAIN, "--disk"]);
        assert_eq!(value(&text, "disk.count"), "2");
        let names: Vec<&str> = text
            .lines()
            .filter(|line| line.contains(".name"))
            .filter_map(|line| line.split_whitespace().last())
            .collect();
        assert!(
            names.contains(&"/dev/vda") && names.contains(&"/dev/vdb"),
            "{text}"
        );
        // libvirt finds its own names of the disks by their addresses.
        let aliases = text.lines().filter(|line| line.contains(".alias")).count();
        assert_eq!(aliases, 2, "{text}");
        names.join(" ")
    });
    checks.run("guestinfo", || {
        let text = libvirt.ok(&["guestinfo", DOMAIN]);
        assert_eq!(value(&text, "os.id"), "gaunt");
        assert_eq!(value(&text, "os.kernel-release"), shell.run("uname -r"));
        assert_eq!(value(&text, "os.machine"), shell.run("uname -m"));
        assert_eq!(value(&text, "hostname"), shell.run("hostname"));
        assert_eq!(value(&text, "timezone.offset"), "0");
        assert_eq!(value(&text, "user.count"), "0");
        assert_eq!(value(&text, "fs.count"), "2");
        assert_eq!(value(&text, "fs.0.mountpoint"), "/data");
        assert_eq!(value(&text, "fs.0.fstype"), "ext4");
        assert_eq!(value(&text, "fs.1.mountpoint"), "/data2");
        let total: u64 = value(&text, "fs.1.total-bytes").parse().expect("bytes");
        let blocks: u64 = shell.run("stat -f -c %b /data2").parse().expect("blocks");
        assert_eq!(total, blocks * 4096);
        assert_eq!(value(&text, "if.count"), "2");
        format!("{} lines", text.lines().count())
    });
}

fn freezes(checks: &mut Checks, libvirt: &Libvirt, shell: &mut GuestShell) {
    checks.run("domfsfreeze --mountpoint, domfsthaw", || {
        thaw(libvirt);
        let text = libvirt.ok(&["domfsfreeze", DOMAIN, "--mountpoint", "/data2"]);
        assert_eq!(text, "Froze 1 filesystem(s)");
        let frozen = shell.begin_write("/data2");
        shell.begin_write("/data").wait(shell);
        frozen.assert_blocked(shell);
        assert_eq!(libvirt.ok(&["domfsthaw", DOMAIN]), "Thawed 1 filesystem(s)");
        frozen.wait(shell);
        text
    });
    checks.run("domfsfreeze of all, domfsthaw", || {
        thaw(libvirt);
        let text = libvirt.ok(&["domfsfreeze", DOMAIN]);
        assert_eq!(text, "Froze 2 filesystem(s)");
        let writes = ["/data", "/data2"].map(|directory| shell.begin_write(directory));
        for write in &writes {
            write.assert_blocked(shell);
        }
        let scratch = Scratch::new();
        disk::raw_copy(&libvirt.file("ext4.qcow2"), &scratch.join("copy"));
        assert!(disk::ext4_is_clean(&scratch.join("copy")));
        assert_eq!(libvirt.ok(&["domfsthaw", DOMAIN]), "Thawed 2 filesystem(s)");
        for write in &writes {
            write.wait(shell);
        }
        text
    });
}

fn trim(checks: &mut Checks, libvirt: &Libvirt, shell: &mut GuestShell) {
    checks.run("domfstrim", || {
        thaw(libvirt);
        shell.run("dd if=/dev/urandom of=/data/big bs=1M count=24 2>/dev/null; sync");
        let image = libvirt.file("ext4.qcow2");
        let full = disk::allocated(&image);
        shell.run("rm /data/big; sync");
        libvirt.ok(&["domfstrim", DOMAIN]);
        let trimmed = disk::allocated(&image);
        assert!(
            full >= trimmed + (20 << 20),
            "{full} bytes before, {trimmed} after"
        );
        format!(
            "the image went from {} to {} MiB",
            full >> 20,
            trimmed >> 20
        )
    });
}

/// Returns whether a good snapshot was made.
fn snapshot(checks: &mut Checks, libvirt: &Libvirt, shell: &mut GuestShell) -> bool {
    checks.run("snapshot-create-as --quiesce --disk-only", || {
        thaw(libvirt);
        // A program that always writes, so that a snapshot without a freeze would hold half a write.
        shell.run(
            "(while :; do date >>/data/log; date >>/data2/log; sync; done) >/dev/null 2>&1 & \
             echo $! >/run/writer",
        );
        wait::expect("the writer to write", wait::ANSWER, || {
            shell.test("test $(wc -l </data2/log) -ge 5")
        });
        // Two hooks: they must run in order before the snapshot, and in reverse after it.
        shell.run(
            "d=/etc/qemu-ga/fsfreeze-hook.d; mkdir -p $d; for n in 10-first 50-db; do \
             printf '#!/bin/sh\\necho ${0##*/} $1 >>/run/seen\\n' >$d/$n; chmod 755 $d/$n; done",
        );
        shell.restart_agent("-F");
        libvirt.wait_agent();
        libvirt.ok(&quiesced_snapshot("one"));
        let blocks = libvirt.ok(&["domblklist", DOMAIN]);
        assert!(
            blocks.contains("ext4.one") && blocks.contains("xfs.one"),
            "{blocks}"
        );
        let seen = shell.run("cat /run/seen");
        let expected = [
            "10-first freeze",
            "50-db freeze",
            "50-db thaw",
            "10-first thaw",
        ];
        assert!(seen.lines().eq(expected), "{seen}");
        // The file system in the snapshot needs no recovery and no repair.
        let scratch = Scratch::new();
        disk::raw_copy(&libvirt.file("ext4.qcow2"), &scratch.join("ext4"));
        assert!(disk::ext4_is_clean(&scratch.join("ext4")));
        let checked = output(
            Command::new(program("e2fsck", "e2fsprogs"))
                .args(["-f", "-n"])
                .arg(scratch.join("ext4")),
            wait::ANSWER,
        );
        assert!(checked.status.success(), "{checked:?}");
        // The guest continues to write.
        let size = |shell: &mut GuestShell| shell.run("stat -c %s /data/log /data2/log");
        let before = size(shell);
        wait::expect("the writer to continue", wait::ANSWER, || {
            size(shell) != before
        });
        shell.run("kill $(cat /run/writer)");
        "the ext4 image is clean, the writer continues".into()
    })
}

fn reboot(checks: &mut Checks, libvirt: &Libvirt, shell: &mut GuestShell) {
    checks.run("reboot --mode=agent", || {
        libvirt.ok(&["reboot", DOMAIN, "--mode=agent"]);
        assert!(shell.wait_boot(wait::BOOT), "the guest does not boot again");
        // The disks were unmounted before the reset, so the kernel recovered nothing.
        assert!(
            !shell.run("dmesg").contains("recovery"),
            "the journal had to be replayed"
        );
        libvirt.wait_agent();
        assert_eq!(libvirt.ok(&["domstate", DOMAIN]), "running");
        "a new boot, without recovery".into()
    });
    // In a boot without a suspend: under emulation a hot-added processor does not start after one.
    checks.run("setvcpus --live, then --guest: a hot-added vCPU", || {
        libvirt.ok(&["setvcpus", DOMAIN, "3", "--live"]);
        wait::expect("the third processor", wait::ANSWER, || {
            shell.test("test -d /sys/devices/system/cpu/cpu2")
        });
        // No program in the guest has brought it online.
        assert_eq!(shell.run(ONLINE), "0-1");
        libvirt.ok(&["setvcpus", DOMAIN, "3", "--guest"]);
        assert_eq!(shell.run(ONLINE), "0-2");
        assert_eq!(libvirt.ok(&["vcpucount", DOMAIN, "--guest"]), "3");
        "0-2".into()
    });
}

fn shutdown(checks: &mut Checks, libvirt: &Libvirt, shell: &mut GuestShell) {
    checks.run("shutdown --mode=agent", || {
        shell.run("echo last >/data/last");
        libvirt.ok(&["shutdown", DOMAIN, "--mode=agent"]);
        wait::expect("the domain to end", wait::ANSWER, || {
            libvirt.ok(&["domstate", DOMAIN]) == "shut off"
        });
        let reason = libvirt.ok(&["domstate", DOMAIN, "--reason"]);
        assert_eq!(reason, "shut off (shutdown)");
        let scratch = Scratch::new();
        // The image of a snapshot that was made, otherwise the first one.
        let image = Some(libvirt.file("ext4.one")).filter(|image| image.exists());
        let image = image.unwrap_or_else(|| libvirt.file("ext4.qcow2"));
        disk::raw_copy(&image, &scratch.join("copy"));
        assert!(disk::ext4_is_clean(&scratch.join("copy")), "not unmounted");
        reason
    });
}

fn images_of_the_snapshot(checks: &mut Checks, libvirt: &Libvirt) {
    checks.run("the images of the snapshot mount without recovery", || {
        // Another guest, with the images that the domain had before the snapshot.
        let mut guest = Machine::new(Image::Busybox)
            .kernel("image.agent=off")
            .disk(&libvirt.file("ext4.qcow2"))
            .disk(&libvirt.file("xfs.qcow2"))
            .boot();
        guest.wait_shell();
        let shell = guest.shell();
        let said = shell.run("dmesg");
        for bad in ["EXT4-fs error", "recovery complete", "orphan", "orruption"] {
            assert!(!said.contains(bad), "{bad}:\n{said}");
        }
        assert!(said.contains("XFS (vdb): Ending"), "{said}");
        // All lines of the writer have the same length.
        let mut lines = Vec::new();
        for log in ["/data/log", "/data2/log"] {
            let lengths = shell.run(&format!("awk '{{print length}}' {log} | sort | uniq -c"));
            let words: Vec<&str> = lengths.split_whitespace().collect();
            assert_eq!(words.len(), 2, "torn lines in {log}: {lengths}");
            lines.push(words[0].to_owned());
        }
        format!(
            "both mount; {} complete lines of the writer",
            lines.join(" and ")
        )
    });
}
