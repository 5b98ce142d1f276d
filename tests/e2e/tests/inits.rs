//! The init scripts of `make install INIT=...`, each under its own init or supervisor.
//!
//! Guests: Debian with OpenRC's init, where runit, s6 and the LSB script run the agent in turn; Debian with
//! sysvinit, and with finit; and the busybox image with busybox init. procd is not to be had as a
//! package. Needs QEMU, the images, busybox-static, and the packages that `image/debian` fetches.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use gaunt_e2e::checks::Checks;
use gaunt_e2e::client::Client;
use gaunt_e2e::cpio::Cpio;
use gaunt_e2e::debian;
use gaunt_e2e::guest::{Guest, Image, Machine};
use gaunt_e2e::process::{program, run};
use gaunt_e2e::scratch::Scratch;
use gaunt_e2e::shell::GuestShell;
use gaunt_e2e::{agent_binary, top, wait};
use serde_json::json;

/// Installs the agent for an init below a directory.
fn install(init: &str, directory: &Path) {
    run(
        Command::new(top().join("image/package/install"))
            .arg("install")
            .env("DESTDIR", directory)
            .env("PREFIX", "/usr")
            .env("INIT", init)
            .env("AGENT", agent_binary()),
        wait::ANSWER,
    );
}

/// Writes an executable file of a guest.
fn script(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().expect("a directory above it")).expect("a directory");
    fs::write(path, content).expect("a script");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
}

/// A hook that records its calls.
const HOOK: &str = "#!/bin/sh\necho \"$1\" >>/run/hooks\n";

/// Serves the guest's shell under OpenRC.
const SERVE_SHELL: &str = "#!/sbin/openrc-run\n\
    command=/usr/local/sbin/serve-shell\n\
    command_background=yes\n\
    pidfile=/run/serve-shell.pid\n";

/// Returns the process id of the agent: workers are its children, and have its name too.
fn agent(shell: &mut GuestShell) -> String {
    shell.run(
        "for p in $(pidof qemu-ga); do read -r _ _ _ parent _ </proc/$p/stat; \
         read -r name </proc/$parent/comm; [ $name = qemu-ga ] || echo $p; done",
    )
}

/// Asserts that hooks run around a freeze, and that an agent killed while frozen is started again.
fn freezes_and_survives(guest: &mut Guest, client: &mut Client) -> String {
    guest.shell().run("rm -f /run/hooks");
    assert!(client.get("guest-fsfreeze-freeze").as_i64() >= Some(1));
    let killed = agent(guest.shell());
    guest.shell().run(&format!("kill -KILL {killed}"));
    let again = started_again(guest, &killed);
    wait_answer(client);
    assert_eq!(client.get("guest-fsfreeze-status"), "frozen");
    assert!(client.get("guest-fsfreeze-thaw").as_i64() >= Some(1));
    wait::expect("the thaw hook", wait::ANSWER, || {
        guest.shell().run("cat /run/hooks") == "freeze\nthaw"
    });
    format!("killed {killed}, started again as {again}")
}

/// Waits until an agent that was just started answers: the port has one client, so the connection stays.
fn wait_answer(client: &mut Client) {
    wait::expect("an answer of the agent", wait::BOOT, || {
        client.sync(wait::SETTLE).is_some()
    });
}

/// Waits for another agent than the one that was killed.
fn started_again(guest: &mut Guest, killed: &str) -> String {
    let mut again = String::new();
    wait::expect("another agent", wait::ANSWER, || {
        again = agent(guest.shell());
        !again.is_empty() && again != killed
    });
    again
}

/// Waits until no agent runs.
fn wait_gone(guest: &mut Guest) {
    wait::expect("the agent to end", wait::ANSWER, || {
        agent(guest.shell()).is_empty()
    });
}

/// Shuts the guest down through its init.
fn shuts_down(guest: &mut Guest, client: &mut Client) -> String {
    client.send("{\"execute\":\"guest-shutdown\"}\n");
    let reason = guest.shutdown_reason();
    assert_eq!(reason, "guest-shutdown");
    assert!(guest.wait_end(wait::BOOT).success());
    reason
}

/// Unpacks the packages that `image/debian` has fetched under this name.
fn unpack(name: &str, tree: &Path) {
    for entry in fs::read_dir(debian::packages(name)).expect("packages") {
        let package = entry.expect("an entry").path();
        run(
            Command::new(program("dpkg-deb", "dpkg"))
                .arg("-x")
                .args([&package, tree]),
            wait::ANSWER,
        );
    }
}

