//! File systems that hang while they are frozen or thawed: behind a user's write that waits for a FUSE
//! server, on a device that is suspended, on a loop device whose file a stopped FUSE server has. What is
//! beside them goes on, the agent answers, and the guest can be shut down.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use gaunt_e2e::checks::Checks;
use gaunt_e2e::client::{Client, Refusal};
use gaunt_e2e::cpio::Cpio;
use gaunt_e2e::disk::{self, Fs};
use gaunt_e2e::guest::{Guest, Image, Machine};
use gaunt_e2e::modules::Modules;
use gaunt_e2e::process::program;
use gaunt_e2e::scratch::Scratch;
use gaunt_e2e::wait;
use serde_json::{Value, json};

const STUCK: &str = env!("CARGO_BIN_EXE_stuck");

/// The time of a freeze in these tests.
const FREEZE_S: u64 = 3;
/// The time of the thaw that hangs, before which the agent does not answer it.
const THAW_S: u64 = 10;

/// What a request may take that hangs behind nothing, on a busy machine: less than [`THAW_S`].
const SOON: Duration = Duration::from_secs(8);
/// Time in which the agent tries to thaw by itself.
const ATTEMPT: Duration = Duration::from_secs(3);

/// The file systems of the guest, in the order of their mounts: freezes begin with the last.
const MOUNT_POINTS: [&str; 3] = ["/data", "/hung", "/beside"];

struct Tried {
    guest: Guest,
    client: Client,
    dmsetup: String,
}

impl Tried {
    fn boot(scratch: &Scratch) -> Tried {
        let dmsetup = program("dmsetup", "dmsetup");
        let archive = Cpio::new()
            .program(&dmsetup)
            .program(Path::new(STUCK))
            .copy("root/stuck", Path::new(STUCK));
        let image = |name: &str, fs| {
            let path = scratch.join(name);
            disk::raw(&path, fs);
            path
        };
        let mut guest = Machine::new(Image::Busybox)
            .overlay(
                &Modules::of(&["fuse", "dm_mod", "loop"])
                    .put(archive)
                    .finish(),
            )
            .kernel("image.mount=off")
            .disk(&image("data.raw", Fs::Ext4))
            .disk(&image("hung.raw", Fs::Ext4))
            .disk(&image("beside.raw", Fs::Xfs))
            .boot();
        guest.wait_shell();
        let dmsetup = format!("DM_DISABLE_UDEV=1 {}", dmsetup.display());
        Modules::insert(guest.shell());
        guest.shell().run(&format!(
            "n=$(cat /sys/block/vdb/size); echo 0 $n linear /dev/vdb 0 | {dmsetup} create hung; \
             mkdir -p /data /hung /beside /tmp/fuse; mount -t ext4 /dev/vda /data; \
             mount -t ext4 /dev/mapper/hung /hung; mount -t xfs /dev/vdc /beside; \
             mkdir -m 777 /data/user"
        ));
        let client = guest.client();
        Tried {
            guest,
            client,
            dmsetup,
        }
    }

    fn run(&mut self, command: &str) -> String {
        self.guest.shell().run(command)
    }

    /// Kills the agent, and starts it with these options.
    fn restart(&mut self, words: &str) {
        let words = format!("--freeze-timeout={FREEZE_S} {words}");
        self.guest.shell().restart_agent(&words);
        wait::until(wait::ANSWER, || self.client.sync(ATTEMPT)).expect("in step");
    }

    /// Starts an agent with these options in a guest where nothing hangs and nothing is frozen, whatever
    /// an earlier check has left.
    fn begin(&mut self, words: &str) {
        self.resume();
        self.run(
            "killall -q -CONT stuck; killall -q -KILL stuck; umount /looped; losetup -d /dev/loop0; \
             umount -l /tmp/loop /tmp/idle; true",
        );
        self.restart("");
        wait::expect("the thaw", wait::ANSWER, || {
            let _ = self.call("guest-fsfreeze-thaw");
            self.status() == "thawed"
        });
        if !words.is_empty() {
            self.restart(words);
        }
    }

