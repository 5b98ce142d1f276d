//! The agent as PID 1: its settings, set-up of the machine, faults, hanging children, orphans.
//!
//! Guests: the busybox image with the agent as PID 1, an ext4 disk, and the program `nuisance`; the same
//! image with both kernels and disks that /etc/fstab names by what is on them. Needs QEMU and the images.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gaunt_e2e::checks::Checks;
use gaunt_e2e::client::{Client, request};
use gaunt_e2e::cpio::Cpio;
use gaunt_e2e::disk::{self, Fs};
use gaunt_e2e::guest::{Guest, Image, Machine};
use gaunt_e2e::process::{program, run};
use gaunt_e2e::scratch::Scratch;
use gaunt_e2e::wait;
use serde_json::json;

/// Path of `src/bin/nuisance.rs` in the guest.
const NUISANCE: &str = "/usr/bin/nuisance";
/// Time during which processes leave orphans.
const STORM: Duration = Duration::from_secs(12);

const FSTAB: &str = "\
/dev/root / auto defaults 1 1
tmpfs /tmp tmpfs mode=1777,rshared
/dev/vda /data ext4 nofail
tmpfs /data/inner tmpfs size=1m
";

const CONFIG: &str = "[general]\nblock-rpcs=guest-get-cpustats\n";

/// Pause between a fault of PID 1 and its new start, in seconds.
const PAUSE: f32 = 1.0;

fn image() -> Vec<u8> {
    let program = Path::new(env!("CARGO_BIN_EXE_nuisance"));
    Cpio::new()
        .program_as("usr/bin/nuisance", program)
        .file("etc/hostname", 0o644, b"# not this\n\n  pid1-guest \n")
        .file("etc/fstab", 0o644, FSTAB.as_bytes())
        .file("etc/qemu/qemu-ga.conf", 0o644, CONFIG.as_bytes())
        .file("etc/TZ", 0o644, b"<-03>3\n")
        .directory("hung")
        .finish()
}

/// Starts the shell that the busybox image's own init would start.
fn serve_shell(guest: &mut Guest, client: &mut Client) {
    let script = "stty -F /dev/ttyS1 raw -echo; while :; do (echo shell: ready 1; exec sh) \
                  </dev/ttyS1 2>&1 | cat >/dev/ttyS1; done";
    let script = format!("/bin/busybox --install -s /bin; {script}");
    client.call(
        "guest-exec",
        json!({ "path": "/bin/sh", "arg": ["-c", script] }),
    );
    guest.wait_shell();
}

/// A command that prints the workers of PID 1.
const WORKERS: &str = "for child in $(cat /proc/1/task/1/children); do \
    if cmp -s /proc/1/comm /proc/$child/comm; then echo $child; fi; done";

/// Ends idle workers. Returns the state of PID 1 and the machine that must be equal before and after a fault.
fn state(guest: &mut Guest, client: &mut Client) -> Vec<String> {
    // Their sockets are descriptors of PID 1.
    guest
        .shell()
        .run(&format!("kill -9 $({WORKERS}) 2>/dev/null; true"));
    wait::expect("the end of the workers", wait::ANSWER, || {
        guest.shell().run(WORKERS).is_empty()
    });
    let mut facts = vec![format!("{:?}", client.disabled())];
    for command in [
        "grep -E '^(Sig(Blk|Ign|Cgt)|SigPnd|ShdPnd|Umask)' /proc/1/status",
        "tr '\\0' ' ' </proc/1/cmdline",
        "tr '\\0' '\\n' </proc/1/environ | sort",
        "ls /proc/1/fd | wc -l",
        "readlink /proc/1/fd/2",
        "cat /proc/1/comm",
        "hostname",
        "cut -d' ' -f3- /proc/self/mountinfo",
    ] {
        facts.push(guest.shell().run(command));
    }
    facts
}

fn uptime(guest: &mut Guest) -> f32 {
    let text = guest.shell().run("cut -d' ' -f1 /proc/uptime");
    text.parse().expect("seconds")
}

/// Waits until the agent answers again. It may lose requests that it received before the fault.
fn wait_answer(client: &mut Client) {
    wait::until(wait::ANSWER, || client.sync(Duration::from_secs(3)))
        .expect("an answer after the fault");
}

