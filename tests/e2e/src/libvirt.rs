//! A private libvirt daemon with one domain, and `virsh`.
//!
//! The daemon runs without root's privileges, and its XDG directories are in a temporary directory.
//! libvirt then keeps its configuration, sockets and domains there, and neither sees nor changes the
//! machine's own. When the tests run as root the daemon runs as [`NOBODY`].

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::disk::{self, Fs};
use crate::guest::PORT;
use crate::image_file;
use crate::process::{self, Process, program};
use crate::scratch::{NOBODY, Scratch, is_root};
use crate::shell::GuestShell;
use crate::wait;

/// The name of the domain.
pub const DOMAIN: &str = "gaunt";

/// Returns the arguments of `virsh` that take a snapshot of the frozen guest.
pub fn quiesced_snapshot(name: &str) -> [&str; 6] {
    [
        "snapshot-create-as",
        DOMAIN,
        name,
        "--quiesce",
        "--disk-only",
        "--no-metadata",
    ]
}

/// File name of the kernel, in the domain's directory.
pub const KERNEL: &str = "vmlinuz";
/// File name of the initramfs, in the domain's directory.
pub const INITRAMFS: &str = "initramfs";

/// A running libvirt daemon with one domain. Dropping it ends both.
pub struct Libvirt {
    daemon: Option<Process>,
    // After `daemon`: fields are dropped in this order, and the daemon uses the directory.
    scratch: Scratch,
}

impl Libvirt {
    /// Starts the daemon and defines a domain: the busybox image under software emulation, an ext4
    /// and an XFS disk, a network card, the agent's channel. It boots the Debian release's own kernel:
    /// newer kernels refuse hot-added processors under software emulation.
    pub fn start() -> Libvirt {
        Libvirt::with(256, &["ext4.qcow2", "xfs.qcow2"], |scratch| {
            for (from, name) in [("vmlinuz", KERNEL), ("busybox.cpio.gz", INITRAMFS)] {
                let from = image_file(&format!("release/{from}"));
                std::fs::copy(from, scratch.join(name)).expect("a copy");
            }
            disk::qcow2(&scratch.join("ext4.qcow2"), Fs::Ext4);
            disk::qcow2(&scratch.join("xfs.qcow2"), Fs::Xfs);
        })
    }

    /// Starts the daemon and defines a domain with this memory size and these disks. `fill` puts the
    /// disks, [`KERNEL`] and [`INITRAMFS`] into the domain's directory.
    pub fn with(memory_mib: u32, disks: &[&str], fill: impl FnOnce(&Scratch)) -> Libvirt {
        Libvirt::with_words(memory_mib, disks, "", fill)
    }

    /// As [`Libvirt::with`], with `words` at the end of the kernel's command line.
    pub fn with_words(
        memory_mib: u32,
        disks: &[&str],
        words: &str,
        fill: impl FnOnce(&Scratch),
    ) -> Libvirt {
        let scratch = Scratch::new();
        for directory in ["run", "c/libvirt", "cache", "home"] {
            std::fs::create_dir_all(scratch.join(directory)).expect("a directory");
        }
        // By default libvirt starts a log daemon for QEMU's output.
        std::fs::write(
            scratch.join("c/libvirt/qemu.conf"),
            "stdio_handler = \"file\"\n",
        )
        .expect("a file");
        std::fs::write(
            scratch.join("daemon.conf"),
            format!(
                "log_outputs = \"3:file:{}\"\n",
                scratch.join("daemon.log").display()
            ),
        )
        .expect("a file");
        fill(&scratch);
        let domain = domain(scratch.path(), memory_mib, disks, words);
        std::fs::write(scratch.join("domain.xml"), domain).expect("a file");
        scratch.give_away();

        let mut command = Command::new(program("libvirtd", "libvirt-daemon"));
        command.arg("-f").arg(scratch.join("daemon.conf"));
        prepare(&mut command, &scratch);
        let log = std::fs::File::create(scratch.join("daemon.out")).expect("a log file");
        command.stdin(Stdio::null());
        command
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log);
        let libvirt = Libvirt {
            daemon: Some(Process::spawn(&mut command)),
            scratch,
        };
        let socket = libvirt.scratch.join("run/libvirt/libvirt-sock");
        wait::expect("libvirt's socket", wait::ANSWER, || socket.exists());
        libvirt.ok(&["define", &libvirt.path("domain.xml")]);
        libvirt
    }

    /// Starts the domain and waits until libvirt gets an answer from the agent. Returns the domain's
    /// shell.
    pub fn boot(&self) -> GuestShell {
        let shell = self.boot_without_agent();
        self.wait_agent();
        shell
    }

    /// Starts a domain that may have no agent yet. Returns its shell.
    pub fn boot_without_agent(&self) -> GuestShell {
        let shell = self.boot_until(|| {
            let mut shell = GuestShell::connect(&self.scratch.join("shell"));
            shell.wait_boot(wait::BOOT).then_some(shell)
        });
        shell.unwrap_or_else(|| self.fail("the guest's shell does not start"))
    }

    /// Starts a domain without a shell and waits until libvirt gets an answer from the agent.
    pub fn boot_without_shell(&self) {
        if self.boot_until(|| self.sees_agent()).is_none() {
            self.fail("libvirt has no answer from the agent");
        }
    }

    /// Starts the domain until `come_up` returns a value. Starts it again if its kernel stalled, or if
    /// QEMU failed an assertion of its own.
    fn boot_until<T>(&self, come_up: impl Fn() -> Option<T>) -> Option<T> {
        for _ in 0..wait::BOOTS {
            self.ok(&["start", DOMAIN]);
            let up = come_up();
            if up.is_some() {
                return up;
            }
            let serial = std::fs::read_to_string(self.scratch.join("serial"));
            if self
                .ok(&["domstate", "--reason", DOMAIN])
                .ends_with("(crashed)")
            {
                eprintln!("QEMU failed an assertion of its own: starting the domain again");
            } else if serial.is_ok_and(|said| said.contains(wait::STALLED)) {
                eprintln!("the guest's kernel stalled while it booted: starting the domain again");
                self.ok(&["destroy", DOMAIN]);
            } else {
                break;
            }
        }
        None
    }

    /// Waits until libvirt gets an answer from the agent.
    pub fn wait_agent(&self) {
        if self.sees_agent().is_none() {
            self.fail("libvirt has no answer from the agent");
        }
    }

    fn sees_agent(&self) -> Option<()> {
        let ping = r#"{"execute":"guest-ping"}"#;
        wait::until(wait::BOOT, || {
            let output = self.virsh(&["qemu-agent-command", DOMAIN, ping]);
            output.status.success().then_some(())
        })
    }

    /// Runs `virsh`.
    pub fn virsh(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(program("virsh", "libvirt-clients"));
        command.args(["-c", "qemu:///session"]).args(arguments);
        prepare(&mut command, &self.scratch);
        process::output(&mut command, Duration::from_secs(120))
    }

    /// Runs `virsh`, which must fail. Returns what it printed.
    pub fn refusal(&self, arguments: &[&str]) -> String {
        let output = self.virsh(arguments);
        assert!(!output.status.success(), "virsh {}", arguments.join(" "));
        process::text(&output)
    }

    /// Runs `virsh`, which must succeed. Returns its output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.virsh(arguments);
        if !output.status.success() {
            self.fail(&format!(
                "virsh {}: {}",
                arguments.join(" "),
                process::text(&output)
            ));
        }
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Returns the path of a file in the domain's directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// As [`Libvirt::file`], as text.
    pub fn path(&self, name: &str) -> String {
        self.scratch.join(name).display().to_string()
    }

    /// Panics with `what` and the ends of the daemon's log and the serial log.
    pub fn fail(&self, what: &str) -> ! {
        let tail = |name: &str, count: usize| {
            let bytes = std::fs::read(self.scratch.join(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(count)..].join("\n")
        };
        let (daemon, serial) = (tail("daemon.log", 3), tail("serial", 20));
        panic!(
            "{}\nlibvirt:\n{daemon}\nserial port:\n{serial}",
            what.trim_end()
        );
    }
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        // A guest outlives the daemon, so virsh destroys it first. If the daemon no longer answers, the
        // loop below kills the guest: its command line names the temporary directory.
        let mut command = Command::new(program("virsh", "libvirt-clients"));
        command.args(["-q", "-c", "qemu:///session", "destroy", DOMAIN]);
        prepare(&mut command, &self.scratch);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Process::spawn(&mut command).wait(Duration::from_secs(10));
        self.daemon = None;
        let ours = self.scratch.path().display().to_string();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
                continue;
            };
            let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).into_owned();
            if words.starts_with("/usr/bin/qemu-system") && words.contains(&ours) {
                process::signal(pid, libc::SIGKILL);
            }
        }
    }
}