    /// Closes the connection to the port for so long that the next host counts as another one.
    fn leave(&mut self) {
        let scratch = Scratch::new();
        let nobody = scratch.join("nobody");
        let _listener = UnixListener::bind(&nobody).expect("a socket");
        self.client = Client::connect(&nobody);
        std::thread::sleep(Duration::from_millis(1500));
    }

    fn call(&mut self, command: &str) -> Result<Value, Refusal> {
        self.client.try_call(command, json!({}))
    }

    fn status(&mut self) -> Value {
        self.client.get("guest-fsfreeze-status")
    }

    /// Starts a write of a user to /data that waits for a FUSE server.
    fn start_write(&mut self) {
        self.run(
            "rm -f /run/stuck /run/written; (/root/stuck write 1000 /tmp/fuse /data/user/file \
             </dev/null >/run/stuck.log 2>&1; touch /run/written) >/dev/null 2>&1 &",
        );
        let is_ready = || {
            let is_ready = self.guest.shell().test("test -s /run/stuck");
            is_ready.then_some(())
        };
        if wait::until(wait::ANSWER, is_ready).is_none() {
            panic!("no write: {}", self.run("cat /run/stuck.log"));
        }
        // The first word is the number of the system call that a process waits in.
        let write = libc::SYS_write;
        let waits =
            format!("grep -qs '^{write} ' $(pidof stuck | sed 's_[0-9]*_/proc/&/syscall_g')");
        wait::expect("the write to wait", wait::ANSWER, || {
            self.guest.shell().test(&waits)
        });
    }

    fn has_written(&mut self) -> bool {
        self.guest.shell().test("test -e /run/written")
    }

    /// Kills the FUSE server, and the process that writes with it.
    fn end_write(&mut self) {
        self.run("kill -KILL $(pidof stuck)");
        wait::expect("its end", wait::ANSWER, || self.has_written());
    }

    fn suspend(&mut self) {
        let command = format!("{} suspend --nolockfs --noflush hung", self.dmsetup);
        self.run(&command);
    }

    fn resume(&mut self) {
        let command = format!("{} resume hung", self.dmsetup);
        self.run(&command);
    }

    /// Whether a file system takes a write at once.
    fn takes_write(&mut self, place: &str) -> bool {
        self.run(&format!(
            "rm -f /run/took; (echo x >{place}/x && sync {place}/x && touch /run/took) \
             >/dev/null 2>&1 &"
        ));
        let took = || self.guest.shell().test("test -e /run/took").then_some(());
        wait::until(SOON, took).is_some()
    }

    /// Freezes, which must end with an error at the freeze timeout that names a mount point.
    fn freeze_is_late(&mut self, mount_point: &str) -> String {
        let start = Instant::now();
        let refusal = self
            .call("guest-fsfreeze-freeze")
            .expect_err("a file system hangs");
        let took = start.elapsed();
        let expected = format!(
            "failed to freeze {mount_point}: it did not come to rest before the freeze timeout"
        );
        assert_eq!(refusal.desc, expected);
        assert!(took >= Duration::from_secs(FREEZE_S), "{took:?}");
        assert!(took < Duration::from_secs(FREEZE_S) + SOON, "{took:?}");
        format!("{:.1} s", took.as_secs_f32())
    }

    /// Checks that everything is answered while something hangs, and that others take writes.
    fn goes_on(&mut self, others: &[&str]) {
        for place in others {
            assert!(self.takes_write(place), "{place}");
        }
        let before = self.guest.shell().hanging_agents();
        for _ in 0..3 {
            self.client.get("guest-ping");
            assert_eq!(self.status(), "frozen");
            let start = Instant::now();
            let refusal = self
                .call("guest-fsfreeze-thaw")
                .expect_err("something hangs");
            assert_eq!(refusal.desc, HANGS);
            assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
            // The agent's own attempts to thaw.
            std::thread::sleep(ATTEMPT);
        }
        wait::expect(
            "that no attempt leaves a process behind",
            wait::ANSWER,
            || self.guest.shell().hanging_agents() <= before,
        );
        let disabled = self.client.disabled();
        assert!(!disabled.contains("guest-shutdown") && disabled.contains("guest-suspend-ram"));
    }

