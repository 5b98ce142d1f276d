//! Guests in QEMU.
//!
//! A guest boots one of the images of `image/`. It has a virtio port with the agent's name and two
//! serial ports: the first is the console, the second has a shell in the busybox image. A QMP socket
//! controls the machine and reports its events. QEMU emulates in software unless `ACCEL` is set.
//! `PROCESSOR=aarch64` gives that processor to the guests of tests that choose none.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Client;
use crate::cpio::{Cpio, appended};
use crate::process::{Process, program};
use crate::reference::reference;
use crate::scratch::Scratch;
use crate::shell::GuestShell;
use crate::{image_file, wait};

/// The name of the agent's port, which every client of qemu-ga expects.
pub const PORT: &str = "org.qemu.guest_agent.0";

/// The directory of the reference in a guest.
const REFERENCE: &str = "/usr/lib/reference";

/// The image that a guest boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// The agent is PID 1 and the only program.
    Bare,
    /// A script is PID 1; there is a shell.
    Busybox,
}

/// The processor of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processor {
    /// x86_64, in a PC.
    X86_64,
    /// aarch64, in QEMU's `virt` machine. Always emulated.
    Aarch64,
}

impl Processor {
    /// The processor of guests whose test chooses none.
    pub fn usual() -> Processor {
        match std::env::var("PROCESSOR").as_deref() {
            Err(_) | Ok("x86_64") => Processor::X86_64,
            Ok("aarch64") => Processor::Aarch64,
            Ok(other) => panic!("PROCESSOR={other}: x86_64 or aarch64"),
        }
    }

    /// The directory of its images in `target/image/`.
    pub fn images(self) -> &'static str {
        match self {
            Processor::X86_64 => "",
            Processor::Aarch64 => "aarch64/",
        }
    }

    /// The program that emulates it, and its Debian package.
    fn qemu(self) -> PathBuf {
        match self {
            Processor::X86_64 => program("qemu-system-x86_64", "qemu-system-x86"),
            Processor::Aarch64 => program("qemu-system-aarch64", "qemu-system-arm"),
        }
    }

    /// The kernel's name of the first serial port.
    fn console(self) -> &'static str {
        match self {
            Processor::X86_64 => "ttyS0",
            Processor::Aarch64 => "ttyAMA0",
        }
    }
}

/// The configuration of a guest.
pub struct Machine {
    image: Image,
    devices: Vec<String>,
    kernel_words: Vec<String>,
    agent_words: Vec<String>,
    overlay: Vec<u8>,
    initramfs: Option<PathBuf>,
    memory_mib: u32,
    cpus: u32,
    port: bool,
    network: bool,
    reset_ends: bool,
    directory: Option<PathBuf>,
    disks: usize,
    images: &'static str,
    processor: Processor,
    second_port: bool,
    reference: bool,
}

impl Machine {
    /// Returns a machine with 256 MiB, two CPUs, a network card, the agent's port, and no disk.
    pub fn new(image: Image) -> Machine {
        let processor = Processor::usual();
        Machine {
            image,
            devices: Vec::new(),
            kernel_words: Vec::new(),
            agent_words: Vec::new(),
            overlay: Vec::new(),
            initramfs: None,
            memory_mib: 256,
            cpus: 2,
            port: true,
            network: true,
            reset_ends: true,
            directory: None,
            disks: 0,
            images: processor.images(),
            processor,
            second_port: false,
            reference: false,
        }
    }

    /// Adds a virtio disk: the first is `/dev/vda`, mounted on `/data` if it holds ext4, the second
    /// `/dev/vdb`, on `/data2` if it holds XFS.
    pub fn disk(self, path: &Path) -> Machine {
        self.disk_as(path, "virtio-blk-pci")
    }

    /// Adds a disk behind a device of another kind, named with its properties.
    pub fn disk_as(mut self, path: &Path, device: &str) -> Machine {
        let format = if path.extension().is_some_and(|end| end == "qcow2") {
            "qcow2"
        } else {
            "raw"
        };
        let id = format!("disk{}", self.disks);
        self.disks += 1;
        self.devices.push("-drive".into());
        self.devices.push(format!(
            "if=none,id={id},file={},format={format},discard=unmap,detect-zeroes=unmap",
            path.display()
        ));
        self.devices.push("-device".into());
        self.devices.push(format!("{device},drive={id}"));
        self
    }

    /// Adds words to QEMU's command line.
    pub fn qemu(mut self, words: &[&str]) -> Machine {
        self.devices
            .extend(words.iter().map(|word| word.to_string()));
        self
    }