/// Runs a command that causes a fault in PID 1. Asserts that PID 1 answers again, in the same state.
/// Returns its line in the log.
fn fault(guest: &mut Guest, client: &mut Client, command: &str) -> String {
    let before = state(guest, client);
    let start = uptime(guest);
    guest.shell().run(command);
    wait_answer(client);
    let took = uptime(guest) - start;
    assert_eq!(state(guest, client), before);
    assert!(took > PAUSE, "no pause: {took} s");
    let lines = guest.serial();
    let line = lines.lines().rfind(|line| line.contains("gaunt: fault: "));
    format!("{}, {took:.1} s", line.expect("a line in the log"))
}

#[test]
fn pid_1_sets_up_the_machine_and_survives_faults_and_orphans() {
    let mut checks = Checks::new("PID 1");
    let scratch = Scratch::new();
    let disk = scratch.join("ext4.raw");
    disk::raw(&disk, Fs::Ext4);
    let mut guest = Machine::new(Image::Busybox)
        // Memory for as many zombies as the kernel allows processes.
        .qemu(&["-m", "1024"])
        .kernel("rdinit=/usr/bin/nuisance")
        .kernel("--block-rpcs=guest-get-load")
        .kernel("gaunt.block-rpcs=guest-get-diskstats")
        .agent("-b")
        .agent("guest-get-users,guest-frobnicate")
        .agent("--blacklist=guest-set-time,guest-frobnicate")
        .overlay(&image())
        .disk(&disk)
        .boot();
    let mut client = guest.client();
    checks.run("obeys options of every source", || {
        let expected = [
            "guest-get-cpustats",
            "guest-get-diskstats",
            "guest-get-load",
            "guest-get-users",
            "guest-set-time",
        ];
        assert_eq!(client.disabled(), expected.map(str::to_owned).into());
        "five block lists".into()
    });
    checks.run("logs an unknown command in block lists once", || {
        let serial = guest.serial();
        assert_eq!(serial.matches("frobnicate").count(), 1, "{serial}");
        let line = serial.lines().find(|line| line.contains("frobnicate"));
        line.unwrap_or_default().into()
    });
    serve_shell(&mut guest, &mut client);
    checks.run("sets the host name, past comments and blanks", || {
        assert_eq!(client.get("guest-get-host-name")["host-name"], "pid1-guest");
        guest.shell().run("hostname")
    });
    checks.run("takes the time zone from /etc/TZ", || {
        let zone = client.get("guest-get-timezone");
        assert_eq!(zone, json!({ "zone": "-03", "offset": -10_800 }));
        zone.to_string()
    });
    checks.run("obeys propagation options in fstab", || {
        let line = guest.shell().run("grep ' /tmp ' /proc/self/mountinfo");
        assert!(line.contains(" shared:"), "{line}");
        assert_eq!(guest.shell().run("stat -c %a /tmp"), "1777");
        line
    });
    checks.run(
        "makes the root writable although /dev/root does not exist",
        || {
            guest.shell().run("touch /x");
            guest.shell().run("grep ' / / ' /proc/self/mountinfo")
        },
    );
    guest.shell().run("hostname renamed && umount /data/inner");
    for (name, command) in [
        ("survives SIGILL", "kill -ILL 1".to_owned()),
        ("survives SIGSEGV", "kill -SEGV 1".into()),
        (
            "survives several faults in a row",
            "kill -ILL 1; kill -SEGV 1; kill -ILL 1; kill -BUS 1".into(),
        ),
        (
            "survives a stack overflow",
            format!("{NUISANCE} overflow 1"),
        ),
    ] {
        checks.run(name, || fault(&mut guest, &mut client, &command));
    }
    checks.run(
        "after a fault while frozen it is frozen and writes to no disk",
        || {
            // Without a freeze the new start would make this directory again.
            guest.shell().run("rmdir /data/inner");
            assert_eq!(client.get("guest-fsfreeze-freeze"), 1);
            let said = fault(&mut guest, &mut client, "kill -ILL 1");
            assert_eq!(client.get("guest-fsfreeze-status"), "frozen");
            assert_eq!(client.get("guest-fsfreeze-thaw"), 1);
            assert_eq!(client.get("guest-fsfreeze-status"), "thawed");
            said
        },
    );
    checks.run(
        "a fault while a child hangs does not keep the port busy",
        || {
            client.get("guest-fsfreeze-thaw");
            guest
                .shell()
                .run(&format!("{NUISANCE} hang /hung >/dev/null 2>&1 &"));
            wait::expect("the mount", wait::ANSWER, || {
                guest.shell().test("grep -q ' /hung ' /proc/mounts")
            });
            client.send(request("guest-file-open", &json!({ "path": "/hung/x" })));
            std::thread::sleep(Duration::from_millis(500));
            let children = guest
                .shell()
                .run("grep -l '^PPid:.1$' /proc/[0-9]*/status | wc -l");
            guest.shell().run("kill -ILL 1");
            let start = Instant::now();
            wait_answer(&mut client);
            guest.shell().run("umount -l /hung");
            format!(
                "{children} children, {:.1} s",
                start.elapsed().as_secs_f32()
            )
        },
    );
    checks.run("a fault of a child ends only the child", || {
        client.get("guest-fsfreeze-thaw");
        // The child waits for a lock that another process holds.
        guest
            .shell()
            .run("sleep 60 >/dev/null 2>&1 & echo $! >/etc/passwd.lock");
        let password = json!({ "username": "user", "password": "eA==", "crypted": false });
        client.send(request("guest-set-user-password", &password));
        let child = r"sed -n 's/^\([0-9]*\) (gaunt) . 1 .*/\1/p' /proc/[0-9]*/stat";
        let child = wait::until(wait::ANSWER, || {
            Some(guest.shell().run(child)).filter(|pid| !pid.is_empty())
        });
        let child = child.expect("a child");
        let before = guest.serial().matches("starting anew").count();
        guest.shell().run(&format!("kill -ILL {child}"));
        let reply = client.reply();
        let said = reply["error"]["desc"].as_str().unwrap_or_default();
        assert_eq!(said, "child process has terminated abnormally");
        client.get("guest-ping");
        assert_eq!(guest.serial().matches("starting anew").count(), before);
        said.into()
    });
    checks.run(
        "answers while processes leave orphans without a pause",
        || {
            client.get("guest-fsfreeze-thaw");
            // The default limit depends on the memory. Past it the shell cannot fork.
            guest
                .shell()
                .run("echo 20000 >/proc/sys/kernel/threads-max");
            let count = "sed -n 's/^processes //p' /proc/stat";
            let before: u64 = guest.shell().run(count).parse().expect("a number");
            guest.shell().run(&format!("{NUISANCE} orphans 1000"));
            guest
                .shell()
                .run(&format!("{NUISANCE} storm 4 {}", STORM.as_secs()));
            let storm_end = Instant::now() + STORM + Duration::from_secs(1);
            let mut longest = Duration::ZERO;
            let mut pings = 0;
            let end = Instant::now() + Duration::from_secs(8);
            while Instant::now() < end {
                let start = Instant::now();
                client.get("guest-ping");
                longest = longest.max(start.elapsed());
                pings += 1;
            }
            let start = Instant::now();
            let pid = client.call("guest-exec", json!({ "path": "/bin/true" }))["pid"].clone();
            wait::expect("the program to end", wait::ANSWER, || {
                client.call("guest-exec-status", json!({ "pid": pid }))["exited"] == true
            });
            let took = start.elapsed();
            // The shell must not be used while zombies take all process numbers: a shell that cannot fork
            // ends, and nothing starts it again.
            std::thread::sleep(storm_end.saturating_duration_since(Instant::now()));
            wait::expect("room for processes", wait::ANSWER, || {
                let pid = client.call("guest-exec", json!({ "path": "/bin/true" }))["pid"].clone();
                std::thread::sleep(Duration::from_millis(200));
                client.call("guest-exec-status", json!({ "pid": pid }))["exited"] == true
            });
            let after: u64 = guest.shell().run(count).parse().expect("a number");
            assert!(longest < Duration::from_secs(10), "{longest:?}");
            format!(
                "{pings} pings, the longest {} ms; a program {} ms; {} processes",
                longest.as_millis(),
                took.as_millis(),
                after - before
            )
        },
    );
    checks.run("reaps all orphans in the end", || {
        guest.shell().run("killall -q -KILL nuisance || true");
        wait::expect("no zombie", wait::ANSWER, || {
            !guest
                .shell()
                .test("grep -qs '^State:.Z' /proc/[0-9]*/status")
        });
        "no zombies".into()
    });
    checks.run(
        "powers off with a clean disk despite a fault on the way",
        || {
            client.get("guest-fsfreeze-thaw");
            // On SIGTERM this process causes a fault of PID 1 while a child waits for processes to end.
            guest
                .shell()
                .run("(trap 'kill -ILL 1' TERM; while :; do sleep 1; done) >/dev/null 2>&1 &");
            client.send("{\"execute\":\"guest-shutdown\"}\n");
            assert_eq!(guest.shutdown_reason(), "guest-shutdown");
            assert!(disk::ext4_is_clean(&disk));
            let serial = guest.serial();
            let line = serial.lines().rfind(|line| line.contains("gaunt: fault: "));
            line.unwrap_or_default().into()
        },
    );
    checks.finish();
}