/// Moves what is in /bin, /sbin and /lib to where the guest's disk has links to.
fn merge_usr(tree: &Path) {
    let merge = "for name in bin sbin lib; do \
         if [ -d $name ]; then mkdir -p usr/$name; cp -a $name/. usr/$name; rm -r $name; fi; done";
    run(
        Command::new("sh").args(["-ec", merge]).current_dir(tree),
        wait::ANSWER,
    );
}

/// Makes the files that turn the Debian guest into one with OpenRC's init, and with runit and s6.
fn openrc_tree(tree: &Path) {
    unpack("inits", tree);
    install("openrc", tree);
    for init in ["sysvinit", "runit", "s6"] {
        install(init, &tree.join("opt").join(init));
    }
    script(&tree.join("etc/init.d/serve-shell"), SERVE_SHELL);
    script(&tree.join("etc/qemu-ga/fsfreeze-hook.d/50-test"), HOOK);
    let runlevel = tree.join("etc/runlevels/default");
    fs::create_dir_all(&runlevel).expect("a directory");
    for service in ["qemu-guest-agent", "serve-shell"] {
        symlink(format!("/etc/init.d/{service}"), runlevel.join(service)).expect("a link");
    }
    merge_usr(tree);
}

#[test]
fn openrc_runit_s6_and_the_lsb_script_run_the_agent() {
    let mut checks = Checks::new("openrc");
    let scratch = Scratch::new();
    debian::disk(scratch.path(), "root.qcow2");
    let tree = scratch.join("tree");
    openrc_tree(&tree);
    let mut guest = Machine::new(Image::Busybox)
        .overlay(&debian::overlay(Some(&tree)))
        .memory(debian::MEMORY_MIB)
        .disk(&scratch.join("root.qcow2"))
        .kernel("init=/sbin/openrc-init")
        // Until Linux 6.12 a log on a frozen disk cannot be opened, even if it exists.
        .release_kernel()
        .boot();
    guest.wait_shell();
    let mut client = guest.client();
    checks.run("OpenRC starts the agent and sees it", || {
        let status = guest.shell().run("rc-service qemu-guest-agent status");
        assert!(status.contains("started"), "{status}");
        assert_eq!(guest.shell().run("cat /proc/1/comm"), "openrc-init");
        status
    });
    checks.run("OpenRC: hooks, and a kill while frozen", || {
        freezes_and_survives(&mut guest, &mut client)
    });
    checks.run("OpenRC stops the agent", || {
        let said = guest.shell().run("rc-service qemu-guest-agent stop");
        wait_gone(&mut guest);
        said
    });
    checks.run("runit: hooks, and a kill while frozen", || {
        guest.shell().run(
            "cp -a /opt/runit/etc/sv /etc/ && mkdir -p /run/service && \
             ln -s /etc/sv/qemu-guest-agent /run/service/ && \
             (setsid runsvdir /run/service >/dev/null 2>&1 &)",
        );
        wait_answer(&mut client);
        let evidence = freezes_and_survives(&mut guest, &mut client);
        let status = guest.shell().run("sv status /run/service/qemu-guest-agent");
        assert!(status.starts_with("run:"), "{status}");
        guest
            .shell()
            .run("sv -w 20 down /run/service/qemu-guest-agent");
        wait_gone(&mut guest);
        format!("{evidence}; {status}")
    });
    checks.run("s6: hooks, and a kill while frozen", || {
        guest.shell().run(
            "mkdir -p /run/scan && cp -a /opt/s6/etc/s6/sv/qemu-guest-agent /run/scan/ && \
             (setsid s6-svscan /run/scan >/dev/null 2>&1 &)",
        );
        wait_answer(&mut client);
        let evidence = freezes_and_survives(&mut guest, &mut client);
        let status = guest.shell().run("s6-svstat /run/scan/qemu-guest-agent");
        assert!(status.starts_with("up "), "{status}");
        guest
            .shell()
            .run("s6-svc -wD -d /run/scan/qemu-guest-agent");
        wait_gone(&mut guest);
        format!("{evidence}; {status}")
    });
    checks.run(
        "the LSB script starts, restarts and stops the agent",
        || {
            let lsb = "/opt/sysvinit/etc/init.d/qemu-guest-agent";
            assert_eq!(
                guest
                    .shell()
                    .try_run(&format!("{lsb} status"), wait::ANSWER)
                    .status,
                3
            );
            guest.shell().run(&format!("{lsb} start"));
            wait_answer(&mut client);
            client.get("guest-ping");
            let first = agent(guest.shell());
            guest.shell().run(&format!("{lsb} start && {lsb} status"));
            assert_eq!(
                agent(guest.shell()),
                first,
                "the second start starts nothing"
            );
            guest.shell().run(&format!("{lsb} restart"));
            let second = started_again(&mut guest, &first);
            wait_answer(&mut client);
            client.get("guest-ping");
            guest.shell().run(&format!("{lsb} stop"));
            assert_eq!(agent(guest.shell()), "");
            format!("{first}, then {second}")
        },
    );
    checks.run("guest-shutdown goes through OpenRC's init", || {
        guest.shell().run("rc-service qemu-guest-agent start");
        wait_answer(&mut client);
        let reason = shuts_down(&mut guest, &mut client);
        // OpenRC's init says this before it ends what is left.
        assert!(guest.serial().contains("Sending the final term signal"));
        reason
    });
    checks.finish();
}