    /// Adds a word to the kernel command line.
    pub fn kernel(mut self, word: &str) -> Machine {
        self.kernel_words.push(word.into());
        self
    }

    /// Adds an argument of the agent.
    pub fn agent(mut self, word: &str) -> Machine {
        self.agent_words.push(word.into());
        self
    }

    /// Adds files to the image.
    pub fn overlay(mut self, archive: &[u8]) -> Machine {
        self.overlay.extend_from_slice(archive);
        self
    }

    /// Boots this initramfs instead of the image.
    pub fn initramfs(mut self, path: &Path) -> Machine {
        self.initramfs = Some(path.to_owned());
        self
    }

    /// Sets the memory size.
    pub fn memory(mut self, mib: u32) -> Machine {
        self.memory_mib = mib;
        self
    }

    /// Sets the number of CPUs.
    pub fn cpus(mut self, count: u32) -> Machine {
        self.cpus = count;
        self
    }

    /// Omits the agent's port; [`Guest::plug_port`] adds it later.
    pub fn without_port(mut self) -> Machine {
        self.port = false;
        self
    }

    /// Lets the guest boot again after a reset; by default a reset ends QEMU.
    pub fn may_reset(mut self) -> Machine {
        self.reset_ends = false;
        self
    }

    /// Keeps the sockets and logs in this directory instead of a temporary one.
    pub fn directory(mut self, path: &Path) -> Machine {
        self.directory = Some(path.to_owned());
        self
    }

    /// Boots the Debian release's own kernel instead of the newest backported one.
    pub fn release_kernel(mut self) -> Machine {
        self.images = "release/";
        self
    }

    /// Sets the processor.
    pub fn processor(mut self, processor: Processor) -> Machine {
        self.processor = processor;
        self.images = processor.images();
        self
    }

    /// Adds a second port, for another agent: [`Guest::second_port`].
    pub fn second_port(mut self) -> Machine {
        self.second_port = true;
        self
    }

    /// Adds the reference and a port for it; [`Guest::reference`] starts it.
    pub fn reference(mut self) -> Machine {
        let archive = reference().pack(REFERENCE, Cpio::new());
        self.overlay.extend(archive.finish());
        self.reference = true;
        self.second_port()
    }

    /// Starts QEMU.
    pub fn boot(self) -> Guest {
        let (directory, scratch) = match &self.directory {
            Some(directory) => (directory.clone(), None),
            None => {
                let scratch = Scratch::new();
                (scratch.path().to_owned(), Some(scratch))
            }
        };
        let mut command = Command::new(self.processor.qemu());
        self.add_machine(&mut command);
        self.add_kernel(&mut command, &directory);
        self.add_ports(&mut command, &directory);
        command.args(&self.devices);
        let (qemu, qmp, shell) = start(&mut command, &directory);
        Guest {
            qemu,
            qmp,
            shell,
            command,
            directory,
            _scratch: scratch,
            reference: self.reference,
            reset_ends: self.reset_ends,
            searched: 0,
            starts: 1,
        }
    }

    fn add_machine(&self, command: &mut Command) {
        let accel = std::env::var("ACCEL").unwrap_or_else(|_| "tcg".into());
        command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        command.args(["-rtc", "base=utc"]);
        match self.processor {
            Processor::X86_64 => {
                command.args(["-M", "q35", "-accel", &accel]);
                if accel == "kvm" {
                    command.args(["-cpu", "host"]);
                }
            }
            Processor::Aarch64 => {
                command.args(["-M", "virt", "-accel", "tcg", "-cpu", "cortex-a72"]);
            }
        }
        command.args(["-m", &self.memory_mib.to_string()]);
        command.args(["-smp", &self.cpus.to_string()]);
        if self.network {
            command.args(["-netdev", "user,id=net,restrict=on"]);
            command.args(["-device", "virtio-net-pci,netdev=net,romfile="]);
        }
        if self.reset_ends {
            command.arg("-no-reboot");
        }
    }