/// Sets the environment and the account that keep a libvirt program within the temporary directory.
fn prepare(command: &mut Command, scratch: &Scratch) {
    command.env_clear();
    command
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .env("LC_ALL", "C");
    command.env("HOME", scratch.join("home"));
    command.env("XDG_RUNTIME_DIR", scratch.join("run"));
    // A short name: libvirt puts the agent's socket deep below it, and the path of a unix socket has at
    // most 107 bytes.
    command.env("XDG_CONFIG_HOME", scratch.join("c"));
    command.env("XDG_CACHE_HOME", scratch.join("cache"));
    command.current_dir("/");
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
}

/// Returns the XML definition of the domain.
fn domain(directory: &Path, memory_mib: u32, disks: &[&str], words: &str) -> String {
    let at = directory.display();
    let emulator = program("qemu-system-x86_64", "qemu-system-x86");
    let emulator = emulator.display();
    let disk = |(file, letter): (&&str, char)| {
        format!(
            "<disk type='file' device='disk'>
               <driver name='qemu' type='qcow2' discard='unmap' detect_zeroes='unmap'/>
               <source file='{at}/{file}'/><target dev='vd{letter}' bus='virtio'/>
             </disk>"
        )
    };
    let disks: String = disks.iter().zip('a'..).map(disk).collect();
    format!(
        "<domain type='qemu'>
           <name>{DOMAIN}</name>
           <memory unit='MiB'>{memory_mib}</memory>
           <vcpu current='2'>4</vcpu>
           <os>
             <type arch='x86_64' machine='q35'>hvm</type>
             <kernel>{at}/{KERNEL}</kernel>
             <initrd>{at}/{INITRAMFS}</initrd>
             <cmdline>console=ttyS0 quiet panic=-1 possible_cpus=4 {words}</cmdline>
           </os>
           <features><acpi/></features>
           <pm><suspend-to-mem enabled='yes'/><suspend-to-disk enabled='yes'/></pm>
           <on_poweroff>destroy</on_poweroff>
           <on_reboot>restart</on_reboot>
           <on_crash>destroy</on_crash>
           <devices>
             <emulator>{emulator}</emulator>
             {disks}
             <controller type='usb' model='none'/>
             <interface type='user'><model type='virtio'/><rom enabled='no'/></interface>
             <serial type='file'><source path='{at}/serial'/><target port='0'/></serial>
             <serial type='unix'>
               <source mode='bind' path='{at}/shell'/><target port='1'/>
             </serial>
             <channel type='unix'><target type='virtio' name='{PORT}'/></channel>
             <video><model type='none'/></video>
             <memballoon model='none'/>
           </devices>
         </domain>"
    )
}