/// Boots the Debian guest with the init that `tree` has at `init`.
fn debian_with_init(scratch: &Scratch, tree: &Path, init: &str) -> Guest {
    debian::disk(scratch.path(), "root.qcow2");
    let mut guest = Machine::new(Image::Busybox)
        .overlay(&debian::overlay(Some(tree)))
        .memory(debian::MEMORY_MIB)
        .disk(&scratch.join("root.qcow2"))
        .kernel(&format!("init={init}"))
        .may_reset()
        .boot();
    guest.wait_shell();
    guest
}

/// Reboots the guest through its init, which says so in these words.
fn reboots(guest: &mut Guest, words: &str) -> String {
    let told = guest.serial().len();
    let mut client = guest.client();
    client.send("{\"execute\":\"guest-shutdown\",\"arguments\":{\"mode\":\"reboot\"}}\n");
    guest.event("RESET", wait::BOOT);
    drop(client);
    let serial = guest.serial();
    assert!(serial[told..].contains(words), "{serial}");
    guest.wait_shell();
    guest.client().get("guest-ping");
    words.into()
}

/// Powers the guest off through its init, which says so in these words.
fn powers_off(guest: &mut Guest, words: &str) -> String {
    let told = guest.serial().len();
    let mut client = guest.client();
    let reason = shuts_down(guest, &mut client);
    let serial = guest.serial();
    assert!(serial[told..].contains(words), "{serial}");
    reason
}

/// sysvinit's table: without the runlevels of the disk, which start its databases.
const SYSVINIT_TABLE: &str = "id:2:initdefault:\n\
    si::sysinit:/etc/init.d/rcS\n\
    l0:0:wait:/etc/init.d/rc 0\n\
    l6:6:wait:/etc/init.d/rc 6\n\
    ga:2:wait:/etc/init.d/qemu-guest-agent start\n\
    sh:2:respawn:/usr/local/sbin/serve-shell\n";

/// The scripts of each runlevel: the package's own.
const SYSVINIT_LINKS: [(&str, &[&str]); 3] = [
    ("rcS.d", &["S01mountkernfs.sh", "S02mountdevsubfs.sh"]),
    ("rc0.d", &["K01sendsigs", "K02umountroot", "K03halt"]),
    ("rc6.d", &["K01sendsigs", "K02umountroot", "K03reboot"]),
];

#[test]
fn sysvinit_runs_the_agent_and_is_asked_to_shut_down() {
    let mut checks = Checks::new("sysvinit");
    let scratch = Scratch::new();
    let tree = scratch.join("tree");
    unpack("sysvinit", &tree);
    // On the guest's disk /sbin/init is a link to systemd.
    fs::create_dir(tree.join("lib/sysvinit")).expect("a directory");
    fs::rename(tree.join("sbin/init"), tree.join("lib/sysvinit/init")).expect("sysvinit");
    install("sysvinit", &tree);
    fs::write(tree.join("etc/inittab"), SYSVINIT_TABLE).expect("a file");
    for (runlevel, links) in SYSVINIT_LINKS {
        let runlevel = tree.join("etc").join(runlevel);
        fs::create_dir_all(&runlevel).expect("a directory");
        for link in links {
            symlink(format!("../init.d/{}", &link[3..]), runlevel.join(link)).expect("a link");
        }
    }
    merge_usr(&tree);
    let mut guest = debian_with_init(&scratch, &tree, "/lib/sysvinit/init");
    checks.run("its script starts the agent", || {
        let init = guest.shell().run("readlink /proc/1/exe");
        assert_eq!(init, "/usr/lib/sysvinit/init");
        assert_eq!(guest.shell().run("cut -c 1-4 /proc/1/cmdline"), "init");
        guest
            .shell()
            .run("/etc/init.d/qemu-guest-agent status && pidof qemu-ga")
    });
    checks.run("reboots", || reboots(&mut guest, "Will now restart"));
    checks.run("halts, and keeps the power on", || {
        let told = guest.serial().len();
        let halt = "{\"execute\":\"guest-shutdown\",\"arguments\":{\"mode\":\"halt\"}}\n";
        guest.client().send(halt);
        wait::expect("the halt", wait::BOOT, || {
            guest.serial()[told..].contains("reboot: System halted")
        });
        assert!(guest.serial()[told..].contains("Will now halt"));
        guest.qmp("system_reset", json!({}));
        guest.event("RESET", wait::BOOT);
        guest.wait_shell();
        "by its script of runlevel 0".into()
    });
    checks.run("powers off", || powers_off(&mut guest, "Will now halt"));
    checks.finish();
}