    /// Adds kernel, initramfs and kernel command line.
    fn add_kernel(&self, command: &mut Command, directory: &Path) {
        let image = match self.image {
            Image::Bare => "bare.cpio.gz",
            Image::Busybox => "busybox.cpio.gz",
        };
        let images = self.images;
        let mut initramfs = match &self.initramfs {
            Some(path) => path.clone(),
            None => image_file(&format!("{images}{image}")),
        };
        if !self.overlay.is_empty() {
            let bytes = appended(&initramfs, &self.overlay);
            initramfs = directory.join("initramfs");
            std::fs::write(&initramfs, bytes).expect("a copy of the image");
        }
        let console = format!("console={}", self.processor.console());
        let mut words = vec![&*console, "quiet", "panic=-1"];
        words.extend(self.kernel_words.iter().map(String::as_str));
        if !self.agent_words.is_empty() {
            words.push("--");
            words.extend(self.agent_words.iter().map(String::as_str));
        }
        let kernel = image_file(&format!("{images}vmlinuz"));
        command.arg("-kernel").arg(kernel);
        command.arg("-initrd").arg(&initramfs);
        command.arg("-append").arg(words.join(" "));
    }

    /// Adds the serial ports, the QMP socket and the virtio ports, with their files in `directory`.
    fn add_ports(&self, command: &mut Command, directory: &Path) {
        let at = |name: &str| directory.join(name);
        let console = format!("file:{}", at("serial").display());
        command.arg("-serial").arg(console);
        command.arg("-chardev").arg(socket("shell", &at("shell")));
        command.args(["-serial", "chardev:shell"]);
        command.arg("-chardev").arg(socket("qmp", &at("qmp")));
        command.args(["-mon", "chardev=qmp,mode=control"]);
        command.args(["-device", "virtio-serial-pci,id=serial"]);
        command.arg("-chardev").arg(socket("agent", &at("agent")));
        if self.port {
            let port = format!("virtserialport,bus=serial.0,chardev=agent,name={PORT},id=port");
            command.arg("-device").arg(port);
        }
        if self.second_port {
            command.arg("-chardev").arg(socket("second", &at("second")));
            let port = "virtserialport,bus=serial.0,chardev=second,name=second";
            command.args(["-device", port]);
        }
    }
}

/// Starts QEMU, and connects to its QMP socket and to the guest's shell.
fn start(command: &mut Command, directory: &Path) -> (Process, Qmp, GuestShell) {
    let at = |name: &str| directory.join(name);
    let log = std::fs::File::create(at("qemu.log")).expect("a log file");
    command.stdin(Stdio::null());
    command
        .stdout(log.try_clone().expect("a log file"))
        .stderr(log);
    for stale in ["qmp", "agent", "second", "shell", "serial"] {
        let _ = std::fs::remove_file(at(stale));
    }
    let mut qemu = Process::spawn(command);
    let stream = wait::until(wait::ANSWER, || {
        UnixStream::connect(at("qmp")).ok().or_else(|| {
            let ended = qemu.ended()?;
            let said = std::fs::read_to_string(at("qemu.log")).unwrap_or_default();
            panic!("QEMU did not start ({ended}): {said}\n{command:?}");
        })
    });
    let stream = stream.expect("QEMU opens its QMP socket");
    let mut qmp = Qmp {
        stream: BufReader::new(stream),
        events: Vec::new(),
    };
    assert!(qmp.message(wait::ANSWER).is_some(), "QEMU greets");
    qmp.execute("qmp_capabilities", json!({}));
    let shell = GuestShell::connect(&at("shell"));
    (qemu, qmp, shell)
}

fn socket(id: &str, path: &Path) -> String {
    format!("socket,id={id},path={},server=on,wait=off", path.display())
}

/// A running guest; QEMU is killed when this is dropped.
pub struct Guest {
    qemu: Process,
    qmp: Qmp,
    shell: GuestShell,
    /// The command that started QEMU.
    command: Command,
    directory: PathBuf,
    _scratch: Option<Scratch>,
    reference: bool,
    reset_ends: bool,
    /// Output of the first serial port that was searched for a stalled kernel, in bytes.
    searched: usize,
    /// Number of times QEMU was started.
    starts: usize,
}

/// Interval between two looks for a stalled kernel while a guest boots.
const TURN: Duration = Duration::from_secs(10);

impl Guest {
    /// Returns the directory of its sockets and logs.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the socket at the host's end of the agent's port.
    pub fn agent_socket(&self) -> PathBuf {
        self.directory.join("agent")
    }

    /// Connects to the agent's port and synchronizes. Waits for the boot if necessary.
    pub fn client(&mut self) -> Client {
        let socket = self.agent_socket();
        let mut client = Client::connect(&socket);
        let mut starts = self.starts;
        let is_up = self.comes_up(|guest| {
            if starts != guest.starts {
                starts = guest.starts;
                client = Client::connect(&socket);
            }
            client.sync(TURN).is_some()
        });
        if !is_up {
            self.fail("the agent does not answer on its port");
        }
        client
    }

