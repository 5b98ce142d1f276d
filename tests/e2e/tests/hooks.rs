//! Hooks before a freeze and after the thaw: in a guest with a shell, where they are scripts and go
//! wrong in every way, and in one that holds no shell, where they are static programs, through virsh.

use std::net::Shutdown;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

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

/// Where hooks are.
const HOOKS: &str = "/etc/qemu-ga/fsfreeze-hook.d";
/// The log that is written about them.
const LOG: &str = "/var/log/qemu-ga/fsfreeze-hook.log";
/// How an error of a hook begins.
const FRAME: &str = "child process has failed to execute fsfreeze hook: ";

/// What every script does: it says that it was run, then does what the test wants of it.
const SCRIPT: &str = r#"#!/bin/sh
name=${0##*/}
echo "$name $1" >>/run/seen
if [ -e "/run/do/$name.$1" ]; then . "/run/do/$name.$1"; fi
"#;

/// A guest in which hooks are scripts, and the agent's port.
struct Tried {
    guest: Guest,
    client: Client,
}

impl Tried {
    fn shell(&mut self) -> &mut GuestShell {
        self.guest.shell()
    }

    /// A check in which hooks at first do nothing but say that they were run.
    fn check(
        &mut self,
        checks: &mut Checks,
        name: &'static str,
        look: impl FnOnce(&mut Tried) -> String,
    ) {
        self.calm();
        checks.run(name, || look(self));
    }

    /// Kills the agent and starts it with these words.
    fn restart(&mut self, words: &str) {
        self.shell().restart_agent(words);
        self.client
            .sync(wait::ANSWER)
            .expect("an answer to guest-sync");
    }

    /// Has a hook do this when it is told that; nothing if there are no commands.
    fn on(&mut self, hook: &str, word: &str, commands: &str) {
        let file = format!("/run/do/{hook}.{word}");
        self.shell().run(&match commands {
            "" => format!("rm -f {file}"),
            _ => format!("cat >{file} <<'END'\n{commands}\nEND"),
        });
    }

    /// Has all hooks do nothing more.
    fn calm(&mut self) {
        self.shell().run("rm -f /run/do/* /run/seen");
    }

    /// What hooks were told, in order, since this was last asked for.
    fn seen(&mut self) -> Vec<String> {
        let seen = self
            .shell()
            .run("touch /run/seen; cat /run/seen; rm /run/seen");
        seen.lines().map(str::to_owned).collect()
    }

    /// What was logged since this was last asked for, without times.
    fn logged(&mut self) -> Vec<String> {
        let text = self
            .shell()
            .run(&format!("touch {LOG}; cat {LOG}; rm {LOG}"));
        let without_time = |line: &str| {
            let (time, rest) = line.split_once(' ').expect("a time");
            assert!(time.len() == 20 && time.ends_with('Z'), "{line}");
            rest.replace(HOOKS, "")
        };
        text.lines().map(without_time).collect()
    }

    /// Whether a process runs whose command line begins like this.
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

    /// A freeze that an error of hooks stops: gives the error. Nothing is frozen, nothing is left.
    fn refused(&mut self) -> String {
        let refusal = self.freeze().expect_err("a hook stops it");
        self.is_at_rest();
        let said = refusal.desc.strip_prefix(FRAME);
        let said = said.unwrap_or_else(|| panic!("{}", refusal.desc));
        said.replace(HOOKS, "")
    }

    /// Checks that nothing is frozen, and nothing remembered.
    fn is_at_rest(&mut self) {
        assert_eq!(self.client.get("guest-fsfreeze-status"), "thawed");
        let written = "echo x >/data/x && sync /data/x && echo x >/data2/x && sync /data2/x";
        self.shell().run(written);
        let left = self.shell().run("ls /run");
        assert!(
            !left.contains("isfrozen") && !left.contains("gaunt.hooks"),
            "{left}"
        );
    }

    /// Freezes and thaws, which must go well; gives what hooks were told.
    fn goes_well(&mut self) -> Vec<String> {
        self.seen();
        assert_eq!(self.freeze(), Ok(json!(2)));
        assert_eq!(self.thaw(), Ok(json!(2)));
        self.is_at_rest();
        self.seen()
    }
}

/// What hooks are told by a freeze and its thaw: in order, and in reverse.
const BOTH: [&str; 6] = [
    "10-first freeze",
    "50-db freeze",
    "90-last freeze",
    "90-last thaw",
    "50-db thaw",
    "10-first thaw",
];

#[test]
fn hooks_that_are_scripts() {
    let mut checks = Checks::new("hooks");
    let scratch = Scratch::new();
    let (ext4, xfs) = (scratch.join("ext4.raw"), scratch.join("xfs.raw"));
    disk::raw(&ext4, Fs::Ext4);
    disk::raw(&xfs, Fs::Xfs);
    let mut archive = Cpio::new().directory("run");
    for name in ["10-first", "50-db", "90-last"] {
        archive = archive.file(&format!("{}/{name}", &HOOKS[1..]), 0o755, SCRIPT.as_bytes());
    }
    let mut guest = Machine::new(Image::Busybox)
        .overlay(&archive.finish())
        .kernel("gaunt.agent=off")
        .disk(&ext4)
        .disk(&xfs)
        .boot();
    guest.wait_shell();
    guest.shell().run("mkdir /run/do");
    let client = Client::connect(&guest.agent_socket());
    let mut tried = Tried { guest, client };
    let tried = &mut tried;

    in_order(&mut checks, tried);
    failing(&mut checks, tried);
    slow(&mut checks, tried);
    distrusted(&mut checks, tried);
    paired(&mut checks, tried);
    killed(&mut checks, tried);
    stuck(&mut checks, tried);
    elsewhere(&mut checks, tried);
    by_hand(&mut checks, tried);
    checks.finish();
}

fn in_order(checks: &mut Checks, tried: &mut Tried) {
    tried.check(checks, "without -F there are no hooks", |tried| {
        tried.restart("");
        assert!(tried.goes_well().is_empty());
        tried.restart("-F/dev/null");
        assert!(tried.goes_well().is_empty());
        "none were run".into()
    });
    tried.check(
        checks,
        "they run in order, and in reverse after the thaw",
        |tried| {
            tried.restart("-F");
            assert_eq!(tried.goes_well(), BOTH);
            let logged = tried.logged();
            let expected = BOTH.map(|run| {
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
    tried.check(checks, "what is no hook is passed over", |tried| {
        let shell = tried.shell();
        for name in ["60-x~", "60-x.bak", "60-x.sample", "60-x.rpmsave", "60-x.dpkg-old", ".60-x"] {
            shell.run(&format!("cp -p {HOOKS}/50-db {HOOKS}/{name}"));
        }
        shell.run(&format!(
            "cp -p {HOOKS}/50-db {HOOKS}/60-not; chmod 644 {HOOKS}/60-not; mkdir {HOOKS}/60-directory; \
             ln -s nowhere {HOOKS}/60-link"
        ));
        assert_eq!(tried.goes_well(), BOTH);
        tried.shell().run(&format!("rm -r {HOOKS}/60-* {HOOKS}/.60-x"));
        "nine files".into()
    });
    tried.check(
        checks,
        "a hook finds what it needs, and nothing of the agent's",
        |tried| {
            // What a service manager gives it, and what is for every program.
            let variables = "INVOCATION_ID=1 JOURNAL_STREAM=8:9 NOTIFY_SOCKET=/run/n \
                             FILTER_RPC_ARGS= LANG=C.UTF-8 LC_TIME=C TZ=UTC0";
            tried.shell().restart_agent_in(variables, "-F");
            tried
                .client
                .sync(wait::ANSWER)
                .expect("an answer to guest-sync");
            tried.logged();
            tried.on(
                "50-db",
                "freeze",
                "env | sort; pwd; umask; readlink /proc/$$/fd/0; ls /proc/$$/fd; \
             cut -d ' ' -f 1,5,6 /proc/$$/stat; grep SigBlk /proc/$$/status",
            );
            assert_eq!(tried.goes_well(), BOTH);
            let said: Vec<_> = tried.logged();
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
            // The shell's own among them.
            let expected = [
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
            assert_eq!(variables, expected);
            // 10 and 11 are the shell's own, which reads scripts.
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
            assert!(pid == group && group == session, "a session of its own");
            assert!(said[open + 6].ends_with("x090000000000000000"), "{said:?}");
            said.join(" · ")
        },
    );
    tried.check(
        checks,
        "nothing is written from the freeze until the thaw",
        |tried| {
            // The log and what a hook writes are on a disk that is frozen.
            tried
                .shell()
                .run("mkdir /data/log; rm -rf /var/log/qemu-ga; ln -s /data/log /var/log/qemu-ga");
            tried.on("50-db", "freeze", "echo rests >/data/50-db");
            tried.on("50-db", "thaw", "echo goes on >>/data/50-db; sync");
            assert_eq!(tried.goes_well(), BOTH);
            let shell = tried.shell();
            assert_eq!(shell.run("cat /data/50-db"), "rests\ngoes on");
            let lines = shell.run(&format!("wc -l <{LOG}"));
            shell.run("rm /var/log/qemu-ga");
            format!("{lines} lines of the log")
        },
    );
    tried.check(
        checks,
        "processes left in the background neither wait nor end",
        |tried| {
            tried.on(
                "10-first",
                "freeze",
                "sleep 61 </dev/null >/dev/null 2>&1 &",
            );
            tried.on("50-db", "freeze", "sleep 62 &");
            let start = Instant::now();
            assert_eq!(tried.goes_well(), BOTH);
            let took = start.elapsed();
            assert!(took < Duration::from_secs(20), "{took:?}");
            for seconds in [61, 62] {
                assert!(tried.runs(&format!("sleep {seconds}")), "it goes on");
            }
            format!("{:.1} s", took.as_secs_f32())
        },
    );
}

fn failing(checks: &mut Checks, tried: &mut Tried) {
    tried.check(checks, "one that fails stops the freeze", |tried| {
        tried.logged();
        tried.on(
            "50-db",
            "freeze",
            "echo first; echo no rest for the db >&2; exit 3",
        );
        let said = tried.refused();
        assert_eq!(said, "/50-db: exit status 3: first\nno rest for the db");
        assert_eq!(tried.seen(), UNDONE);
        tried.on("50-db", "freeze", "kill -SEGV $$");
        let killed = tried.refused();
        assert_eq!(killed, "/50-db: killed by signal 11");
        assert_eq!(tried.seen(), UNDONE);
        let logged = tried.logged();
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
        tried.calm();
        assert_eq!(tried.goes_well(), BOTH);
        format!("{said}; {killed}")
    });
    tried.check(
        checks,
        "one that cannot be run stops the freeze, and needs no thaw",
        |tried| {
            tried.shell().run(&format!(
                "printf '#!/none\\n' >{HOOKS}/60-none; chmod 755 {HOOKS}/60-none"
            ));
            let said = tried.refused();
            assert_eq!(said, "/60-none: cannot be run: No such file or directory");
            assert_eq!(tried.seen(), UNDONE);
            tried.shell().run(&format!("rm {HOOKS}/60-none"));
            said
        },
    );
    tried.check(
        checks,
        "one that fails at the thaw is an error, and all is thawed",
        |tried| {
            assert_eq!(tried.freeze(), Ok(json!(2)));
            tried.on("50-db", "thaw", "echo stays at rest; exit 4");
            tried.on("10-first", "thaw", "exit 5");
            let refusal = tried.thaw().expect_err("a hook failed");
            assert_eq!(
                refusal.desc,
                format!("{FRAME}{HOOKS}/50-db: exit status 4: stays at rest")
            );
            tried.is_at_rest();
            assert_eq!(tried.seen(), BOTH);
            tried.calm();
            assert_eq!(tried.goes_well(), BOTH);
            refusal.desc
        },
    );
    tried.check(checks, "--hook-failures=ignore only logs", |tried| {
        tried.restart("-F --hook-failures=ignore");
        tried.logged();
        tried.on("50-db", "freeze", "exit 3");
        tried.on("50-db", "thaw", "exit 4");
        assert_eq!(tried.goes_well(), BOTH);
        let logged = tried.logged();
        for word in ["freeze /50-db: exit status 3", "thaw /50-db: exit status 4"] {
            assert!(
                logged.iter().any(|line| line.starts_with(word)),
                "{logged:?}"
            );
        }
        tried.restart("-F");
        "2 frozen, 2 thawed".into()
    });
    tried.check(
        checks,
        "what a hook says without end is cut, and costs no memory",
        |tried| {
            tried.on(
                "50-db",
                "freeze",
                "yes | head -c 3000000; printf 'a\\033[2J\\001b'; exit 1",
            );
            tried.logged();
            let said = tried.refused();
            assert!(said.ends_with("\ny\na\u{1b}[2J\u{1}b"), "{said:?}");
            let logged = tried.logged();
            assert!(logged.iter().any(|line| line.contains("is left out")));
            let bytes: usize = logged.iter().map(|line| line.len()).sum();
            format!("{} lines of {bytes} bytes", logged.len())
        },
    );
}

/// Talks to the agent over a connection of its own: another host has come.
fn meanwhile(tried: &mut Tried, look: impl FnOnce(&mut Client)) {
    tried
        .client
        .stream()
        .shutdown(Shutdown::Both)
        .expect("a connection");
    // One that comes back at once would wait for what it has asked for.
    std::thread::sleep(Duration::from_millis(1500));
    tried.client = Client::connect(&tried.guest.agent_socket());
    tried
        .client
        .sync(wait::ANSWER)
        .expect("an answer to guest-sync");
    look(&mut tried.client);
}

fn slow(checks: &mut Checks, tried: &mut Tried) {
    tried.check(
        checks,
        "one that is too slow is killed with all it has started",
        |tried| {
            tried.restart("-F --hook-timeout=2");
            tried.on("50-db", "freeze", "sleep 63 & sleep 63");
            let start = Instant::now();
            let said = tried.refused();
            let took = start.elapsed();
            assert_eq!(said, "/50-db: killed, because it took longer than 2 s");
            assert_eq!(tried.seen().len(), 4);
            assert!(!tried.runs("sleep 63"));
            format!("{:.1} s", took.as_secs_f32())
        },
    );
    tried.check(
        checks,
        "one that writes without end, faster than it is read, is killed in time",
        |tried| {
            tried.restart("-F --hook-timeout=2");
            // Whoever reads gets little of one processor.
            tried.on(
                "50-db",
                "freeze",
                "renice -n 19 -p $PPID; taskset -p 1 $PPID; exec taskset 1 dd if=/dev/zero bs=64k",
            );
            let start = Instant::now();
            let said = tried.refused();
            let took = start.elapsed();
            assert!(
                said.starts_with("/50-db: killed, because it took longer than 2 s"),
                "{said}"
            );
            assert!(took < Duration::from_secs(12), "{took:?}");
            tried.restart("-F --hook-timeout=2");
            tried.seen();
            format!("{:.1} s", took.as_secs_f32())
        },
    );
    tried.check(
        checks,
        "too slow at the thaw, it is killed and the next one runs",
        |tried| {
            assert_eq!(tried.freeze(), Ok(json!(2)));
            tried.on("90-last", "thaw", "sleep 64");
            let refusal = tried.thaw().expect_err("a hook was killed");
            assert!(
                refusal
                    .desc
                    .ends_with("/90-last: killed, because it took longer than 2 s")
            );
            assert_eq!(tried.seen(), BOTH);
            tried.is_at_rest();
            refusal.desc
        },
    );
    tried.check(
        checks,
        "status and ping are answered while a hook runs",
        |tried| {
            tried.restart("-F");
            tried.on(
                "50-db",
                "freeze",
                "until [ -e /run/go ]; do sleep 0.1; done",
            );
            tried
                .client
                .send("{\"execute\":\"guest-fsfreeze-freeze\"}\n");
            wait::expect("the hook", wait::ANSWER, || {
                tried.shell().test("grep -q 50-db /run/seen")
            });
            meanwhile(tried, |client| {
                client.get("guest-ping");
                assert_eq!(client.get("guest-fsfreeze-status"), "frozen");
                let refusal = client.try_call("guest-get-osinfo", json!({}));
                assert_eq!(refusal.expect_err("frozen").class, "CommandNotFound");
            });
            // Nothing is frozen yet.
            tried
                .shell()
                .run("echo x >/data/x && sync /data/x; touch /run/go");
            assert_eq!(tried.thaw(), Ok(json!(2)));
            assert_eq!(tried.seen(), BOTH);
            tried.shell().run("rm /run/go");
            "all the while".into()
        },
    );
    tried.check(
        checks,
        "all of them, and the freeze, have the time of a freeze",
        |tried| {
            tried.restart("-F --freeze-timeout=4");
            tried.on("90-last", "freeze", "sleep 65");
            let said = tried.refused();
            assert_eq!(said, "/90-last: killed, because the freeze took too long");
            assert_eq!(tried.seen(), BOTH);
            said
        },
    );
    tried.check(checks, "thaw hooks may take longer than that", |tried| {
        for hook in ["10-first", "50-db", "90-last"] {
            tried.on(hook, "thaw", "sleep 2");
        }
        assert_eq!(tried.goes_well(), BOTH);
        "6 s of hooks, a limit of 4".into()
    });
    tried.check(
        checks,
        "a freeze that nobody thaws has its hooks thawed",
        |tried| {
            tried.seen();
            assert_eq!(tried.freeze(), Ok(json!(2)));
            wait::expect("the thaw", wait::ANSWER, || {
                tried.client.get("guest-fsfreeze-status") == "thawed"
            });
            assert_eq!(tried.seen(), BOTH);
            assert_eq!(tried.thaw(), Ok(json!(0)));
            assert!(tried.seen().is_empty(), "nothing was at rest any more");
            tried.is_at_rest();
            "then the host's thaw: 0, and no hook".into()
        },
    );
}

fn distrusted(checks: &mut Checks, tried: &mut Tried) {
    tried.check(
        checks,
        "what others can change is refused, and none is run",
        |tried| {
            tried.restart("-F");
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
                tried.shell().run(&spoil.replace('@', HOOKS));
                let said = tried.refused();
                assert_eq!(said, expected);
                assert!(tried.seen().is_empty(), "{said}");
                tried.shell().run(&mend.replace('@', HOOKS));
                all.push(said);
            }
            assert_eq!(tried.goes_well(), BOTH);
            all.join("; ")
        },
    );
    tried.check(checks, "what cannot be remembered is not begun", |tried| {
        let mut all = Vec::new();
        tried
            .shell()
            .run("mkdir /run/ro && mount -t tmpfs -o ro,mode=755 ro /run/ro");
        for (directory, expected) in [
            ("/tmp", "/tmp: refused: others may write to /tmp"),
            (
                "/run/ro",
                "/run/ro: cannot remember hooks: Read-only file system",
            ),
        ] {
            tried.restart(&format!("-F -t {directory}"));
            let said = tried.refused();
            assert_eq!(said, expected);
            assert!(tried.seen().is_empty());
            all.push(said);
        }
        tried.shell().run("umount /run/ro");
        all.join("; ")
    });
}

fn paired(checks: &mut Checks, tried: &mut Tried) {
    tried.check(
        checks,
        "a freeze of nothing has its hooks thawed",
        |tried| {
            tried.restart("-F");
            let nothing = json!({ "mountpoints": ["/none"] });
            assert_eq!(tried.client.call("guest-fsfreeze-freeze-list", nothing), 0);
            assert_eq!(tried.seen(), BOTH);
            tried.is_at_rest();
            "0".into()
        },
    );
    tried.check(
        checks,
        "a freeze that fails has its hooks thawed",
        |tried| {
            tried.shell().run(
                "umount /data2; mkdir -p /cover/sub; mount -t xfs /dev/vdb /cover/sub; \
             mount -t tmpfs none /cover",
            );
            tried.on("50-db", "thaw", "exit 3");
            let refusal = tried.freeze().expect_err("a file system is covered");
            assert!(refusal.desc.contains("/cover/sub"), "{}", refusal.desc);
            assert_eq!(tried.seen(), BOTH);
            tried
                .shell()
                .run("umount /cover; umount /cover/sub; mount -t xfs /dev/vdb /data2");
            tried.is_at_rest();
            refusal.desc
        },
    );
    tried.check(
        checks,
        "a freeze given up in the kernel has its hooks thawed",
        |tried| {
            tried.restart("-F --freeze-timeout=3");
            slow_write(tried);
            tried.seen();
            let refusal = tried.freeze().expect_err("given up");
            // The other disk, frozen before, is thawed beside the one that is stuck.
            tried
                .shell()
                .run("(echo x >/data2/x && sync /data2/x && touch /run/other) >/dev/null 2>&1 &");
            wait::expect("a write to the other disk", wait::ANSWER, || {
                tried.shell().test("rm /run/other")
            });
            assert!(tried.shell().test("! test -e /run/slow"), "one is stuck");
            assert_eq!(tried.client.get("guest-fsfreeze-status"), "frozen");
            // The guest could be taken down.
            let info = tried.client.get("guest-info");
            let commands = info["supported_commands"].as_array().expect("a list");
            let enabled = |name: &str| {
                let one = commands.iter().find(|one| one["name"] == name);
                one.is_some_and(|one| one["enabled"] == true)
            };
            assert!(enabled("guest-shutdown") && !enabled("guest-suspend-ram"));
            throttle(&mut tried.guest, 0);
            wait::expect("the thaw", wait::ANSWER, || {
                tried.client.get("guest-fsfreeze-status") == "thawed"
            });
            assert_eq!(tried.seen(), BOTH);
            slow_write_is_done(tried);
            tried.is_at_rest();
            refusal.desc
        },
    );
}

/// Begins a write that takes its time, which keeps the kernel from completing a freeze.
fn slow_write(tried: &mut Tried) {
    tried
        .shell()
        .run("dd if=/dev/zero of=/data/slow bs=1M count=4 conv=fsync 2>/dev/null");
    throttle(&mut tried.guest, 20_000);
    tried.shell().run(
        "(dd if=/dev/zero of=/data/slow bs=2M count=1 oflag=direct conv=notrunc; \
          touch /run/slow) >/dev/null 2>&1 &",
    );
    std::thread::sleep(Duration::from_millis(1500));
}

fn slow_write_is_done(tried: &mut Tried) {
    wait::expect("the slow write", wait::ANSWER, || {
        tried.shell().test("rm /run/slow")
    });
}

/// Slows the first disk down to so many bytes a second; 0 is its own speed.
fn throttle(guest: &mut Guest, bytes_per_s: u64) {
    let limits = json!({
        "device": "disk0", "bps": bytes_per_s, "bps_rd": 0, "bps_wr": 0,
        "iops": 0, "iops_rd": 0, "iops_wr": 0
    });
    guest.qmp("block_set_io_throttle", limits);
}

/// What hooks are told if the second one stops the freeze.
const UNDONE: [&str; 4] = [
    "10-first freeze",
    "50-db freeze",
    "50-db thaw",
    "10-first thaw",
];

fn stuck(checks: &mut Checks, tried: &mut Tried) {
    tried.check(
        checks,
        "the child that runs hooks is killed: nothing its hook has started acts after the thaw",
        |tried| {
            tried.restart("-F");
            tried.on(
                "50-db",
                "freeze",
                "(sleep 3; echo late >>/run/seen) &\nkill -KILL $PPID\nsleep 66",
            );
            let refusal = tried.freeze().expect_err("its child is gone");
            wait::expect("the thaw", wait::ANSWER, || {
                tried.client.get("guest-fsfreeze-status") == "thawed"
            });
            std::thread::sleep(Duration::from_secs(4));
            assert_eq!(tried.seen(), UNDONE);
            tried.is_at_rest();
            // And all of the agent with it.
            let all = "(sleep 3; echo late >>/run/seen) &\nkillall -KILL gaunt\nsleep 66";
            tried.on("50-db", "freeze", all);
            tried
                .client
                .send(request("guest-fsfreeze-freeze", &json!({})));
            wait::expect("the hook", wait::ANSWER, || !tried.runs("/usr/bin/gaunt"));
            tried.restart("-F");
            wait::expect("the thaw", wait::ANSWER, || {
                tried.client.get("guest-fsfreeze-status") == "thawed"
            });
            std::thread::sleep(Duration::from_secs(4));
            assert_eq!(tried.seen(), UNDONE);
            tried.is_at_rest();
            refusal.desc
        },
    );
    tried.check(
        checks,
        "a hook that stops the child it is run by is given up",
        |tried| {
            tried.restart("-F --freeze-timeout=3 --hook-timeout=1");
            tried.on("50-db", "freeze", "kill -STOP $PPID\nsleep 66");
            let start = Instant::now();
            let refusal = tried.freeze().expect_err("given up");
            let took = start.elapsed();
            wait::expect("the thaw", wait::ANSWER, || {
                tried.client.get("guest-fsfreeze-status") == "thawed"
            });
            assert_eq!(tried.seen(), UNDONE);
            assert!(!tried.runs("sleep 66"), "killed with it");
            tried.is_at_rest();
            format!("after {:.1} s: {}", took.as_secs_f32(), refusal.desc)
        },
    );
    tried.check(
        checks,
        "a log on a file system that somebody else froze does not hold up a freeze for ever",
        |tried| {
            let shell = tried.shell();
            shell.run("rm -rf /var/log/qemu-ga; ln -s /data/log /var/log/qemu-ga");
            shell.run("fsfreeze --freeze /data");
            let start = Instant::now();
            let refusal = tried.freeze().expect_err("given up");
            let took = start.elapsed();
            wait::expect("the thaw", wait::ANSWER, || {
                tried.client.get("guest-fsfreeze-status") == "thawed"
            });
            tried.seen();
            tried.is_at_rest();
            tried.shell().run("rm /var/log/qemu-ga");
            format!("after {:.1} s: {}", took.as_secs_f32(), refusal.desc)
        },
    );
    tried.check(
        checks,
        "SIGTERM in a hook: it freezes, thaws, and ends",
        |tried| {
            tried.restart("-F");
            tried.seen();
            tried.on(
                "50-db",
                "freeze",
                "kill -TERM $(cat /run/agent.pid)\nsleep 1",
            );
            assert_eq!(tried.freeze(), Ok(json!(2)));
            tried.client.get("guest-ping");
            assert_eq!(tried.thaw(), Ok(json!(2)));
            wait::expect("its end", wait::ANSWER, || !tried.runs("/usr/bin/gaunt"));
            assert_eq!(tried.seen(), BOTH);
            tried.restart("-F");
            tried.is_at_rest();
            "ended".into()
        },
    );
}

/// Kills at moments between nothing and all of a freeze and its thaw.
const KILLS: u32 = 24;

fn killed(checks: &mut Checks, tried: &mut Tried) {
    tried.check(
        checks,
        "killed while the kernel freezes, nothing stays frozen in the end",
        |tried| {
            tried.restart("");
            slow_write(tried);
            tried
                .client
                .send(request("guest-fsfreeze-freeze", &json!({})));
            std::thread::sleep(Duration::from_millis(1500));
            tried.restart("");
            // Its child goes on until the kernel lets it.
            let refusal = tried.thaw().expect_err("it is not over");
            throttle(&mut tried.guest, 0);
            wait::expect("the thaw", wait::ANSWER, || {
                tried.client.get("guest-fsfreeze-status") == "thawed"
            });
            slow_write_is_done(tried);
            tried.is_at_rest();
            refusal.desc
        },
    );
    tried.check(
        checks,
        "killed while frozen, the next run's thaw has the hooks",
        |tried| {
            tried.restart("-F");
            tried.seen();
            assert_eq!(tried.freeze(), Ok(json!(2)));
            // Also one that knows of no hooks.
            tried.restart("");
            assert_eq!(tried.client.get("guest-fsfreeze-status"), "frozen");
            assert_eq!(tried.seen().len(), 3);
            assert_eq!(tried.thaw(), Ok(json!(2)));
            tried.is_at_rest();
            let seen = tried.seen();
            assert_eq!(seen, BOTH[3..]);
            seen.join(", ")
        },
    );
    tried.check(
        checks,
        "killed in a hook, the next run thaws those that ran, at once",
        |tried| {
            tried.restart("-F");
            tried.on("50-db", "freeze", "sleep 66");
            tried
                .client
                .send("{\"execute\":\"guest-fsfreeze-freeze\"}\n");
            wait::expect("the hook", wait::ANSWER, || {
                tried.shell().test("grep -q 50-db /run/seen")
            });
            tried.restart("-F");
            wait::expect("the thaw", wait::ANSWER, || {
                tried.client.get("guest-fsfreeze-status") == "thawed"
            });
            let seen = tried.seen();
            assert_eq!(seen, UNDONE);
            assert!(!tried.runs("sleep 66"), "killed with it");
            tried.is_at_rest();
            seen.join(", ")
        },
    );
    tried.check(checks, "killed at any moment: nothing frozen, every freeze has its thaw", |tried| {
        for hook in ["10-first", "50-db", "90-last"] {
            for word in ["freeze", "thaw"] {
                tried.on(hook, word, "sleep 0.2");
            }
        }
        tried.shell().run("rm -f /run/seen");
        let mut counts = [0; 3];
        for round in 0..KILLS {
            let freeze = request("guest-fsfreeze-freeze", &json!({}));
            tried.client.send(freeze);
            // Every other host dies before it asks for the thaw.
            if round % 2 == 0 {
                tried.client.send(request("guest-fsfreeze-thaw", &json!({})));
            }
            std::thread::sleep(Duration::from_millis(u64::from(round) * 110));
            let left = tried.shell().run("kill -KILL $(cat /run/agent.pid); ls /run");
            let hooks = usize::from(left.contains("gaunt.hooks"));
            counts[hooks + usize::from(left.contains("isfrozen"))] += 1;
            tried.restart("-F");
            // Frozen or not, a host would ask for a thaw.
            tried.thaw().expect("a thaw");
            tried.is_at_rest();
        }
        assert!(!tried.runs("/bin/sh /etc/qemu-ga/fsfreeze-hook.d"), "a hook is left");
        tried.shell().run("rm /run/do/*");
        let seen = tried.seen();
        for hook in ["10-first", "50-db", "90-last"] {
            let told = seen.iter().filter_map(|line| line.strip_prefix(hook));
            let told: Vec<_> = told.map(str::trim).collect();
            for (at, word) in told.iter().enumerate() {
                let next = told.get(at + 1);
                assert!(*word == "thaw" || next == Some(&"thaw"), "{hook}: {told:?}");
            }
        }
        assert_eq!(tried.goes_well(), BOTH);
        let [rest, hooks, frozen] = counts;
        assert!(hooks != 0 && frozen != 0, "{counts:?}");
        format!(
            "{KILLS} kills: {rest} at rest, {hooks} with hooks run, {frozen} frozen; {} runs of hooks",
            seen.len()
        )
    });
}

fn elsewhere(checks: &mut Checks, tried: &mut Tried) {
    tried.check(
        checks,
        "a main hook of the administrator's runs instead",
        |tried| {
            let main = "/etc/qemu-ga/fsfreeze-hook";
            tried.shell().run(&format!("cp -p {HOOKS}/50-db {main}"));
            let own = ["fsfreeze-hook freeze", "fsfreeze-hook thaw"];
            assert_eq!(tried.goes_well(), own);
            tried.shell().run(&format!("mv {main} /root/main"));
            tried.restart("--fsfreeze-hook=/root/main");
            assert_eq!(tried.goes_well(), ["main freeze", "main thaw"]);
            tried.restart("-F/root/none");
            let said = tried.refused();
            assert_eq!(
                said,
                "/root/none: refused: /root/none: No such file or directory"
            );
            // A blank: the word behind it is nothing to the agent.
            tried.restart("-F /root/main");
            assert_eq!(tried.goes_well(), BOTH);
            said
        },
    );
    tried.check(checks, "without /var the agent's own log has it", |tried| {
        tried
            .shell()
            .run("rm -rf /var/log; touch /var/log; : >/run/agent.log");
        assert_eq!(tried.goes_well(), BOTH);
        let shell = tried.shell();
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
    });
    tried.check(checks, "Debian's layout", |tried| {
        tried.shell().run("mv /etc/qemu-ga /etc/qemu");
        assert_eq!(tried.goes_well(), BOTH);
        let shell = tried.shell();
        let log = shell.run("cat /var/log/qga-fsfreeze-hook.log");
        assert_eq!(log.lines().count(), 12, "{log}");
        shell.run("mv /etc/qemu /etc/qemu-ga");
        log.lines().next().unwrap_or_default().to_owned()
    });
}

fn by_hand(checks: &mut Checks, tried: &mut Tried) {
    let main = "/etc/qemu-ga/fsfreeze-hook";
    tried.check(checks, "by hand, as the package's main hook", |tried| {
        tried.shell().run(&format!("ln -s /usr/bin/gaunt {main}"));
        // To the agent that is none of the administrator's.
        assert_eq!(tried.goes_well(), BOTH);
        tried.logged();
        let ran = tried.shell().run(&format!(
            "{main} freeze && cd /etc && qemu-ga/fsfreeze-hook thaw"
        ));
        assert_eq!(tried.seen(), BOTH);
        assert_eq!(ran.lines().count(), 12);
        assert_eq!(tried.logged().len(), 12);
        tried.on("50-db", "freeze", "exit 3");
        let failed = tried
            .shell()
            .try_run(&format!("{main} freeze"), wait::ANSWER);
        assert_eq!(failed.status, 1);
        assert!(
            failed.output.contains("50-db: exit status 3"),
            "{}",
            failed.output
        );
        assert_eq!(tried.seen().len(), 4);
        let usage = tried
            .shell()
            .try_run(&format!("{main} status"), wait::ANSWER);
        assert_eq!(
            (usage.status, &usage.output[..]),
            (2, "gaunt: usage: /etc/qemu-ga/fsfreeze-hook freeze|thaw")
        );
        tried.is_at_rest();
        failed.output.lines().next().unwrap_or_default().to_owned()
    });
    tried.check(
        checks,
        "stopped by a signal, the hooks that ran are thawed",
        |tried| {
            tried.on("50-db", "freeze", "sleep 67");
            // Ctrl-C, a terminal that is closed, Ctrl-\\, kill.
            for signal in ["INT", "HUP", "QUIT", "TERM"] {
                tried.shell().run(&format!(
                    "{main} freeze >/run/by-hand 2>&1 & echo $! >/run/by-hand.pid"
                ));
                wait::expect("the hook", wait::ANSWER, || {
                    tried.shell().test("grep -q 50-db /run/seen")
                });
                tried
                    .shell()
                    .run(&format!("kill -{signal} $(cat /run/by-hand.pid)"));
                wait::expect("its end", wait::ANSWER, || {
                    !tried.runs("/etc/qemu-ga/fsfreeze-hook ")
                });
                assert_eq!(tried.seen(), UNDONE, "{signal}");
                let said = tried.shell().run("cat /run/by-hand");
                assert!(
                    said.contains("50-db: killed, because it was to end"),
                    "{said}"
                );
            }
            "killed, and thawed".into()
        },
    );
    tried.check(checks, "a hook that runs the main hook it is run by", |tried| {
        tried.on("50-db", "freeze", &format!("{main} freeze || exit 7"));
        let said = tried.refused();
        assert_eq!(
            said,
            format!("/50-db: exit status 7: gaunt: {main} is run by the hook /50-db, which it would run")
        );
        assert_eq!(tried.seen(), UNDONE);
        said
    });
}

/// Builds the hook that is a static program.
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

/// Has the agent answer a command by way of virsh.
fn ask(libvirt: &Libvirt, command: &str, arguments: Value) -> Value {
    let request = request(command, &arguments);
    let answer = libvirt.ok(&["qemu-agent-command", DOMAIN, request.trim()]);
    let mut answer: Value = serde_json::from_str(&answer).expect("JSON");
    answer["return"].take()
}

/// The lines of a file of the guest.
fn lines(libvirt: &Libvirt, path: &str) -> Vec<String> {
    let handle = ask(libvirt, "guest-file-open", json!({ "path": path }));
    let read = ask(
        libvirt,
        "guest-file-read",
        json!({ "handle": handle, "count": 65536 }),
    );
    ask(libvirt, "guest-file-close", json!({ "handle": handle }));
    let text = read["buf-b64"].as_str().expect("text");
    let decoded = run(
        Command::new("sh").args(["-c", "printf %s \"$1\" | base64 -d", "sh", text]),
        wait::ANSWER,
    );
    decoded.lines().map(str::to_owned).collect()
}

#[test]
fn hooks_that_are_static_programs() {
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
    checks.run("a snapshot runs them in order, and in reverse", || {
        libvirt.ok(&quiesced_snapshot("one"));
        let seen = lines(&libvirt, "/run/seen");
        assert_eq!(seen, BOTH);
        let log = lines(&libvirt, LOG);
        assert_eq!(log.len(), 12, "{log:?}");
        log.join(" · ").replace(HOOKS, "")
    });
    checks.run(
        "the snapshot holds what they wrote before the freeze",
        || {
            let scratch = Scratch::new();
            let copy = scratch.join("copy");
            run(
                Command::new(program("qemu-img", "qemu-utils"))
                    .args(["convert", "-U", "-f", "qcow2", "-O", "raw"])
                    .args([&libvirt.file("ext4.qcow2"), &copy]),
                wait::ANSWER,
            );
            assert!(disk::ext4_is_at_rest(&copy));
            let held = run(
                Command::new(program("debugfs", "e2fsprogs"))
                    .args(["-R", "cat /seen"])
                    .arg(&copy),
                wait::ANSWER,
            );
            let held: Vec<_> = held.lines().collect();
            assert_eq!(held, BOTH[..3]);
            assert_eq!(lines(&libvirt, "/data/seen"), BOTH);
            held.join(", ")
        },
    );
    checks.run("one that fails is the snapshot's error", || {
        let path = json!({ "path": "/run/50-db.freeze", "mode": "w" });
        let handle = ask(&libvirt, "guest-file-open", path);
        ask(&libvirt, "guest-file-close", json!({ "handle": handle }));
        let refused = libvirt.virsh(&quiesced_snapshot("two"));
        assert!(!refused.status.success());
        let said = text(&refused);
        let expected = format!("{FRAME}{HOOKS}/50-db: exit status 3: 50-db refuses");
        assert!(said.contains(&expected), "{said}");
        assert_eq!(ask(&libvirt, "guest-fsfreeze-status", json!({})), "thawed");
        let seen = lines(&libvirt, "/run/seen");
        let expected = [
            "10-first freeze",
            "50-db freeze",
            "50-db thaw",
            "10-first thaw",
        ];
        assert_eq!(seen[BOTH.len()..], expected);
        said.trim().to_owned()
    });
    checks.finish();
}