/// What blkid finds in an image.
fn blkid(image: &Path, what: &str) -> String {
    let mut command = Command::new(program("blkid", "util-linux"));
    command.args(["-p", "-o", "value", "-s", what]).arg(image);
    run(&mut command, wait::ANSWER).trim().to_owned()
}

#[test]
fn pid_1_finds_file_systems_by_what_is_on_the_disk() {
    let mut checks = Checks::new("fstab");
    for release in [false, true] {
        let scratch = Scratch::new();
        let [labelled, xfs, gpt] = ["labelled", "xfs", "gpt"].map(|name| scratch.join(name));
        disk::raw(&labelled, Fs::Ext4);
        let tune = program("tune2fs", "e2fsprogs");
        run(
            Command::new(tune).args(["-L", "my label"]).arg(&labelled),
            wait::ANSWER,
        );
        disk::raw(&xfs, Fs::Xfs);
        let late = scratch.join("late");
        disk::raw(&late, Fs::Ext4);
        let uuids = disk::with_gpt(&gpt, &["first", "second"]);
        let fstab = format!(
            "LABEL=\"my\\040label\" /srv/by/label ext4 nofail\n\
             UUID={} /srv/by/uuid auto\n\
             PARTUUID={} /first auto ro\n\
             PARTLABEL=second /srv/second ext4\n\
             LABEL=none /none ext4\n\
             UUID={} /late auto\n\
             UUID=1234-ABCD /nofail vfat nofail\n\
             LABEL=none /noauto ext4 noauto\n\
             tmpfs /srv/last tmpfs\n",
            blkid(&xfs, "UUID").to_uppercase(),
            uuids[0].to_lowercase(),
            blkid(&late, "UUID"),
        );
        let drive = format!("file={},format=raw,if=none,id=late", late.display());
        let overlay = Cpio::new()
            .file("etc/fstab", 0o644, fstab.as_bytes())
            .finish();
        let machine = Machine::new(Image::Busybox)
            .kernel("rdinit=/usr/bin/gaunt")
            .overlay(&overlay)
            .qemu(&["-device", "virtio-scsi-pci,id=late", "-drive", &drive])
            .disk(&labelled)
            .disk(&xfs)
            .disk(&gpt);
        let mut guest = match release {
            true => machine.release_kernel().boot(),
            false => machine.boot(),
        };
        let mut client = guest.client();
        // PID 1 waits for it for 10 seconds.
        guest.qmp(
            "device_add",
            json!({ "driver": "scsi-hd", "bus": "late.0", "drive": "late" }),
        );
        let kernel = client.get("guest-get-osinfo")["kernel-release"].to_string();
        checks.run("mounts by label, UUID and partition", || {
            let expected = [
                ("/first", "ext4"),
                ("/late", "ext4"),
                ("/srv/by/label", "ext4"),
                ("/srv/by/uuid", "xfs"),
                ("/srv/second", "ext4"),
            ];
            let expected = expected.map(|(path, kind)| (path.to_owned(), kind.to_owned()));
            let expected = BTreeMap::from(expected);
            let mut mounted = BTreeMap::new();
            let done = wait::until(wait::ANSWER, || {
                let list = client.get("guest-get-fsinfo");
                let list = list.as_array().expect("a list").iter();
                mounted = list
                    .map(|one| {
                        [&one["mountpoint"], &one["type"]]
                            .map(|text| text.as_str().unwrap_or_default().to_owned())
                    })
                    .filter(|[_, kind]| kind != "tmpfs")
                    .map(|[path, kind]| (path, kind))
                    .collect();
                (mounted == expected).then_some(())
            });
            assert!(done.is_some(), "{mounted:?}");
            format!("{} file systems, Linux {kernel}", mounted.len())
        });
        checks.run("logs what it does not find", || {
            let line = wait::until(wait::ANSWER, || {
                let serial = guest.serial();
                let line = serial.lines().find(|line| line.contains("cannot mount"));
                line.map(str::to_owned)
            });
            let line = line.expect("a line in the log");
            assert!(
                line.contains("cannot mount LABEL=none on /none: "),
                "{line}"
            );
            assert_eq!(guest.serial().matches("cannot mount").count(), 1);
            line
        });
    }
    checks.finish();
}