    /// Waits until `is_up` returns true. Returns false at the limit.
    ///
    /// Resets the guest if its kernel stalled, and restarts QEMU if it failed an assertion of its own:
    /// both happen now and then when QEMU emulates several processors in software.
    fn comes_up(&mut self, mut is_up: impl FnMut(&mut Guest) -> bool) -> bool {
        let mut end = Instant::now() + wait::BOOT;
        let mut boots = 1;
        while Instant::now() < end {
            if let Some(status) = self.qemu.ended() {
                if boots == wait::BOOTS || status.signal() != Some(libc::SIGABRT) {
                    return false;
                }
                eprintln!("QEMU failed an assertion of its own: starting it again");
                (self.qemu, self.qmp, self.shell) = start(&mut self.command, &self.directory);
                self.searched = 0;
                self.starts += 1;
                boots += 1;
                end = Instant::now() + wait::BOOT;
            }
            if is_up(self) {
                self.searched = self.serial().len();
                if boots > 1 && self.reset_ends {
                    self.qmp("set-action", json!({ "reboot": "shutdown" }));
                }
                return true;
            }
            let serial = self.serial();
            let new = serial.get(self.searched..).unwrap_or_default();
            if boots < wait::BOOTS && new.contains(wait::STALLED) {
                eprintln!("the guest's kernel stalled while it booted: resetting the guest");
                self.searched = serial.len();
                self.qmp("set-action", json!({ "reboot": "reset" }));
                self.qmp("system_reset", json!({}));
                self.event("RESET", wait::ANSWER);
                boots += 1;
                end = Instant::now() + wait::BOOT;
            }
        }
        false
    }

    /// Returns the second port's device file in the guest.
    pub fn second_port(&mut self) -> String {
        self.shell.run(
            "for p in /sys/class/virtio-ports/*; do \
             if [ \"$(cat $p/name)\" = second ]; then echo /dev/${p##*/}; fi; done",
        )
    }

    /// Returns the socket at the host's end of the second port.
    pub fn second_socket(&self) -> PathBuf {
        self.directory.join("second")
    }

    /// Starts qemu-ga in the guest and connects to it.
    pub fn reference(&mut self) -> Client {
        assert!(self.reference, "the machine has no qemu-ga");
        let port = self.second_port();
        self.shell.run(&format!(
            "{} -p {port} -t /run >/run/qemu-ga.log 2>&1 &",
            reference().words(Path::new(REFERENCE)).join(" ")
        ));
        let mut client = Client::connect(&self.second_socket());
        if client.sync(wait::BOOT).is_none() {
            let log = self.shell.run("cat /run/qemu-ga.log");
            self.fail(&format!("qemu-ga does not answer: {log}"));
        }
        client
    }

    /// Waits until the guest's shell is ready. Call it once after each boot.
    pub fn wait_shell(&mut self) {
        if !self.comes_up(|guest| guest.shell.wait_boot(TURN)) {
            self.fail("the guest's shell does not start");
        }
    }

    /// Returns the guest's shell.
    pub fn shell(&mut self) -> &mut GuestShell {
        &mut self.shell
    }

    /// Runs a QMP command that must succeed.
    pub fn qmp(&mut self, command: &str, arguments: Value) -> Value {
        self.qmp.execute(command, arguments)
    }

    /// Waits for a QMP event and removes it. An event that arrived earlier counts.
    pub fn event(&mut self, name: &str, limit: Duration) -> Value {
        match self.qmp.event(name, limit) {
            Some(event) => event,
            None => self.fail(&format!("no event {name} within {} s", limit.as_secs())),
        }
    }

    /// Discards the events that have arrived.
    pub fn forget_events(&mut self) {
        self.qmp.events.clear();
    }

    /// Starts a write to `/data`, on the first disk, that lasts until [`Guest::end_slow_write`]. The
    /// kernel completes a freeze of that file system only after it.
    ///
    /// A disk with a limit serves a request at once and delays the next for as long as the first should
    /// have taken, here up to 50 s. A write of 1 MiB is one request or several, which depends on how the
    /// guest's memory is fragmented. So there are two: at the latest the second one is delayed.
    pub fn begin_slow_write(&mut self) {
        self.shell().run(
            "rm -f /run/slow; \
             dd if=/dev/zero of=/data/slow bs=1M count=4 conv=fsync 2>/dev/null",
        );
        self.limit_first_disk(20_000);
        self.shell().run(
            "(dd if=/dev/zero of=/data/slow bs=1M count=2 oflag=direct conv=notrunc; \
             touch /run/slow) >/dev/null 2>&1 &",
        );
        // Two seconds later the first request is long served.
        for _ in 0..2 {
            std::thread::sleep(Duration::from_secs(1));
            wait::expect("a request of the slow write", wait::ANSWER, || {
                !self
                    .shell()
                    .run("cat /sys/block/vda/inflight")
                    .ends_with(" 0")
            });
        }
    }