    /// Waits until nothing is frozen any more; then freezes and thaws everything.
    fn recovers(&mut self) {
        wait::expect("the thaw", wait::ANSWER, || self.status() == "thawed");
        for place in MOUNT_POINTS {
            assert!(self.takes_write(place), "{place}");
        }
        // Each ioctl waits for the disk for a moment.
        wait::expect("no process that hangs", wait::ANSWER, || {
            self.guest.shell().hanging_agents() == 0
        });
        assert_eq!(self.call("guest-fsfreeze-freeze"), Ok(json!(3)));
        assert_eq!(self.call("guest-fsfreeze-thaw"), Ok(json!(3)));
    }
}

/// What a thaw says while a file system hangs.
const HANGS: &str =
    "an earlier freeze or thaw is still under way in the kernel: Device or resource busy";

#[test]
fn a_file_system_that_hangs_holds_up_no_other() {
    let mut checks = Checks::new("hung");
    let scratch = Scratch::new();
    let mut tried = Tried::boot(&scratch);
    writes_that_wait(&mut checks, &mut tried);
    without_a_freeze_timeout(&mut checks, &mut tried);
    suspended_devices(&mut checks, &mut tried);
    fuse_servers(&mut checks, &mut tried);
    checks.run("shut down while it hangs, the guest powers off", || {
        tried.begin("");
        tried.start_write();
        tried.freeze_is_late("/data");
        let start = Instant::now();
        tried.client.send("{\"execute\":\"guest-shutdown\"}\n");
        assert!(tried.guest.wait_end(wait::ANSWER).success());
        assert!(disk::ext4_is_clean(&scratch.join("data.raw")));
        format!("{:.1} s", start.elapsed().as_secs_f32())
    });
    checks.finish();
}

fn writes_that_wait(checks: &mut Checks, tried: &mut Tried) {
    checks.run("a write that waits for FUSE ends a freeze late", || {
        tried.begin("");
        tried.start_write();
        let took = tried.freeze_is_late("/data");
        tried.goes_on(&["/beside", "/hung"]);
        assert!(!tried.has_written());
        tried.end_write();
        tried.recovers();
        took
    });
    checks.run(
        "killed meanwhile, the next run thaws what is beside it",
        || {
            tried.begin("");
            tried.start_write();
            tried
                .client
                .send("{\"execute\":\"guest-fsfreeze-freeze\"}\n");
            tried.guest.shell().wait_hanging_freeze();
            tried.restart("");
            wait::expect("the thaw beside it", wait::ANSWER, || {
                tried.takes_write("/beside")
            });
            tried.goes_on(&["/beside", "/hung"]);
            tried.end_write();
            tried.recovers();
            "frozen, then thawed".into()
        },
    );
}

/// How long a freeze that hangs still has once a thaw waits for it.
const HURRIED: Duration = Duration::from_secs(5);

fn without_a_freeze_timeout(checks: &mut Checks, tried: &mut Tried) {
    checks.run(
        "without a freeze timeout, a thaw of the next host ends a freeze that hangs",
        || {
            tried.begin("--freeze-timeout=0");
            tried.start_write();
            tried
                .client
                .send("{\"execute\":\"guest-fsfreeze-freeze\"}\n");
            tried.guest.shell().wait_hanging_freeze();
            // It hangs longer than any other freeze here does.
            std::thread::sleep(Duration::from_secs(2 * FREEZE_S));
            assert!(!tried.takes_write("/beside"));
            tried.leave();
            tried.client = tried.guest.client();
            let start = Instant::now();
            let refusal = tried
                .call("guest-fsfreeze-thaw")
                .expect_err("something hangs");
            let took = start.elapsed();
            assert_eq!(refusal.desc, HANGS);
            assert!(took < HURRIED + SOON, "{took:?}");
            tried.goes_on(&["/beside", "/hung"]);
            tried.end_write();
            tried.recovers();
            format!("{:.1} s", took.as_secs_f32())
        },
    );
}

