//! Freeze hooks: programs that the agent runs before a freeze and after the thaw.
//!
//! Guests: the busybox image with an ext4 and an XFS disk, where the hooks are scripts that fail in
//! many ways; and the bare image under libvirt, where they are static programs, since it has no shell.
//! Needs QEMU, the images, libvirt, rustc and debugfs.

use std::net::Shutdown;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gaunt_e2e::base64::decode;
use gaunt_e2e::checks::Checks;
use gaunt_e2e::client::{Client, Refusal, request};
use gaunt_e2e::cpio::{Cpio, appended};
use gaunt_e2e::disk::{self, Fs};
use gaunt_e2e::guest::{Guest, Image, Machine};
use gaunt_e2e::libvirt::{DOMAIN, INITRAMFS, KERNEL, Libvirt, quiesced_snapshot};
use gaunt_e2e::process::{program, run, text};
use gaunt_e2e::scratch::Scratch;
use gaunt_e2e::shell::GuestShell;
use gaunt_e2e::{image_file, top, wait};
use serde_json::{Value, json};

/// The directory of hooks.
const HOOKS: &str = "/etc/qemu-ga/fsfreeze-hook.d";
/// The log of hooks.
const LOG: &str = "/var/log/qemu-ga/fsfreeze-hook.log";
/// Beginning of an error about a hook.
const PREFIX: &str = "child process has failed to execute fsfreeze hook: ";