    /// Returns whether the slow write has ended.
    pub fn slow_write_ended(&mut self) -> bool {
        self.shell().test("test -e /run/slow")
    }

    /// Lets the slow write end. Does not wait for it.
    pub fn end_slow_write(&mut self) {
        self.limit_first_disk(0);
    }

    /// Waits until the slow write has ended.
    pub fn wait_slow_write(&mut self) {
        wait::expect("the slow write", wait::ANSWER, || self.slow_write_ended());
    }

    /// Limits the first disk to this speed; 0 removes the limit.
    fn limit_first_disk(&mut self, bytes_per_s: u64) {
        let limits = json!({
            "device": "disk0", "bps": bytes_per_s, "bps_rd": 0, "bps_wr": 0,
            "iops": 0, "iops_rd": 0, "iops_wr": 0
        });
        self.qmp("block_set_io_throttle", limits);
    }

    /// Unplugs the agent's port.
    pub fn unplug_port(&mut self) {
        self.qmp("device_del", json!({ "id": "port" }));
        self.event("DEVICE_DELETED", wait::ANSWER);
    }

    /// Plugs the agent's port in.
    pub fn plug_port(&mut self) {
        self.qmp(
            "device_add",
            json!({ "driver": "virtserialport", "bus": "serial.0", "chardev": "agent",
                    "name": PORT, "id": "port" }),
        );
    }

    /// Waits until QEMU ends by itself. Panics at the limit.
    pub fn wait_end(&mut self, limit: Duration) -> ExitStatus {
        match self.qemu.wait(limit) {
            Some(status) => status,
            None => self.fail(&format!("QEMU still runs after {} s", limit.as_secs())),
        }
    }

    /// Waits without a limit until QEMU ends.
    pub fn wait_without_limit(&mut self) -> ExitStatus {
        self.qemu.wait_without_limit()
    }

    /// Waits for the guest's power-off, or for its reset if resets end QEMU. Returns QEMU's reason.
    pub fn shutdown_reason(&mut self) -> String {
        let event = self.event("SHUTDOWN", wait::ANSWER);
        event["data"]["reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Returns the output of the first serial port.
    pub fn serial(&self) -> String {
        let bytes = std::fs::read(self.directory.join("serial")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Panics with `what`, QEMU's log and the end of the serial log.
    pub fn fail(&mut self, what: &str) -> ! {
        let log = self.serial();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(40)..].join("\n");
        let qemu = std::fs::read_to_string(self.directory.join("qemu.log")).unwrap_or_default();
        let ended = self.qemu.ended();
        panic!("{what}\nQEMU ended: {ended:?} {qemu}\nserial port:\n{tail}");
    }
}

/// A connection to QEMU's QMP socket.
struct Qmp {
    stream: BufReader<UnixStream>,
    events: Vec<Value>,
}

impl Qmp {
    fn execute(&mut self, command: &str, arguments: Value) -> Value {
        let mut text = json!({ "execute": command, "arguments": arguments }).to_string();
        text.push('\n');
        self.stream
            .get_mut()
            .write_all(text.as_bytes())
            .expect("QEMU takes a command");
        loop {
            let mut message = self
                .message(wait::ANSWER)
                .unwrap_or_else(|| panic!("QMP {command}: no answer"));
            if message.get("event").is_some() {
                self.events.push(message);
            } else if let Some(value) = message.get_mut("return") {
                return value.take();
            } else {
                panic!("QMP {command}: {message}");
            }
        }
    }

    fn event(&mut self, name: &str, limit: Duration) -> Option<Value> {
        let end = Instant::now() + limit;
        loop {
            if let Some(at) = self.events.iter().position(|event| event["event"] == name) {
                return Some(self.events.remove(at));
            }
            let left = end.checked_duration_since(Instant::now())?;
            let message = self.message(left)?;
            self.events.push(message);
        }
    }

    fn message(&mut self, limit: Duration) -> Option<Value> {
        self.stream
            .get_mut()
            .set_read_timeout(Some(limit.max(Duration::from_millis(1))))
            .expect("a time limit");
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(serde_json::from_str(&line).expect("QEMU writes JSON")),
        }
    }
}