fn suspended_devices(checks: &mut Checks, tried: &mut Tried) {
    checks.run("a suspended device ends a freeze late", || {
        tried.begin("");
        // So that there is something to write out.
        tried.run("dd if=/dev/urandom of=/hung/dirty bs=64k count=4 2>/dev/null");
        tried.suspend();
        let took = tried.freeze_is_late("/hung");
        tried.goes_on(&["/beside", "/data"]);
        tried.resume();
        tried.recovers();
        took
    });
    checks.run("suspended while frozen, it ends a thaw late", || {
        tried.begin("--freeze-timeout=600");
        assert_eq!(tried.call("guest-fsfreeze-freeze"), Ok(json!(3)));
        tried.suspend();
        let start = Instant::now();
        let refusal = tried.call("guest-fsfreeze-thaw").expect_err("it hangs");
        let took = start.elapsed();
        assert_eq!(refusal.desc, HANGS);
        assert!(took < Duration::from_secs(THAW_S) + SOON, "{took:?}");
        tried.goes_on(&["/beside", "/data"]);
        tried.resume();
        tried.recovers();
        format!("{:.1} s", took.as_secs_f32())
    });
}

fn fuse_servers(checks: &mut Checks, tried: &mut Tried) {
    checks.run(
        "a loop device hangs with the FUSE server of its file",
        || {
            tried.begin("");
            tried.run(
                "dd if=/dev/zero of=/run/image bs=1M count=16 2>/dev/null && mke2fs -F /run/image && \
             rm -f /run/stuck && mkdir -p /tmp/loop /looped && \
             /root/stuck image /run/image /tmp/loop </dev/null >/run/image.log 2>&1 &",
            );
            let is_ready = || {
                tried
                    .guest
                    .shell()
                    .test("test -s /run/stuck && ls /tmp/loop/file")
            };
            wait::expect("the server", wait::ANSWER, is_ready);
            tried.run(
                "losetup /dev/loop0 /tmp/loop/file && mount -t ext4 /dev/loop0 /looped && \
             dd if=/dev/urandom of=/looped/dirty bs=64k count=4 2>/dev/null && \
             kill -STOP $(cat /run/stuck)",
            );
            let took = tried.freeze_is_late("/looped");
            tried.goes_on(&MOUNT_POINTS);
            tried.run("kill -CONT $(cat /run/stuck)");
            wait::expect("the thaw", wait::ANSWER, || tried.status() == "thawed");
            tried.run("umount /looped; losetup -d /dev/loop0; umount /tmp/loop");
            tried.recovers();
            took
        },
    );
    checks.run("with the option, FUSE is aborted and nothing hangs", || {
        tried.begin("--abort-fuse");
        tried.run(
            "mkdir -p /tmp/idle; rm -f /run/stuck; /root/stuck image /etc/passwd /tmp/idle \
             </dev/null >/dev/null 2>&1 &",
        );
        let is_ready = || {
            tried
                .guest
                .shell()
                .test("test -s /run/stuck && ls /tmp/idle/file")
        };
        wait::expect("the server", wait::ANSWER, is_ready);
        tried.start_write();
        let took = tried.freeze_is_late("/data");
        assert_eq!(tried.status(), "thawed");
        wait::expect("the error of the write", SOON, || tried.has_written());
        let log = tried.run("tail -n 3 /run/agent.log");
        assert!(
            log.contains("FUSE connections that did not answer were aborted"),
            "{log}"
        );
        // One that owed no answer goes on.
        assert!(tried.run("cat /tmp/idle/file").contains("root:"));
        tried.run("kill -KILL $(pidof stuck); umount /tmp/idle");
        tried.recovers();
        took
    });
}