/// Every hook: records its name and argument, then runs the commands of [`HookGuest::on`].
const SCRIPT: &str = r#"#!/bin/sh
name=${0##*/}
echo "$name $1" >>/run/seen
if [ -e "/run/do/$name.$1" ]; then . "/run/do/$name.$1"; fi
"#;

/// A guest in which hooks are scripts, and a client of its agent.
struct HookGuest {
    qemu: Guest,
    client: Client,
    /// The options of the running agent. `None` if no agent runs or a check has failed.
    options: Option<String>,
}

impl HookGuest {
    fn shell(&mut self) -> &mut GuestShell {
        self.qemu.shell()
    }

    /// Runs a check with an agent that has these options, and with hooks that only record their runs.
    fn check(
        &mut self,
        checks: &mut Checks,
        name: &'static str,
        options: &str,
        check: impl FnOnce(&mut HookGuest) -> String,
    ) {
        let passed = checks.run(name, || {
            self.clear();
            if self.options.is_none() {
                self.recover();
            }
            if self.options.as_deref() != Some(options) {
                self.restart(options);
            }
            check(self)
        });
        if !passed {
            self.options = None;
        }
    }

    /// Undoes whatever a failed check has left, and starts an agent without options.
    fn recover(&mut self) {
        self.qemu.end_slow_write();
        self.shell().run(
            "fsfreeze --unfreeze /data; fsfreeze --unfreeze /data2; killall -KILL sleep dd; \
             umount /run/ro; umount /cover; umount /cover/sub; mount -t xfs /dev/vdb /data2; \
             rm -rf /etc/qemu /etc/qemu-ga /var/log /run/late /run/go /root/main /home/user/db; \
             mkdir /var/log; chmod 755 /etc; cp -a /root/hooks /etc/qemu-ga; true",
        );
        // An agent that is killed while frozen leaves the thaw to the next one. A hook that is due may be
        // gone, which is an error of the thaw.
        self.restart("");
        let _ = self.thaw();
        wait::expect("the thaw", wait::ANSWER, || {
            self.client.get("guest-fsfreeze-status") == "thawed"
        });
        self.clear();
    }

    /// Kills the agent and starts it with these options.
    fn restart(&mut self, options: &str) {
        self.options = Some(options.to_owned());
        self.shell().restart_agent(options);
        self.client
            .sync(wait::ANSWER)
            .expect("an answer to guest-sync");
    }

    /// Makes a hook run these commands when its argument is `word`, `freeze` or `thaw`.
    fn on(&mut self, hook: &str, word: &str, commands: &str) {
        let file = format!("/run/do/{hook}.{word}");
        self.shell()
            .run(&format!("cat >{file} <<'END'\n{commands}\nEND"));
    }

    /// Removes the commands and the records of all hooks.
    fn clear(&mut self) {
        self.shell().run("rm -f /run/do/* /run/seen");
    }

    /// Returns the runs of hooks since the last call, in order: name and argument.
    fn seen(&mut self) -> Vec<String> {
        let seen = self
            .shell()
            .run("touch /run/seen; cat /run/seen; rm /run/seen");
        seen.lines().map(str::to_owned).collect()
    }

    /// Returns the lines in the log of hooks since the last call, without their times.
    fn logged(&mut self) -> Vec<String> {
        let text = self
            .shell()
            .run(&format!("cat {LOG} 2>/dev/null; rm -f {LOG}"));
        let without_time = |line: &str| {
            let (time, rest) = line.split_once(' ').expect("a time");
            assert!(time.len() == 20 && time.ends_with('Z'), "{line}");
            rest.replace(HOOKS, "")
        };
        text.lines().map(without_time).collect()
    }

    /// Returns whether a process runs whose command line begins with these words.
    fn runs(&mut self, words: &str) -> bool {
        self.shell().test(&format!(
            "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done 2>/dev/null | grep -q '^{words}'"
        ))
    }

    fn freeze(&mut self) -> Result<Value, Refusal> {
        self.client.try_call("guest-fsfreeze-freeze", json!({}))
    }

    fn thaw(&mut self) -> Result<Value, Refusal> {
        self.client.try_call("guest-fsfreeze-thaw", json!({}))
    }

    /// Requests a freeze that an error of a hook must stop. Returns the error.
    fn refused_freeze(&mut self) -> String {
        let refusal = self.freeze().expect_err("a hook stops the freeze");
        self.assert_thawed();
        let said = refusal.desc.strip_prefix(PREFIX);
        let said = said.unwrap_or_else(|| panic!("{}", refusal.desc));
        said.replace(HOOKS, "")
    }

    /// Returns the lines of a check about hooks and the state directory.
    fn checked(&mut self, options: &str) -> Vec<String> {
        let command =
            format!("/usr/bin/gaunt {options} --check | grep -E '^(fsfreeze-hook|statedir) '");
        let said = self.shell().run(&command).replace(HOOKS, "");
        said.lines().map(str::to_owned).collect()
    }

    /// Asserts that nothing is frozen and that no marker is left.
    fn assert_thawed(&mut self) {
        assert_eq!(self.client.get("guest-fsfreeze-status"), "thawed");
        let written = "echo x >/data/x && sync /data/x && echo x >/data2/x && sync /data2/x";
        self.shell().run(written);
        let left = self.shell().run("ls /run");
        assert!(
            !left.contains("isfrozen") && !left.contains("gaunt.hooks"),
            "{left}"
        );
    }

    /// Freezes and thaws, which must succeed. Returns the runs of hooks.
    fn freeze_and_thaw(&mut self) -> Vec<String> {
        self.seen();
        assert_eq!(self.freeze(), Ok(json!(2)));
        assert_eq!(self.thaw(), Ok(json!(2)));
        self.assert_thawed();
        self.seen()
    }
}

/// The runs of hooks in a freeze and its thaw.
const FREEZE_AND_THAW: [&str; 6] = [
    "10-first freeze",
    "50-db freeze",
    "90-last freeze",
    "90-last thaw",
    "50-db thaw",
    "10-first thaw",
];

#[test]
fn script_hooks_are_run_checked_and_paired() {
    let mut checks = Checks::new("hooks");
    let scratch = Scratch::new();
    let (ext4, xfs) = (scratch.join("ext4.raw"), scratch.join("xfs.raw"));
    disk::raw(&ext4, Fs::Ext4);
    disk::raw(&xfs, Fs::Xfs);
    let mut archive = Cpio::new().directory("run");
    for name in ["10-first", "50-db", "90-last"] {
        archive = archive.file(&format!("{}/{name}", &HOOKS[1..]), 0o755, SCRIPT.as_bytes());
    }
    let mut qemu = Machine::new(Image::Busybox)
        .overlay(&archive.finish())
        .kernel("image.agent=off")
        .disk(&ext4)
        .disk(&xfs)
        .boot();
    qemu.wait_shell();
    qemu.shell()
        .run("mkdir /run/do; cp -a /etc/qemu-ga /root/hooks");
    let client = Client::connect(&qemu.agent_socket());
    let mut guest = HookGuest {
        qemu,
        client,
        options: None,
    };
    let guest = &mut guest;

    order(&mut checks, guest);
    environment(&mut checks, guest);
    log_and_background(&mut checks, guest);
    failures_at_the_freeze(&mut checks, guest);
    failures_that_stop_no_freeze(&mut checks, guest);
    long_output(&mut checks, guest);
    hook_timeouts(&mut checks, guest);
    answers_meanwhile(&mut checks, guest);
    freeze_timeouts(&mut checks, guest);
    files_that_others_may_change(&mut checks, guest);
    unwritable_directories(&mut checks, guest);
    pairing(&mut checks, guest);
    a_freeze_that_ends_late(&mut checks, guest);
    killed_agents(&mut checks, guest);
    kills_at_any_moment(&mut checks, guest);
    hooks_that_attack_the_agent(&mut checks, guest);
    frozen_log_and_sigterm(&mut checks, guest);
    other_directories(&mut checks, guest);
    run_by_hand(&mut checks, guest);
    run_by_hand_and_stopped(&mut checks, guest);
    checks.finish();
}

fn order(checks: &mut Checks, guest: &mut HookGuest) {
    guest.check(checks, "runs no hooks without -F", "", |guest| {
        assert!(guest.freeze_and_thaw().is_empty());
        guest.restart("-F/dev/null");
        assert!(guest.freeze_and_thaw().is_empty());
        "nor with -F/dev/null".into()
    });
    guest.check(
        checks,
        "runs hooks in order, and in reverse after the thaw",
        "-F",
        |guest| {
            assert_eq!(guest.freeze_and_thaw(), FREEZE_AND_THAW);
            let logged = guest.logged();
            let expected = FREEZE_AND_THAW.map(|run| {
                let (name, word) = run.split_once(' ').expect("a word");
                [
                    format!("{word} /{name}: begins"),
                    format!("{word} /{name}: done after "),
                ]
            });
            let expected: Vec<_> = expected.into_iter().flatten().collect();
            assert_eq!(logged.len(), expected.len(), "{logged:?}");
            for (line, expected) in logged.iter().zip(&expected) {
                assert!(line.starts_with(expected), "{line}");
            }
            logged.join(" · ")
        },
    );
    guest.check(checks, "skips files that are no hooks", "-F", |guest| {
        let shell = guest.shell();
        for name in ["60-x~", "60-x.bak", "60-x.sample", "60-x.rpmsave", "60-x.dpkg-old", ".60-x"] {
            shell.run(&format!("cp -p {HOOKS}/50-db {HOOKS}/{name}"));
        }
        shell.run(&format!(
            "cp -p {HOOKS}/50-db {HOOKS}/60-not; chmod 644 {HOOKS}/60-not; mkdir {HOOKS}/60-directory; \
             ln -s nowhere {HOOKS}/60-link"
        ));
        assert_eq!(guest.freeze_and_thaw(), FREEZE_AND_THAW);
        guest.shell().run(&format!("rm -r {HOOKS}/60-* {HOOKS}/.60-x"));
        "nine files".into()
    });
}

/// The variables of a hook. The shell adds PWD and SHLVL.
const ENVIRONMENT: [&str; 10] = [
    "FSFREEZE_HOOK",
    "HOME",
    "LANG",
    "LC_TIME",
    "PATH",
    "PWD",
    "SHELL",
    "SHLVL",
    "TZ",
    "USER",
];

fn environment(checks: &mut Checks, guest: &mut HookGuest) {
    guest.check(
        checks,
        "gives a hook its environment and none of the agent's",
        "-F",
        |guest| {
            // Variables that a service manager sets for the agent alone, and variables for all programs.
            let variables = "INVOCATION_ID=1 JOURNAL_STREAM=8:9 NOTIFY_SOCKET=/run/n \
                             FILTER_RPC_ARGS= LANG=C.UTF-8 LC_TIME=C TZ=UTC0";
            guest.shell().restart_agent_in(variables, "-F");
            // Its environment is not that of other checks.
            guest.options = None;
            guest
                .client
                .sync(wait::ANSWER)
                .expect("an answer to guest-sync");
            guest.logged();
            guest.on(
                "50-db",
                "freeze",
                "env | sort; pwd; umask; readlink /proc/$$/fd/0; ls /proc/$$/fd; \
             cut -d ' ' -f 1,5,6 /proc/$$/stat; grep SigBlk /proc/$$/status",
            );
            assert_eq!(guest.freeze_and_thaw(), FREEZE_AND_THAW);
            let said: Vec<_> = guest.logged();
            let said = said.iter().filter_map(|line| line.split_once("50-db: | "));
            let said: Vec<_> = said.map(|(_, said)| said).collect();
            for wanted in [
                "HOME=/root",
                "SHELL=/bin/sh",
                "USER=root",
                "/",
                "0022",
                "/dev/null",
            ] {
                assert!(said.contains(&wanted), "{wanted}: {said:?}");
            }
            assert!(said.iter().any(|line| line.starts_with("PATH=/")));
            let variables = said.iter().filter_map(|line| line.split_once('='));
            let variables: Vec<_> = variables.map(|(name, _)| name).collect();
            assert_eq!(variables, ENVIRONMENT);
            // The shell opens 10 and 11 for its scripts.
            let open = said.iter().position(|line| *line == "0");
            let open = open.expect("descriptors");
            assert_eq!(
                said[open..open + 5],
                ["0", "1", "10", "11", "2"],
                "{said:?}"
            );
            let numbers: Vec<_> = said[open + 5].split(' ').collect();
            let [pid, group, session] = numbers[..] else {
                panic!("{said:?}")
            };
            assert!(
                pid == group && group == session,
                "the hook has no session of its own"
            );
            assert!(said[open + 6].ends_with("x090000000000000000"), "{said:?}");
            said.join(" · ")
        },
    );
}

fn log_and_background(checks: &mut Checks, guest: &mut HookGuest) {
    guest.check(
        checks,
        "writes no log between the freeze and the thaw",
        "-F",
        |guest| {
            // The log, and a file that a hook writes, are on a disk that the freeze includes.
            guest
                .shell()
                .run("mkdir /data/log; rm -rf /var/log/qemu-ga; ln -s /data/log /var/log/qemu-ga");
            guest.on("50-db", "freeze", "echo rests >/data/50-db");
            guest.on("50-db", "thaw", "echo goes on >>/data/50-db; sync");
            assert_eq!(guest.freeze_and_thaw(), FREEZE_AND_THAW);
            let shell = guest.shell();
            assert_eq!(shell.run("cat /data/50-db"), "rests\ngoes on");
            let lines = shell.run(&format!("wc -l <{LOG}"));
            shell.run("rm /var/log/qemu-ga");
            format!("{lines} lines of the log")
        },
    );
    guest.check(
        checks,
        "does not wait for background processes, and does not kill them",
        "-F",
        |guest| {
            guest.on(
                "10-first",
                "freeze",
                "sleep 61 </dev/null >/dev/null 2>&1 &",
            );
            guest.on("50-db", "freeze", "sleep 62 &");
            let start = Instant::now();
            assert_eq!(guest.freeze_and_thaw(), FREEZE_AND_THAW);
            let took = start.elapsed();
            assert!(took < Duration::from_secs(50), "{took:?}");
            for seconds in [61, 62] {
                assert!(
                    guest.runs(&format!("sleep {seconds}")),
                    "sleep {seconds} was killed"
                );
            }
            format!("{:.1} s", took.as_secs_f32())
        },
    );
}

fn failures_at_the_freeze(checks: &mut Checks, guest: &mut HookGuest) {
    guest.check(
        checks,
        "a hook that fails stops the freeze",
        "-F",
        |guest| {
            guest.logged();
            guest.on(
                "50-db",
                "freeze",
                "echo first; echo no rest for the db >&2; exit 3",
            );
            let said = guest.refused_freeze();
            assert_eq!(said, "/50-db: exit status 3: first\nno rest for the db");
            assert_eq!(guest.seen(), FREEZE_UNDONE);
            guest.on("50-db", "freeze", "kill -SEGV $$");
            let killed = guest.refused_freeze();
            assert_eq!(killed, "/50-db: killed by signal 11");
            assert_eq!(guest.seen(), FREEZE_UNDONE);
            let logged = guest.logged();
            assert!(
                logged.contains(&"freeze /50-db: | no rest for the db".into()),
                "{logged:?}"
            );
            assert!(
                logged
                    .iter()
                    .any(|line| line.starts_with("freeze /50-db: exit status 3 after "))
            );
            assert!(
                logged
                    .iter()
                    .any(|line| line.starts_with("freeze /50-db: killed by signal 11 "))
            );
            guest.clear();
            assert_eq!(guest.freeze_and_thaw(), FREEZE_AND_THAW);
            format!("{said}; {killed}")
        },
    );
    guest.check(
        checks,
        "a hook that cannot be run stops the freeze and gets no thaw",
        "-F",
        |guest| {
            guest.shell().run(&format!(
                "printf '#!/none\\n' >{HOOKS}/60-none; chmod 755 {HOOKS}/60-none"
            ));
            let said = guest.refused_freeze();
            assert_eq!(said, "/60-none: cannot be run: No such file or directory");
            assert_eq!(guest.seen(), FREEZE_UNDONE);
            guest.shell().run(&format!("rm {HOOKS}/60-none"));
            said
        },
    );
}

fn failures_that_stop_no_freeze(checks: &mut Checks, guest: &mut HookGuest) {
    guest.check(
        checks,
        "a hook that fails at the thaw is an error; everything is thawed",
        "-F",
        |guest| {
            assert_eq!(guest.freeze(), Ok(json!(2)));
            guest.on("50-db", "thaw", "echo not released; exit 4");
            guest.on("10-first", "thaw", "exit 5");
            let refusal = guest.thaw().expect_err("a hook failed");
            assert_eq!(
                refusal.desc,
                format!("{PREFIX}{HOOKS}/50-db: exit status 4: not released")
            );
            guest.assert_thawed();
            assert_eq!(guest.seen(), FREEZE_AND_THAW);
            guest.clear();
            assert_eq!(guest.freeze_and_thaw(), FREEZE_AND_THAW);
            refusal.desc
        },
    );
    guest.check(
        checks,
        "--hook-failures=ignore only logs failures",
        "-F --hook-failures=ignore",
        |guest| {
            guest.logged();
            guest.on("50-db", "freeze", "exit 3");
            guest.on("50-db", "thaw", "exit 4");
            assert_eq!(guest.freeze_and_thaw(), FREEZE_AND_THAW);
            let logged = guest.logged();
            for word in ["freeze /50-db: exit status 3", "thaw /50-db: exit status 4"] {
                assert!(
                    logged.iter().any(|line| line.starts_with(word)),
                    "{logged:?}"
                );
            }
            "2 frozen, 2 thawed".into()
        },
    );
}

fn long_output(checks: &mut Checks, guest: &mut HookGuest) {
    guest.check(
        checks,
        "cuts the output of a hook that writes much",
        "-F",
        |guest| {
            guest.on(
                "50-db",
                "freeze",
                "yes | head -c 3000000; printf 'a\\033[2J\\001b'; exit 1",
            );
            guest.logged();
            let said = guest.refused_freeze();
            assert!(said.ends_with("\ny\na\u{1b}[2J\u{1}b"), "{said:?}");
            let logged = guest.logged();
            assert!(logged.iter().any(|line| line.contains("is left out")));
            let bytes: usize = logged.iter().map(|line| line.len()).sum();
            format!("{} lines of {bytes} bytes", logged.len())
        },
    );
}

/// Replaces the client by a new one, which need not wait for the request of the old one.
fn reconnect(guest: &mut HookGuest) {
    guest
        .client
        .stream()
        .shutdown(Shutdown::Both)
        .expect("a connection");
    // After a shorter pause the agent takes the new client for the old one.
    std::thread::sleep(Duration::from_millis(1500));
    guest.client = Client::connect(&guest.qemu.agent_socket());
    guest
        .client
        .sync(wait::ANSWER)
        .expect("an answer to guest-sync");
}

fn hook_timeouts(checks: &mut Checks, guest: &mut HookGuest) {
    guest.check(
        checks,
        "kills a hook that is too slow with its child processes",
        "-F --hook-timeout=5",
        |guest| {
            guest.on("50-db", "freeze", "sleep 63 & sleep 63");
            let start = Instant::now();
            let said = guest.refused_freeze();
            let took = start.elapsed();
            assert_eq!(said, "/50-db: killed, because it took longer than 5 s");
            assert_eq!(guest.seen().len(), 4);
            assert!(!guest.runs("sleep 63"));
            format!("{:.1} s", took.as_secs_f32())
        },
    );
    guest.check(
        checks,
        "kills in time a hook that writes faster than the agent reads",
        "-F --hook-timeout=5",
        |guest| {
            // The hook leaves the child that reads its output little time of one processor.
            guest.on(
                "50-db",
                "freeze",
                "renice -n 19 -p $PPID; taskset -p 1 $PPID; exec taskset 1 dd if=/dev/zero bs=64k",
            );
            let start = Instant::now();
            let said = guest.refused_freeze();
            let took = start.elapsed();
            assert!(
                said.starts_with("/50-db: killed, because it took longer than 5 s"),
                "{said}"
            );
            assert!(took < Duration::from_secs(25), "{took:?}");
            guest.restart("-F --hook-timeout=5");
            guest.seen();
            format!("{:.1} s", took.as_secs_f32())
        },
    );
    guest.check(
        checks,
        "kills a hook that is too slow at the thaw and runs the next",
        "-F --hook-timeout=5",
        |guest| {
            assert_eq!(guest.freeze(), Ok(json!(2)));
            guest.on("90-last", "thaw", "sleep 64");
            let refusal = guest.thaw().expect_err("a hook was killed");
            assert!(
                refusal
                    .desc
                    .ends_with("/90-last: killed, because it took longer than 5 s")
            );
            assert_eq!(guest.seen(), FREEZE_AND_THAW);
            guest.assert_thawed();
            refusal.desc
        },
    );
}

fn answers_meanwhile(checks: &mut Checks, guest: &mut HookGuest) {
    guest.check(
        checks,
        "answers status and ping while a hook runs",
        "-F",
        |guest| {
            guest.on(
                "50-db",
                "freeze",
                "until [ -e /run/go ]; do sleep 0.1; done",
            );
            guest
                .client
                .send("{\"execute\":\"guest-fsfreeze-freeze\"}\n");
            wait::expect("the hook", wait::ANSWER, || {
                guest.shell().test("grep -q 50-db /run/seen")
            });
            reconnect(guest);
            let client = &mut guest.client;
            client.get("guest-ping");
            assert_eq!(client.get("guest-fsfreeze-status"), "frozen");
            let refusal = client.try_call("guest-get-osinfo", json!({}));
            assert_eq!(refusal.expect_err("frozen").class, "CommandNotFound");
            // The kernel has frozen nothing yet.
            guest
                .shell()
                .run("echo x >/data/x && sync /data/x; touch /run/go");
            assert_eq!(guest.thaw(), Ok(json!(2)));
            assert_eq!(guest.seen(), FREEZE_AND_THAW);
            guest.shell().run("rm /run/go");
            "answered".into()
        },
    );
}

fn freeze_timeouts(checks: &mut Checks, guest: &mut HookGuest) {
    guest.check(
        checks,
        "all freeze hooks together have the freeze timeout",
        "-F --freeze-timeout=10",
        |guest| {
            guest.on("90-last", "freeze", "sleep 65");
            let said = guest.refused_freeze();
            assert_eq!(said, "/90-last: killed, because the freeze took too long");
            assert_eq!(guest.seen(), FREEZE_AND_THAW);
            said
        },
    );
    guest.check(
        checks,
        "thaw hooks may take longer than the freeze timeout",
        "-F --freeze-timeout=10",
        |guest| {
            for hook in ["10-first", "50-db", "90-last"] {
                guest.on(hook, "thaw", "sleep 4");
            }
            assert_eq!(guest.freeze_and_thaw(), FREEZE_AND_THAW);
            "hooks of 12 s, a limit of 10 s".into()
        },
    );
    guest.check(
        checks,
        "runs thaw hooks when a freeze times out",
        "-F --freeze-timeout=10",
        |guest| {
            guest.seen();
            assert_eq!(guest.freeze(), Ok(json!(2)));
            wait::expect("the thaw", wait::ANSWER, || {
                guest.client.get("guest-fsfreeze-status") == "thawed"
            });
            assert_eq!(guest.seen(), FREEZE_AND_THAW);
            assert_eq!(guest.thaw(), Ok(json!(0)));
            assert!(guest.seen().is_empty(), "the late thaw ran hooks");
            guest.assert_thawed();
            "the late thaw answers 0 and runs no hook".into()
        },
    );
}

fn files_that_others_may_change(checks: &mut Checks, guest: &mut HookGuest) {
    guest.check(
        checks,
        "runs no hook if another user can change one",
        "-F",
        |guest| {
            let mut all = Vec::new();
            for (spoil, mend, expected) in [
                (
                    "chown 1000 @/50-db",
                    "chown 0 @/50-db",
                    "/50-db: refused: /50-db is not root's",
                ),
                (
                    "chmod 775 @/50-db",
                    "chmod 755 @/50-db",
                    "/50-db: refused: others may write to /50-db",
                ),
                (
                    "chmod 757 @/90-last",
                    "chmod 755 @/90-last",
                    "/90-last: refused: others may write to /90-last",
                ),
                (
                    "chmod 1777 @",
                    "chmod 755 @",
                    "/10-first: refused: others may write to ",
                ),
                (
                    "chmod 777 /etc",
                    "chmod 755 /etc",
                    "/10-first: refused: others may write to /etc",
                ),
                (
                    "chown 1000 /etc/qemu-ga",
                    "chown 0 /etc/qemu-ga",
                    "/10-first: refused: /etc/qemu-ga is not root's",
                ),
                (
                    "mv @/50-db /home/user/db; ln -s /home/user/db @/50-db",
                    "rm @/50-db; mv /home/user/db @/50-db",
                    "/50-db: refused: /home/user is not root's",
                ),
            ] {
                guest.shell().run(&spoil.replace('@', HOOKS));
                let said = guest.refused_freeze();
                assert_eq!(said, expected);
                assert!(guest.seen().is_empty(), "{said}");
                let checked = guest.checked("-F");
                assert!(
                    checked.contains(&format!("fsfreeze-hook {said}")),
                    "{checked:?}"
                );
                guest.shell().run(&mend.replace('@', HOOKS));
                all.push(said);
            }
            assert_eq!(guest.freeze_and_thaw(), FREEZE_AND_THAW);
            let works = ["/10-first", "/50-db", "/90-last"]
                .map(|hook| format!("fsfreeze-hook {hook}: works"));
            let checked = guest.checked("-F");
            assert_eq!(
                checked,
                [&works[..], &["statedir /run: works".into()]].concat()
            );
            all.join("; ")
        },
    );
}

fn unwritable_directories(checks: &mut Checks, guest: &mut HookGuest) {
    guest.check(
        checks,
        "runs no hook if it cannot record that",
        "-F",
        |guest| {
            let mut all = Vec::new();
            guest
                .shell()
                .run("mkdir /run/ro && mount -t tmpfs -o ro,mode=755 ro /run/ro");
            for (directory, expected, checked) in [
                (
                    "/tmp",
                    "/tmp: refused: others may write to /tmp",
                    "statedir /tmp: refused: others may write to /tmp",
                ),
                (
                    "/run/ro",
                    "/run/ro: cannot remember hooks: Read-only file system",
                    "statedir /run/ro: the directory is missing or cannot be written",
                ),
            ] {
                let options = format!("-F -t {directory}");
                guest.restart(&options);
                let said = guest.refused_freeze();
                assert_eq!(said, expected);
                assert_eq!(guest.checked(&options).last().expect("a line"), checked);
                assert!(guest.seen().is_empty());
                all.push(said);
            }
            guest.shell().run("umount /run/ro");
            all.join("; ")
        },
    );
}

fn pairing(checks: &mut Checks, guest: &mut HookGuest) {
    guest.check(
        checks,
        "runs thaw hooks after a freeze of nothing",
        "-F",
        |guest| {
            let nothing = json!({ "mountpoints": ["/none"] });
            assert_eq!(guest.client.call("guest-fsfreeze-freeze-list", nothing), 0);
            assert_eq!(guest.seen(), FREEZE_AND_THAW);
            guest.assert_thawed();
            "0".into()
        },
    );
    guest.check(
        checks,
        "runs thaw hooks after a freeze that fails",
        "-F",
        |guest| {
            guest.shell().run(
                "umount /data2; mkdir -p /cover/sub; mount -t xfs /dev/vdb /cover/sub; \
             mount -t tmpfs none /cover",
            );
            guest.on("50-db", "thaw", "exit 3");
            let refusal = guest.freeze().expect_err("a file system is hidden");
            assert!(refusal.desc.contains("/cover/sub"), "{}", refusal.desc);
            assert_eq!(guest.seen(), FREEZE_AND_THAW);
            guest
                .shell()
                .run("umount /cover; umount /cover/sub; mount -t xfs /dev/vdb /data2");
            guest.assert_thawed();
            refusal.desc
        },
    );
}

fn a_freeze_that_ends_late(checks: &mut Checks, guest: &mut HookGuest) {
    guest.check(
        checks,
        "runs thaw hooks after a freeze that times out in the kernel",
        "-F --freeze-timeout=3",
        |guest| {
            guest.qemu.begin_slow_write();
            guest.seen();
            let refusal = guest.freeze().expect_err("the freeze timed out");
            // The other disk, frozen before, is thawed while the kernel still freezes the first.
            guest
                .shell()
                .run("(echo x >/data2/x && sync /data2/x && touch /run/other) >/dev/null 2>&1 &");
            wait::expect("a write to the other disk", wait::ANSWER, || {
                guest.shell().test("rm /run/other")
            });
            assert!(
                !guest.qemu.slow_write_ended(),
                "the slow write was too fast"
            );
            assert_eq!(guest.client.get("guest-fsfreeze-status"), "frozen");
            // A shutdown is allowed in this state.
            let disabled = guest.client.disabled();
            assert!(!disabled.contains("guest-shutdown") && disabled.contains("guest-suspend-ram"));
            guest.qemu.end_slow_write();
            wait::expect("the thaw", wait::ANSWER, || {
                guest.client.get("guest-fsfreeze-status") == "thawed"
            });
            assert_eq!(guest.seen(), FREEZE_AND_THAW);
            guest.qemu.wait_slow_write();
            guest.assert_thawed();
            refusal.desc
        },
    );
}

/// The runs of hooks in a freeze that the second one stops.
const FREEZE_UNDONE: [&str; 4] = [
    "10-first freeze",
    "50-db freeze",
    "50-db thaw",
    "10-first thaw",
];

/// Commands of a hook: a background process that acts as soon as /run/late exists.
const LATE: &str = "(until [ -e /run/late ]; do sleep 0.1; done; echo late >>/run/seen) &\n";

/// Waits for the thaw. Asserts that the process of [`LATE`] no longer exists.
fn assert_nothing_acts_after_thaw(guest: &mut HookGuest) {
    wait::expect("the thaw", wait::ANSWER, || {
        guest.client.get("guest-fsfreeze-status") == "thawed"
    });
    guest.shell().run("touch /run/late");
    std::thread::sleep(Duration::from_secs(2));
    guest.shell().run("rm /run/late");
    assert_eq!(guest.seen(), FREEZE_UNDONE);
    guest.assert_thawed();
}

fn hooks_that_attack_the_agent(checks: &mut Checks, guest: &mut HookGuest) {
    guest.check(
        checks,
        "kills what a hook has started when the child that runs hooks is killed",
        "-F",
        |guest| {
            guest.on(
                "50-db",
                "freeze",
                &format!("{LATE}kill -KILL $PPID\nsleep 66"),
            );
            let refusal = guest.freeze().expect_err("the child is gone");
            assert_nothing_acts_after_thaw(guest);
            // The same with all processes of the agent killed.
            let all = format!("{LATE}killall -KILL gaunt\nsleep 66");
            guest.on("50-db", "freeze", &all);
            guest
                .client
                .send(request("guest-fsfreeze-freeze", &json!({})));
            wait::expect("the hook", wait::ANSWER, || !guest.runs("/usr/bin/gaunt"));
            guest.restart("-F");
            assert_nothing_acts_after_thaw(guest);
            refusal.desc
        },
    );
    guest.check(
        checks,
        "ends a freeze whose hook stops the child that runs it",
        "-F --freeze-timeout=5 --hook-timeout=5",
        |guest| {
            guest.on("50-db", "freeze", "kill -STOP $PPID\nsleep 66");
            let start = Instant::now();
            let refusal = guest.freeze().expect_err("the freeze timed out");
            let took = start.elapsed();
            wait::expect("the thaw", wait::ANSWER, || {
                guest.client.get("guest-fsfreeze-status") == "thawed"
            });
            assert_eq!(guest.seen(), FREEZE_UNDONE);
            assert!(!guest.runs("sleep 66"), "killed with it");
            guest.assert_thawed();
            format!("after {:.1} s: {}", took.as_secs_f32(), refusal.desc)
        },
    );
}

fn frozen_log_and_sigterm(checks: &mut Checks, guest: &mut HookGuest) {
    guest.check(
        checks,
        "ends a freeze whose log is on a file system frozen by others",
        "-F --freeze-timeout=3 --hook-timeout=1",
        |guest| {
            let shell = guest.shell();
            shell.run(
                "mkdir -p /data/log; rm -rf /var/log/qemu-ga; ln -s /data/log /var/log/qemu-ga",
            );
            shell.run("fsfreeze --freeze /data");
            let start = Instant::now();
            let refusal = guest.freeze().expect_err("the freeze timed out");
            let took = start.elapsed();
            wait::expect("the thaw", wait::ANSWER, || {
                guest.client.get("guest-fsfreeze-status") == "thawed"
            });
            guest.seen();
            guest.assert_thawed();
            guest.shell().run("rm /var/log/qemu-ga");
            format!("after {:.1} s: {}", took.as_secs_f32(), refusal.desc)
        },
    );
    guest.check(
        checks,
        "SIGTERM during a hook ends the agent after the thaw",
        "-F",
        |guest| {
            guest.seen();
            guest.on(
                "50-db",
                "freeze",
                "kill -TERM $(cat /run/agent.pid)\nsleep 1",
            );
            assert_eq!(guest.freeze(), Ok(json!(2)));
            guest.client.get("guest-ping");
            assert_eq!(guest.thaw(), Ok(json!(2)));
            wait::expect("the agent to end", wait::ANSWER, || {
                !guest.runs("/usr/bin/gaunt")
            });
            assert_eq!(guest.seen(), FREEZE_AND_THAW);
            guest.restart("-F");
            guest.assert_thawed();
            "ended".into()
        },
    );
}

fn killed_agents(checks: &mut Checks, guest: &mut HookGuest) {
    guest.check(
        checks,
        "nothing stays frozen if killed while the kernel freezes",
        "",
        |guest| {
            guest.qemu.begin_slow_write();
            guest
                .client
                .send(request("guest-fsfreeze-freeze", &json!({})));
            guest.shell().wait_hanging_freeze();
            guest.restart("");
            // The child of the killed agent still waits for the kernel.
            let refusal = guest.thaw().expect_err("the kernel still freezes");
            guest.qemu.end_slow_write();
            wait::expect("the thaw", wait::ANSWER, || {
                guest.client.get("guest-fsfreeze-status") == "thawed"
            });
            guest.qemu.wait_slow_write();
            guest.assert_thawed();
            refusal.desc
        },
    );
    guest.check(
        checks,
        "runs thaw hooks if killed while frozen",
        "-F",
        |guest| {
            guest.seen();
            assert_eq!(guest.freeze(), Ok(json!(2)));
            // Even without -F the next agent runs the thaw hooks.
            guest.restart("");
            assert_eq!(guest.client.get("guest-fsfreeze-status"), "frozen");
            assert_eq!(guest.seen().len(), 3);
            assert_eq!(guest.thaw(), Ok(json!(2)));
            guest.assert_thawed();
            let seen = guest.seen();
            assert_eq!(seen, FREEZE_AND_THAW[3..]);
            seen.join(", ")
        },
    );
    guest.check(
        checks,
        "runs thaw hooks at its start if killed during a hook",
        "-F",
        |guest| {
            guest.on("50-db", "freeze", "sleep 66");
            guest
                .client
                .send("{\"execute\":\"guest-fsfreeze-freeze\"}\n");
            wait::expect("the hook", wait::ANSWER, || {
                guest.shell().test("grep -q 50-db /run/seen")
            });
            guest.restart("-F");
            wait::expect("the thaw", wait::ANSWER, || {
                guest.client.get("guest-fsfreeze-status") == "thawed"
            });
            let seen = guest.seen();
            assert_eq!(seen, FREEZE_UNDONE);
            assert!(!guest.runs("sleep 66"), "killed with it");
            guest.assert_thawed();
            seen.join(", ")
        },
    );
}

/// Number of kills, at moments spread over a freeze and its thaw.
const KILLS: u32 = 24;

fn kills_at_any_moment(checks: &mut Checks, guest: &mut HookGuest) {
    guest.check(checks, "thaws everything and pairs all hooks if killed at any moment", "-F", |guest| {
        for hook in ["10-first", "50-db", "90-last"] {
            for word in ["freeze", "thaw"] {
                guest.on(hook, word, "sleep 0.2");
            }
        }
        let start = Instant::now();
        assert_eq!(guest.freeze_and_thaw(), FREEZE_AND_THAW);
        let whole = start.elapsed();
        let mut counts = [0; 3];
        for round in 0..KILLS {
            let freeze = request("guest-fsfreeze-freeze", &json!({}));
            guest.client.send(freeze);
            // In every other round the client sends no thaw.
            if round % 2 == 0 {
                guest.client.send(request("guest-fsfreeze-thaw", &json!({})));
            }
            // The last moments are after the thaw.
            std::thread::sleep(whole * round / (KILLS * 2 / 3));
            let left = guest.shell().run("kill -KILL $(cat /run/agent.pid); ls /run");
            let hooks = usize::from(left.contains("gaunt.hooks"));
            counts[hooks + usize::from(left.contains("isfrozen"))] += 1;
            guest.restart("-F");
            // A host requests a thaw, frozen or not.
            guest.thaw().expect("a thaw");
            guest.assert_thawed();
        }
        assert!(!guest.runs("/bin/sh /etc/qemu-ga/fsfreeze-hook.d"), "a hook still runs");
        guest.shell().run("rm /run/do/*");
        let seen = guest.seen();
        for hook in ["10-first", "50-db", "90-last"] {
            let runs = seen.iter().filter_map(|line| line.strip_prefix(hook));
            let runs: Vec<_> = runs.map(str::trim).collect();
            for (at, word) in runs.iter().enumerate() {
                let next = runs.get(at + 1);
                assert!(*word == "thaw" || next == Some(&"thaw"), "{hook}: {runs:?}");
            }
        }
        assert_eq!(guest.freeze_and_thaw(), FREEZE_AND_THAW);
        let [rest, hooks, frozen] = counts;
        assert!(hooks != 0 && frozen != 0, "{counts:?}");
        format!(
            "{KILLS} kills: {rest} without marker, {hooks} with hooks run, {frozen} frozen; {} runs of hooks",
            seen.len()
        )
    });
}

fn other_directories(checks: &mut Checks, guest: &mut HookGuest) {
    guest.check(
        checks,
        "runs the administrator's main hook instead",
        "-F",
        |guest| {
            let main = "/etc/qemu-ga/fsfreeze-hook";
            guest.shell().run(&format!("cp -p {HOOKS}/50-db {main}"));
            let own = ["fsfreeze-hook freeze", "fsfreeze-hook thaw"];
            assert_eq!(guest.freeze_and_thaw(), own);
            guest.shell().run(&format!("mv {main} /root/main"));
            guest.restart("--fsfreeze-hook=/root/main");
            assert_eq!(guest.freeze_and_thaw(), ["main freeze", "main thaw"]);
            guest.restart("-F/root/none");
            let said = guest.refused_freeze();
            assert_eq!(
                said,
                "/root/none: refused: /root/none: No such file or directory"
            );
            let checked = guest.checked("-F/root/none");
            assert_eq!(checked[0], format!("fsfreeze-hook {said}"));
            // With a blank in between the path is not the argument of -F.
            guest.restart("-F /root/main");
            assert_eq!(guest.freeze_and_thaw(), FREEZE_AND_THAW);
            said
        },
    );
    guest.check(
        checks,
        "logs hooks to the agent's own log without /var",
        "-F",
        |guest| {
            guest
                .shell()
                .run("rm -rf /var/log; touch /var/log; : >/run/agent.log");
            assert_eq!(guest.freeze_and_thaw(), FREEZE_AND_THAW);
            let shell = guest.shell();
            let log = shell.run("cat /run/agent.log");
            shell.run("rm /var/log");
            assert!(
                log.contains(&format!("cannot write to {LOG}: Not a directory")),
                "{log}"
            );
            assert!(
                log.contains(&format!("thaw {HOOKS}/10-first: done after ")),
                "{log}"
            );
            log.lines().next().unwrap_or_default().to_owned()
        },
    );
    guest.check(
        checks,
        "finds hooks in Debian's directories",
        "-F",
        |guest| {
            guest.shell().run("mv /etc/qemu-ga /etc/qemu");
            assert_eq!(guest.freeze_and_thaw(), FREEZE_AND_THAW);
            let shell = guest.shell();
            let log = shell.run("cat /var/log/qga-fsfreeze-hook.log");
            assert_eq!(log.lines().count(), 12, "{log}");
            shell.run("mv /etc/qemu /etc/qemu-ga");
            log.lines().next().unwrap_or_default().to_owned()
        },
    );
}

/// The main hook of the package: a link to the agent.
const MAIN: &str = "/etc/qemu-ga/fsfreeze-hook";

fn run_by_hand(checks: &mut Checks, guest: &mut HookGuest) {
    guest.check(
        checks,
        "runs hooks by hand as the package's main hook",
        "-F",
        |guest| {
            guest.shell().run(&format!("ln -sf /usr/bin/gaunt {MAIN}"));
            // The agent ignores a main hook that is a link to itself.
            assert_eq!(guest.freeze_and_thaw(), FREEZE_AND_THAW);
            guest.logged();
            let ran = guest.shell().run(&format!(
                "{MAIN} freeze && cd /etc && qemu-ga/fsfreeze-hook thaw"
            ));
            assert_eq!(guest.seen(), FREEZE_AND_THAW);
            assert_eq!(ran.lines().count(), 12);
            assert_eq!(guest.logged().len(), 12);
            guest.on("50-db", "freeze", "exit 3");
            let failed = guest
                .shell()
                .try_run(&format!("{MAIN} freeze"), wait::ANSWER);
            assert_eq!(failed.status, 1);
            assert!(
                failed.output.contains("50-db: exit status 3"),
                "{}",
                failed.output
            );
            assert_eq!(guest.seen().len(), 4);
            let usage = guest
                .shell()
                .try_run(&format!("{MAIN} status"), wait::ANSWER);
            assert_eq!(
                (usage.status, &usage.output[..]),
                (2, "gaunt: usage: /etc/qemu-ga/fsfreeze-hook freeze|thaw")
            );
            guest.assert_thawed();
            failed.output.lines().next().unwrap_or_default().to_owned()
        },
    );
}

fn run_by_hand_and_stopped(checks: &mut Checks, guest: &mut HookGuest) {
    guest.check(
        checks,
        "run by hand and stopped by a signal, runs thaw hooks",
        "-F",
        |guest| {
            guest.shell().run(&format!("ln -sf /usr/bin/gaunt {MAIN}"));
            guest.on("50-db", "freeze", "sleep 67");
            // Ctrl-C, a closed terminal, Ctrl-\\, kill.
            for signal in ["INT", "HUP", "QUIT", "TERM"] {
                guest.shell().run(&format!(
                    "{MAIN} freeze >/run/by-hand 2>&1 & echo $! >/run/by-hand.pid"
                ));
                wait::expect("the hook", wait::ANSWER, || {
                    guest.shell().test("grep -q 50-db /run/seen")
                });
                guest
                    .shell()
                    .run(&format!("kill -{signal} $(cat /run/by-hand.pid)"));
                wait::expect("the command to end", wait::ANSWER, || {
                    !guest.runs("/etc/qemu-ga/fsfreeze-hook ")
                });
                assert_eq!(guest.seen(), FREEZE_UNDONE, "{signal}");
                let said = guest.shell().run("cat /run/by-hand");
                assert!(
                    said.contains("50-db: killed, because it was to end"),
                    "{said}"
                );
            }
            "4 signals".into()
        },
    );
    guest.check(checks, "refuses a hook that runs the main hook", "-F", |guest| {
        guest.shell().run(&format!("ln -sf /usr/bin/gaunt {MAIN}"));
        guest.on("50-db", "freeze", &format!("{MAIN} freeze || exit 7"));
        let said = guest.refused_freeze();
        assert_eq!(
            said,
            format!("/50-db: exit status 7: gaunt: {MAIN} is run by the hook /50-db, which it would run")
        );
        assert_eq!(guest.seen(), FREEZE_UNDONE);
        said
    });
}

/// Compiles `src/bin/hook.rs` as a static program.
fn static_hook(to: &Path) {
    let target = std::env::var("TARGET").unwrap_or_else(|_| "x86_64-unknown-linux-musl".into());
    let words = ["--edition=2024", "-Copt-level=s", "-Cstrip=symbols", "-o"];
    let source = top().join("tests/e2e/src/bin/hook.rs");
    run(
        Command::new(program("rustc", "rustc"))
            .args(["--target", &target])
            .args(words)
            .arg(to)
            .arg(source),
        wait::ANSWER,
    );
}

/// Runs a command through virsh. Returns its value.
fn ask(libvirt: &Libvirt, command: &str, arguments: Value) -> Value {
    let request = request(command, &arguments);
    let answer = libvirt.ok(&["qemu-agent-command", DOMAIN, request.trim()]);
    let mut answer: Value = serde_json::from_str(&answer).expect("JSON");
    answer["return"].take()
}

/// Returns the lines of a file in the guest.
fn lines(libvirt: &Libvirt, path: &str) -> Vec<String> {
    let handle = ask(libvirt, "guest-file-open", json!({ "path": path }));
    let read = ask(
        libvirt,
        "guest-file-read",
        json!({ "handle": handle, "count": 65536 }),
    );
    ask(libvirt, "guest-file-close", json!({ "handle": handle }));
    let text = decode(read["buf-b64"].as_str().expect("text"));
    let text = String::from_utf8(text).expect("text");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn static_hooks_run_around_a_snapshot() {
    let mut checks = Checks::new("static hooks");
    let names = ["10-first", "50-db", "90-last"];
    let words = "-- -F --hook-timeout=20";
    let libvirt = Libvirt::with_words(256, &["ext4.qcow2"], words, |scratch| {
        static_hook(&scratch.join("hook"));
        let mut archive = Cpio::new();
        for name in names {
            archive = archive.copy(&format!("{}/{name}", &HOOKS[1..]), &scratch.join("hook"));
        }
        let bytes = appended(&image_file("bare.cpio.gz"), &archive.finish());
        std::fs::write(scratch.join(INITRAMFS), bytes).expect("a file");
        std::fs::copy(image_file("vmlinuz"), scratch.join(KERNEL)).expect("a copy");
        disk::qcow2(&scratch.join("ext4.qcow2"), Fs::Ext4);
    });
    libvirt.boot_without_shell();
    // Two checks look at what it has left.
    let taken = libvirt.virsh(&quiesced_snapshot("one"));
    checks.run("a snapshot runs hooks in order, and in reverse", || {
        assert!(taken.status.success(), "{}", text(&taken));
        let seen = lines(&libvirt, "/run/seen");
        assert_eq!(seen, FREEZE_AND_THAW);
        let log = lines(&libvirt, LOG);
        assert_eq!(log.len(), 12, "{log:?}");
        log.join(" · ").replace(HOOKS, "")
    });
    checks.run(
        "the snapshot holds what the hooks wrote before the freeze",
        || {
            let scratch = Scratch::new();
            let copy = scratch.join("copy");
            disk::raw_copy(&libvirt.file("ext4.qcow2"), &copy);
            assert!(disk::ext4_is_clean(&copy));
            let held = run(
                Command::new(program("debugfs", "e2fsprogs"))
                    .args(["-R", "cat /seen"])
                    .arg(&copy),
                wait::ANSWER,
            );
            let held: Vec<_> = held.lines().collect();
            assert_eq!(held, FREEZE_AND_THAW[..3]);
            assert_eq!(lines(&libvirt, "/data/seen"), FREEZE_AND_THAW);
            held.join(", ")
        },
    );
    checks.run("a hook that fails fails the snapshot", || {
        let path = json!({ "path": "/run/50-db.freeze", "mode": "w" });
        let handle = ask(&libvirt, "guest-file-open", path);
        ask(&libvirt, "guest-file-close", json!({ "handle": handle }));
        let before = lines(&libvirt, "/run/seen").len();
        let said = libvirt.refusal(&quiesced_snapshot("two"));
        let expected = format!("{PREFIX}{HOOKS}/50-db: exit status 3: 50-db refuses");
        assert!(said.contains(&expected), "{said}");
        assert_eq!(ask(&libvirt, "guest-fsfreeze-status", json!({})), "thawed");
        let seen = lines(&libvirt, "/run/seen");
        assert_eq!(seen[before..], FREEZE_UNDONE);
        said.trim().to_owned()
    });
    checks.finish();
}