/// finit's settings: the agent, and the shell of the tests.
const FINIT_CONF: &str = "runlevel 2\n\
    service [2] /usr/bin/qemu-ga -- Guest agent\n\
    service [2] /usr/local/sbin/serve-shell -- Shell of the tests\n";

#[test]
fn finit_runs_the_agent_and_is_asked_to_shut_down() {
    let mut checks = Checks::new("finit");
    let scratch = Scratch::new();
    let tree = scratch.join("tree");
    unpack("finit", &tree);
    install("none", &tree);
    // The package's services are those of other packages.
    fs::remove_dir_all(tree.join("etc/finit.d")).expect("a directory");
    fs::write(tree.join("etc/finit.conf"), FINIT_CONF).expect("a file");
    merge_usr(&tree);
    let mut guest = debian_with_init(&scratch, &tree, "/usr/sbin/finit");
    checks.run("starts the agent", || {
        assert_eq!(guest.shell().run("readlink /proc/1/exe"), "/usr/sbin/finit");
        guest.client().get("guest-ping");
        guest.shell().run("pidof qemu-ga")
    });
    checks.run("reboots", || reboots(&mut guest, "Stopping Guest agent"));
    checks.run("powers off", || {
        powers_off(&mut guest, "Stopping Guest agent")
    });
    checks.finish();
}

/// What busybox init runs first.
const RC: &str = r#"#!/bin/sh
b=/bin/busybox
$b --install -s
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs -o mode=755 run /run
modprobe -a $(cat /etc/modules)
mount -t ext4 /dev/vda /data
"#;

/// What serves the shell.
const SERVE: &str = r#"#!/bin/sh
read -r boot </proc/sys/kernel/random/boot_id
stty -F /dev/ttyS1 raw -echo
(echo "shell: ready $boot"; exec sh) </dev/ttyS1 2>&1 | cat >/dev/ttyS1
"#;

/// The last line has no line feed, as an editor may leave it.
const INITTAB: &str = "::sysinit:/bin/sh /rc\n\
                       ::respawn:/bin/sh /serve\n\
                       ::shutdown:/bin/umount -a -r";

#[test]
fn busybox_init_runs_the_agent() {
    let mut checks = Checks::new("busybox init");
    let scratch = Scratch::new();
    let ext4 = scratch.join("ext4.raw");
    gaunt_e2e::disk::raw(&ext4, gaunt_e2e::disk::Fs::Ext4);
    let tree = scratch.join("tree");
    fs::create_dir_all(tree.join("etc")).expect("a directory");
    fs::write(tree.join("etc/inittab"), INITTAB).expect("a file");
    install("busybox", &tree);
    script(&tree.join("etc/qemu-ga/fsfreeze-hook.d/50-test"), HOOK);
    let inittab = fs::read(tree.join("etc/inittab")).expect("a file");
    let overlay = Cpio::new()
        .link("init", "/bin/busybox")
        .file("rc", 0o755, RC.as_bytes())
        .file("serve", 0o755, SERVE.as_bytes())
        .file("etc/inittab", 0o644, &inittab)
        .copy("usr/bin/gaunt", &agent_binary())
        .link("usr/bin/qemu-ga", "gaunt")
        .directory("usr/sbin")
        .directory("sbin")
        .tree("etc/qemu-ga", &tree.join("etc/qemu-ga"))
        .finish();
    let mut guest = Machine::new(Image::Busybox)
        .overlay(&overlay)
        .disk(&ext4)
        .boot();
    guest.wait_shell();
    let mut client = guest.client();
    checks.run("hooks, and a kill while frozen", || {
        assert_eq!(guest.shell().run("readlink /proc/1/exe"), "/bin/busybox");
        freezes_and_survives(&mut guest, &mut client)
    });
    checks.run("guest-shutdown goes through busybox init", || {
        client.call("guest-exec", json!({ "path": "/bin/true" }));
        let evidence = shuts_down(&mut guest, &mut client);
        assert!(gaunt_e2e::disk::ext4_is_clean(&ext4));
        evidence
    });
    checks.finish();
}
