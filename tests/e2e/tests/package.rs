//! The package: files of `make install`, the service in a Debian guest, and the sample hooks.
//!
//! The files are installed below a directory on this machine. Guest: Debian under libvirt, with systemd,
//! udev, PostgreSQL, MariaDB and Redis. udev starts the service there; snapshots are taken while
//! programs write to the databases; an agent is killed while frozen. In another guest the Debian packages
//! replace qemu-guest-agent, which is then put back. Needs QEMU, the images and libvirt.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use gaunt_e2e::checks::Checks;
use gaunt_e2e::debian;
use gaunt_e2e::disk::{self, Fs};
use gaunt_e2e::libvirt::{DOMAIN, INITRAMFS, KERNEL, Libvirt, quiesced_snapshot};
use gaunt_e2e::process::{output, program, run, text};
use gaunt_e2e::scratch::{NOBODY, Scratch, is_root};
use gaunt_e2e::shell::GuestShell;
use gaunt_e2e::{agent_binary, image_file, top, wait};

/// Time limit for the start of a database, under software emulation.
const START: Duration = Duration::from_secs(120);

/// Time limit for all databases to continue after a thaw: less than the two minutes after which the
/// hooks release a database by themselves.
const GO_ON: Duration = Duration::from_secs(60);

/// Runs `install` or `uninstall` below a directory, without root's privileges.
fn make(target: &str, directory: &Path, prefix: &str) -> Output {
    make_for("systemd", target, directory, prefix)
}

/// As [`make`], for an init.
fn make_for(init: &str, target: &str, directory: &Path, prefix: &str) -> Output {
    let mut command = Command::new(top().join("image/package/install"));
    command
        .arg(target)
        .env("DESTDIR", directory)
        .env("PREFIX", prefix)
        .env("INIT", init)
        .env("AGENT", directory.with_extension("agent"));
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    output(&mut command, wait::ANSWER)
}

/// A directory to install into, and a copy of the agent beside it.
struct Destination {
    scratch: Scratch,
}

impl Destination {
    fn new() -> Destination {
        let scratch = Scratch::new();
        std::fs::create_dir(scratch.join("tree")).expect("a directory");
        std::fs::copy(agent_binary(), scratch.join("tree.agent")).expect("a copy");
        scratch.give_away();
        Destination { scratch }
    }

    fn tree(&self) -> PathBuf {
        self.scratch.join("tree")
    }

    fn install(&self, prefix: &str) -> String {
        let done = make("install", &self.tree(), prefix);
        assert!(done.status.success(), "{}", text(&done));
        text(&done)
    }

    /// Returns all files: path, mode, and the targets of links.
    fn listed(&self) -> Vec<String> {
        let mut listed = Vec::new();
        list(&self.tree(), "", &mut listed);
        listed.sort();
        listed
    }
}

fn list(top: &Path, below: &str, listed: &mut Vec<String>) {
    for entry in std::fs::read_dir(top.join(below)).expect("a directory") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("a plain name");
        let path = if below.is_empty() {
            name
        } else {
            format!("{below}/{name}")
        };
        let metadata = entry.metadata().expect("metadata");
        let mode = metadata.permissions().mode() & 0o7777;
        if let Ok(target) = entry.path().read_link() {
            listed.push(format!("{path} -> {}", target.display()));
        } else if metadata.is_dir() {
            listed.push(format!("{path}/ {mode:o}"));
            list(top, &path, listed);
        } else {
            listed.push(format!("{path} {mode:o}"));
        }
    }
}

#[test]
fn installs_the_documented_files_with_their_modes() {
    let destination = Destination::new();
    destination.install("/usr");
    let expected = [
        "etc/ 755",
        "etc/qemu-ga/ 755",
        "etc/qemu-ga/fsfreeze-hook -> /usr/bin/gaunt",
        "etc/qemu-ga/fsfreeze-hook.d/ 755",
        "etc/sysconfig/ 755",
        "etc/sysconfig/qemu-ga 644",
        "usr/ 755",
        "usr/bin/ 755",
        "usr/bin/gaunt 755",
        "usr/bin/qemu-ga -> gaunt",
        "usr/lib/ 755",
        "usr/lib/systemd/ 755",
        "usr/lib/systemd/system/ 755",
        "usr/lib/systemd/system/qemu-guest-agent.service 644",
        "usr/lib/udev/ 755",
        "usr/lib/udev/rules.d/ 755",
        "usr/lib/udev/rules.d/99-qemu-guest-agent.rules 644",
        "usr/share/ 755",
        "usr/share/bash-completion/ 755",
        "usr/share/bash-completion/completions/ 755",
        "usr/share/bash-completion/completions/gaunt 644",
        "usr/share/bash-completion/completions/qemu-ga -> gaunt",
        "usr/share/man/ 755",
        "usr/share/man/man8/ 755",
        "usr/share/man/man8/gaunt.8 644",
        "usr/share/man/man8/qemu-ga.8 644",
        "usr/share/qemu-kvm/ 755",
        "usr/share/qemu-kvm/qemu-ga/ 755",
        "usr/share/qemu-kvm/qemu-ga/fsfreeze-hook.d/ 755",
        "usr/share/qemu-kvm/qemu-ga/fsfreeze-hook.d/README 644",
        "usr/share/qemu-kvm/qemu-ga/fsfreeze-hook.d/mariadb.sh.sample 644",
        "usr/share/qemu-kvm/qemu-ga/fsfreeze-hook.d/postgresql.sh.sample 644",
        "usr/share/qemu-kvm/qemu-ga/fsfreeze-hook.d/redis.sh.sample 644",
        "usr/share/qemu-kvm/qemu-ga/fsfreeze-hook.d/sync.sh.sample 644",
        "usr/share/qemu-kvm/qemu-ga/sandbox.conf 644",
        "var/ 755",
        "var/log/ 755",
        "var/log/qemu-ga/ 755",
    ];
    assert_eq!(destination.listed(), expected);
    // man(1) resolves this line relative to the directory that holds man8.
    let page = destination.tree().join("usr/share/man/man8/qemu-ga.8");
    let page = std::fs::read_to_string(page).expect("a page");
    assert_eq!(page, ".so man8/gaunt.8\n");
    // A second installation changes nothing.
    assert_eq!(destination.install("/usr"), "");
    assert_eq!(destination.listed(), expected);
}

#[test]
fn the_unit_names_the_program_of_its_prefix() {
    let destination = Destination::new();
    destination.install("/opt/agent");
    let unit = "opt/agent/lib/systemd/system/qemu-guest-agent.service";
    let unit = std::fs::read_to_string(destination.tree().join(unit)).expect("the unit");
    let starts = "\nExecStart=/opt/agent/bin/qemu-ga --method=${TRANSPORT} ";
    assert!(unit.contains(starts) && !unit.contains('@'), "{unit}");
    let hook = destination.tree().join("etc/qemu-ga/fsfreeze-hook");
    assert_eq!(
        hook.read_link().expect("a link"),
        Path::new("/opt/agent/bin/gaunt")
    );
    // A slash at the end of the prefix makes no difference.
    assert_eq!(destination.install("/opt/agent/"), "");
    for prefix in ["opt", "/opt/a&b|c d", "/"] {
        let done = make("install", &destination.tree(), prefix);
        assert!(!done.status.success(), "{prefix}");
    }
    std::fs::remove_file(destination.scratch.join("tree.agent")).expect("the copy of the agent");
    let done = make("install", &destination.tree(), "/usr");
    assert!(
        !done.status.success() && text(&done).contains("make build"),
        "{}",
        text(&done)
    );
}

/// Returns the arguments that systemd makes of a unit's command and these variables: one word for a
/// variable in braces, as many words as it has for another.
fn arguments(unit: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let unit = unit.replace("\\\n", "");
    let command = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let value = |name: &str| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map_or("", |(_, value)| value)
    };
    let mut words = Vec::new();
    for word in command.expect("a command").split_whitespace().skip(1) {
        match (word.strip_prefix('$'), word.split_once("${")) {
            (_, Some((before, name))) => {
                let name = name.strip_suffix('}').expect("a brace at the end");
                words.push(format!("{before}{}", value(name)));
            }
            (Some(name), None) => {
                words.extend(value(name).split_whitespace().map(str::to_owned));
            }
            (None, None) => words.push(word.to_owned()),
        }
    }
    words
}

/// Settings, and what the agent understands.
type Settings<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);

#[test]
fn the_unit_reads_the_settings_of_every_distribution() {
    let unit = top().join("image/package/qemu-guest-agent.service.in");
    let unit = std::fs::read_to_string(unit).expect("the unit");
    let port = "path=/dev/virtio-ports/org.qemu.guest_agent.0";
    let cases: &[Settings] = &[
        (
            &[],
            &["method=virtio-serial", port, "block-rpcs=", "allow-rpcs="],
        ),
        (
            &[("BLACKLIST_RPC", "guest-exec, guest-ping")],
            &["block-rpcs=guest-exec, guest-ping"],
        ),
        (&[("BLOCK_RPCS", "guest-exec")], &["block-rpcs=guest-exec"]),
        (
            &[(
                "FILTER_RPC_ARGS",
                "--allow-rpcs=guest-ping --block-rpcs=guest-exec",
            )],
            &["allow-rpcs=guest-ping", "block-rpcs=guest-exec"],
        ),
        (
            &[("QEMU_GA_ARGS", "-b guest-exec -v")],
            &["block-rpcs=guest-exec", "verbose=true"],
        ),
        (
            &[("DAEMON_ARGS", "-F/etc/my-hook")],
            &["fsfreeze-hook=/etc/my-hook"],
        ),
        (
            &[("FSFREEZE_HOOK_PATHNAME", "/dev/null")],
            &["fsfreeze-hook=/dev/null"],
        ),
        (
            &[("TRANSPORT_ARGS", "--method=unix-listen --path=/s")],
            &["method=unix-listen", "path=/s"],
        ),
        (
            &[("TRANSPORT", "virtio-serial:/dev/vport1p1")],
            &["path=/dev/vport1p1"],
        ),
        (
            &[("GA_METHOD", "unix-listen"), ("GA_PATH", "/s")],
            &["method=unix-listen", "path=/s"],
        ),
        (&[("GA_METHOD", "virtio-serial"), ("GA_PATH", "")], &[port]),
    ];
    for (variables, expected) in cases {
        for (name, _) in *variables {
            // systemd warns of variables that are not set.
            let lines = unit
                .lines()
                .filter_map(|line| line.strip_prefix("Environment="));
            let unset = format!("{name}=");
            let times = lines
                .flat_map(str::split_whitespace)
                .filter(|word| *word == unset);
            assert_eq!(times.count(), 1, "{name}");
        }
        let mut command = Command::new(agent_binary());
        command
            .arg("--dump-conf")
            .args(arguments(&unit, variables))
            .env_clear();
        let printed = output(&mut command, wait::ANSWER);
        assert!(
            printed.status.success(),
            "{variables:?}: {}",
            text(&printed)
        );
        let printed = text(&printed);
        for line in *expected {
            assert!(
                printed.lines().any(|other| other == *line),
                "{variables:?}: {line} in {printed}"
            );
        }
    }
}

#[test]
fn uninstall_keeps_changed_files_and_files_of_others() {
    let destination = Destination::new();
    let tree = destination.tree();
    destination.install("/usr");
    let removed = make("uninstall", &tree, "/usr");
    assert!(
        removed.status.success() && text(&removed).is_empty(),
        "{}",
        text(&removed)
    );
    // Directories that other packages use too.
    let shared = [
        "etc/ 755",
        "usr/ 755",
        "usr/bin/ 755",
        "usr/lib/ 755",
        "usr/lib/systemd/ 755",
        "usr/lib/systemd/system/ 755",
        "usr/lib/udev/ 755",
        "usr/lib/udev/rules.d/ 755",
        "usr/share/ 755",
        "usr/share/man/ 755",
        "usr/share/man/man8/ 755",
        "var/ 755",
        "var/log/ 755",
    ];
    assert_eq!(destination.listed(), shared);

    destination.install("/usr");
    let settings = tree.join("etc/sysconfig/qemu-ga");
    let main_hook = tree.join("etc/qemu-ga/fsfreeze-hook");
    let own_hook = tree.join("etc/qemu-ga/fsfreeze-hook.d/10-own");
    std::fs::write(&settings, "FILTER_RPC_ARGS=--allow-rpcs=guest-ping\n").expect("a change");
    std::fs::remove_file(&main_hook).expect("a link");
    std::fs::write(&main_hook, "#!/bin/sh\n").expect("a script");
    std::fs::write(&own_hook, "#!/bin/sh\n").expect("a script");
    let said = destination.install("/usr");
    assert!(
        said.contains("qemu-ga.new") && said.contains("fsfreeze-hook is not ours"),
        "{said}"
    );
    let removed = make("uninstall", &tree, "/usr");
    assert!(removed.status.success(), "{}", text(&removed));
    let changed = std::fs::read_to_string(&settings).expect("the settings stay");
    assert_eq!(changed, "FILTER_RPC_ARGS=--allow-rpcs=guest-ping\n");
    assert!(main_hook.exists() && own_hook.exists());
    assert!(!settings.with_extension("new").exists());
    // Files of another package: a program of that name, as a file and as a link, its manual page, unit
    // and rule, and a link as main hook.
    let program = tree.join("usr/bin/qemu-ga");
    let others = [
        ("usr/share/man/man8/qemu-ga.8", ".Dt QEMU-GA 8\n"),
        (
            "usr/lib/systemd/system/qemu-guest-agent.service",
            "[Service]\nExecStart=/usr/sbin/qemu-ga\n",
        ),
        (
            "usr/lib/udev/rules.d/99-qemu-guest-agent.rules",
            "SUBSYSTEM==\"virtio-ports\", TAG+=\"systemd\"\n",
        ),
    ];
    for (name, text) in others {
        std::fs::write(tree.join(name), text).expect("a file");
    }
    std::fs::remove_file(&main_hook).expect("a script");
    symlink("/usr/local/sbin/hook", &main_hook).expect("a link");
    for is_link in [false, true] {
        let _ = std::fs::remove_file(&program);
        match is_link {
            false => std::fs::write(&program, "another's").expect("a file"),
            true => symlink("/opt/qemu/qemu-ga", &program).expect("a link"),
        }
        let said = destination.install("/usr");
        for name in ["usr/bin/qemu-ga", "fsfreeze-hook"]
            .into_iter()
            .chain(others.map(|(name, _)| name))
        {
            assert!(said.contains(&format!("{name} is not ours")), "{said}");
        }
        make("uninstall", &tree, "/usr");
        assert_eq!(program.is_symlink(), is_link);
        assert_eq!(program.exists(), !is_link);
        let leads_to = main_hook.read_link().expect("a link");
        assert_eq!(leads_to, Path::new("/usr/local/sbin/hook"));
        for (name, text) in others {
            let kept = std::fs::read_to_string(tree.join(name)).expect("the file stays");
            assert_eq!(kept, text, "{name}");
        }
    }
}

/// Types lines and a tab each into a bash on a terminal; prints what is on its line then.
const TYPE: &str = r#"
import os, pty, re, select, sys
completion, directory, *lines = sys.argv[1:]
pid, fd = pty.fork()
if pid == 0:
    os.environ.update(TERM='dumb', LC_ALL='C', PS1='', PATH=directory + ':/usr/bin:/bin')
    os.execvp('bash', ['bash', '--norc', '--noprofile', '-i'])
def read_to(end):
    text = b''
    while end not in text:
        if not select.select([fd], [], [], 30)[0]: sys.exit(f'{end} is not in {text}')
        text += os.read(fd, 65536)
    return text
show = r"""bind -x '"\C-x\C-p": printf "<%s>\n" "$READLINE_LINE"'"""
begin = f"bind 'set bell-style none'; {show}; source {completion}; echo rea''dy\n"
os.write(fd, begin.encode())
read_to(b'ready\r\n')
for line in lines:
    os.write(fd, line.encode() + b'\t\x18\x10')
    print(re.findall(rb'<(.*)>\r\n', read_to(b'>\r\n'))[-1].decode())
    os.write(fd, b'\x15')
"#;

/// Returns what becomes of these lines in bash, each with a tab at its end.
fn completed(lines: &[&str]) -> Vec<String> {
    let directory = agent_binary();
    let said = run(
        Command::new(program("python3", "python3"))
            .args(["-c", TYPE])
            .arg(top().join("image/package/completion.bash"))
            .arg(directory.parent().expect("a directory"))
            .args(lines),
        wait::BOOT,
    );
    said.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_options_commands_and_methods() {
    let cases = [
        ("gaunt --freeze-t", "gaunt --freeze-timeout "),
        ("gaunt --fs", "gaunt --fsfreeze-hook "),
        ("gaunt -F", "gaunt -F "),
        ("gaunt --allow-rpcs=g", "gaunt --allow-rpcs=guest-"),
        ("gaunt -b guest-get-v", "gaunt -b guest-get-vcpus"),
        (
            "gaunt --block-rpcs=guest-get-v",
            "gaunt --block-rpcs=guest-get-vcpus",
        ),
        (
            "gaunt -v --allow-rpcs=@l",
            "gaunt -v --allow-rpcs=@lifecycle",
        ),
        ("gaunt -b @l", "gaunt -b @lifecycle"),
        ("gaunt -b guest-x", "gaunt -b guest-x"),
        // The names before it stay, behind commas and behind semicolons, which need quotes.
        (
            "gaunt -a guest-ping,guest-get-v",
            "gaunt -a guest-ping,guest-get-vcpus",
        ),
        ("gaunt --block-rpcs=a,@i", "gaunt --block-rpcs=a,@info"),
        (
            "gaunt -b 'guest-ping;guest-get-v",
            "gaunt -b 'guest-ping;guest-get-vcpus'",
        ),
        (
            "gaunt --block-rpcs=\"a,b;@l",
            "gaunt --block-rpcs=\"a,b;@lifecycle\"",
        ),
        (
            "gaunt -b guest-ping\\;guest-get-v",
            "gaunt -b guest-ping\\;guest-get-vcpus",
        ),
        ("gaunt -m virtio", "gaunt -m virtio-serial"),
        ("gaunt --channels=vs", "gaunt --channels=vsock-listen"),
        (
            "gaunt --channels='unix-listen:/x;vs",
            "gaunt --channels='unix-listen:/x;vsock-listen'",
        ),
        // Paths, also behind a method.
        ("gaunt -l /etc/passw", "gaunt -l /etc/passwd"),
        (
            "gaunt -m unix-listen:/etc/host",
            "gaunt -m unix-listen:/etc/host",
        ),
        (
            "gaunt -m unix-listen:/etc/hostn",
            "gaunt -m unix-listen:/etc/hostname ",
        ),
        (
            "gaunt --channels='isa-serial;unix-listen:/etc/hostn",
            "gaunt --channels='isa-serial;unix-listen:/etc/hostname' ",
        ),
        ("gaunt --config=/etc/hostn", "gaunt --config=/etc/hostname "),
        ("gaunt --check=", "gaunt --check=json "),
        ("gaunt --hook-failures i", "gaunt --hook-failures ignore "),
    ];
    let lines = completed(&cases.map(|(line, _)| line));
    assert_eq!(lines, cases.map(|(_, line)| line));
}

#[test]
fn each_init_gets_its_own_files_and_uninstall_removes_them() {
    let systemd = [
        "etc/sysconfig/qemu-ga",
        "usr/lib/systemd/system/qemu-guest-agent.service",
        "usr/lib/udev/rules.d/99-qemu-guest-agent.rules",
    ];
    let inits: [(&str, &[&str]); 8] = [
        ("systemd", &systemd),
        ("openrc", &["etc/init.d/qemu-guest-agent"]),
        ("sysvinit", &["etc/init.d/qemu-guest-agent"]),
        ("busybox", &["etc/inittab"]),
        ("procd", &["etc/init.d/qemu-ga"]),
        (
            "runit",
            &[
                "etc/sv/qemu-guest-agent/run",
                "etc/sv/qemu-guest-agent/supervise",
            ],
        ),
        (
            "s6",
            &[
                "etc/s6/sv/qemu-guest-agent/run",
                "etc/s6/sv/qemu-guest-agent/type",
            ],
        ),
        ("none", &[]),
    ];
    // Files that all inits get.
    let common = |path: &&String| path.starts_with("usr/bin/") || path.starts_with("usr/share/");
    let inittab = "::sysinit:/bin/true\n";
    for (init, own) in inits {
        let destination = Destination::new();
        let tree = destination.tree();
        if init == "busybox" {
            let refused = make_for(init, "install", &tree, "/usr");
            assert!(text(&refused).contains("inittab"), "{}", text(&refused));
            std::fs::create_dir(tree.join("etc")).expect("a directory");
            std::fs::write(tree.join("etc/inittab"), inittab).expect("a file");
            destination.scratch.give_away();
        }
        // The second installation changes nothing.
        for _ in 0..2 {
            let done = make_for(init, "install", &tree, "/usr");
            assert!(
                done.status.success() && text(&done).is_empty(),
                "{init}: {}",
                text(&done)
            );
        }
        let files: Vec<String> = destination
            .listed()
            .iter()
            .filter(|line| !line.contains("/ ") && !line.contains("fsfreeze-hook ->"))
            .filter(|path| !common(path))
            .map(|line| line.split(' ').next().expect("a path").to_owned())
            .collect();
        assert_eq!(files, own, "{init}");
        for path in own.iter().filter(|path| !path.ends_with("/supervise")) {
            let content = std::fs::read_to_string(tree.join(path)).expect("a file");
            assert!(!content.contains("@BINDIR@"), "{init}: {path}");
        }
        if init == "busybox" {
            let content = std::fs::read_to_string(tree.join("etc/inittab")).expect("a file");
            let line = "::respawn:/usr/bin/qemu-ga -F\n";
            assert_eq!(content, format!("{inittab}{line}"));
        }
        let removed = make_for(init, "uninstall", &tree, "/usr");
        assert!(removed.status.success(), "{init}: {}", text(&removed));
        let left: Vec<String> = destination
            .listed()
            .into_iter()
            .filter(|line| !line.contains("/ "))
            .collect();
        match init {
            "busybox" => {
                assert_eq!(left, ["etc/inittab 644"]);
                let content = std::fs::read_to_string(tree.join("etc/inittab")).expect("a file");
                assert_eq!(content, inittab);
            }
            _ => assert_eq!(left, [""; 0], "{init}"),
        }
    }
    let destination = Destination::new();
    let refused = make_for("upstart", "install", &destination.tree(), "/usr");
    assert!(!refused.status.success() && destination.listed().is_empty());
}

/// Writes to three databases for ever, and records their acknowledgements in /run, in memory.
const LOAD: &str = r#"
n=0
while :; do n=$((n + 1)); echo "insert into t values ($n) returning n;"; done |
    runuser -u postgres -- psql -X -q -At -d postgres >/run/postgresql.acked 2>&1 &
n=0
while :; do n=$((n + 1)); echo "insert into t.t values ($n); insert into t.m values ($n); select $n;"; done |
    mariadb --no-defaults -N -B --unbuffered >/run/mariadb.acked 2>&1 &
while :; do echo "incr n"; done | redis-cli >/run/redis.acked 2>&1 &
"#;

/// Prints the last number that each database acknowledged: the last complete line.
const ACKNOWLEDGED: &str = r#"
for name in postgresql mariadb redis; do
    head -n "$(wc -l </run/$name.acked)" /run/$name.acked | tail -n 1
done
"#;

/// A hook that runs after the hooks of the databases before a freeze, and before them after the thaw.
///
/// It records the acknowledged numbers three times: `rest`, when the hooks of the databases are done;
/// `freeze`, as late as possible; and `thaw`. Between `rest` and `freeze` it waits for 20 more rows of
/// PostgreSQL, which no hook holds. A database that should be held and is not has that time to continue.
const COUNT: &str = r#"#!/bin/sh
case $1 in
freeze)
    sh /run/acknowledged >/run/acknowledged.rest
    read -r rest </run/acknowledged.rest
    while :; do
        sh /run/acknowledged >/run/acknowledged.freeze
        read -r freeze </run/acknowledged.freeze
        [ "$freeze" -lt $((rest + 20)) ] || break
    done
    ;;
thaw) sh /run/acknowledged >/run/acknowledged.thaw ;;
esac
"#;

/// A hook that runs right before that of Redis, and starts a background save of five seconds: the server
/// waits that long after its only key.
const SAVE: &str = r#"#!/bin/sh
[ "$1" = freeze ] || exit 0
redis-cli config set rdb-key-save-delay 5000000
until redis-cli bgsave | grep started; do sleep 0.1; done
redis-cli config set rdb-key-save-delay 0
"#;

const DATABASES: [&str; 3] = ["postgresql", "mariadb", "redis"];

/// A number for each of [`DATABASES`].
type Numbers = [u64; DATABASES.len()];

/// Writes a file in the guest.
fn write(shell: &mut GuestShell, path: &str, content: &str) {
    shell.run(&format!("cat >{path} <<'END'\n{content}END"));
}

/// Installs a hook in the guest.
fn hook(shell: &mut GuestShell, name: &str, content: &str) {
    let path = format!("/etc/qemu-ga/fsfreeze-hook.d/{name}");
    write(shell, &path, content);
    shell.run(&format!("chmod 755 {path}"));
}

/// Runs a command in the guest that prints a number for each database.
fn numbers(shell: &mut GuestShell, command: &str) -> Numbers {
    let said = shell.run(command);
    let numbers: Vec<u64> = said.lines().flat_map(str::parse).collect();
    numbers
        .try_into()
        .unwrap_or_else(|_| panic!("{command} said {said:?}"))
}

/// Returns the numbers acknowledged last.
fn acknowledged(shell: &mut GuestShell) -> Numbers {
    numbers(shell, "sh /run/acknowledged")
}

/// Returns the numbers that [`COUNT`] recorded.
fn recorded(shell: &mut GuestShell, when: &str) -> Numbers {
    numbers(shell, &format!("cat /run/acknowledged.{when}"))
}

/// Waits until every database has acknowledged `rows` more rows. Returns the numbers.
fn wait_for_more(shell: &mut GuestShell, rows: u64, limit: Duration) -> Numbers {
    let before = acknowledged(shell);
    wait::expect("all databases to acknowledge rows", limit, || {
        let now = acknowledged(shell);
        now.iter()
            .zip(before)
            .all(|(now, before)| *now >= before + rows)
    });
    acknowledged(shell)
}

/// Thaws, and removes the hooks of single checks, whatever an earlier check has left.
fn begin(libvirt: &Libvirt, shell: &mut GuestShell) {
    // A service that is to stop ends only after the thaw.
    libvirt.virsh(&["domfsthaw", DOMAIN]);
    shell.run("systemctl start qemu-guest-agent");
    libvirt.wait_agent();
    assert_eq!(freeze_status(libvirt), r#"{"return":"thawed"}"#);
    shell.run("cd /etc/qemu-ga/fsfreeze-hook.d && rm -f 51-save 90-bad");
}

/// Returns the reply to guest-fsfreeze-status.
fn freeze_status(libvirt: &Libvirt) -> String {
    let request = r#"{"execute":"guest-fsfreeze-status"}"#;
    libvirt.ok(&["qemu-agent-command", DOMAIN, request])
}

/// Starts the load and takes a quiesced snapshot. Returns the numbers acknowledged at the freeze.
fn snapshot_under_load(libvirt: &Libvirt, shell: &mut GuestShell) -> (Numbers, String) {
    write(shell, "/run/load", LOAD);
    write(shell, "/run/acknowledged", ACKNOWLEDGED);
    hook(shell, "99-count", COUNT);
    shell.run("setsid sh /run/load </dev/null >/dev/null 2>&1 &");
    wait::expect("a first row in each database", START, || {
        shell.test("[ $(sh /run/acknowledged | wc -l) = 3 ]")
    });
    let before = wait_for_more(shell, 200, START);
    libvirt.ok(&quiesced_snapshot("one"));
    wait_for_more(shell, 20, GO_ON);
    let at_rest = recorded(shell, "rest");
    let at_freeze = recorded(shell, "freeze");
    let at_thaw = recorded(shell, "thaw");
    assert_grown(before, at_rest);
    assert_held(at_rest, at_freeze);
    assert_held(at_freeze, at_thaw);
    let log = shell.run("tail -n 20 /var/log/qemu-ga/fsfreeze-hook.log");
    let evidence = format!(
        "acknowledged before {before:?}, after the hooks {at_rest:?}, at the freeze {at_freeze:?}; the log:\n{log}"
    );
    (at_freeze, evidence)
}

/// Freezes while Redis saves on its own, and takes a snapshot. Returns the numbers
/// acknowledged when the snapshot was complete.
fn snapshot_by_hand(libvirt: &Libvirt, shell: &mut GuestShell) -> (Numbers, String) {
    begin(libvirt, shell);
    hook(shell, "51-save", SAVE);
    let before = acknowledged(shell);
    let said = libvirt.ok(&["domfsfreeze", DOMAIN]);
    let frozen = acknowledged(shell);
    let mut words = quiesced_snapshot("three").to_vec();
    words.retain(|word| *word != "--quiesce");
    libvirt.ok(&words);
    let still_frozen = acknowledged(shell);
    assert_grown(before, frozen);
    assert_held(frozen, still_frozen);
    // One acknowledgement may have been on its way to the client.
    let more = still_frozen[0] - frozen[0];
    assert!(more <= 1, "PostgreSQL continued while frozen: {more} rows");
    let log = shell.run("grep '52-redis.sh: ' /var/log/qemu-ga/fsfreeze-hook.log | tail -n 1");
    let (_, took) = log.split_once("done after ").expect("the hook is done");
    let took: u32 = took.trim_end_matches(" ms").parse().expect("a number");
    assert!(took >= 3000, "the hook did not wait for the save: {log}");
    let save = shell.run("redis-cli info persistence | grep -a rdb_last_bgsave | tr -d '\\r'");
    assert!(save.contains("rdb_last_bgsave_status:ok"), "{save}");
    let evidence = format!(
        "{said}; acknowledged before {before:?}, frozen {frozen:?}, then {still_frozen:?}; {log}\n{save}"
    );
    (still_frozen, evidence)
}

/// Freezes, and kills the agent. The next agent must thaw, and release the databases that the hooks
/// of the first one hold.
fn killed_while_frozen(libvirt: &Libvirt, shell: &mut GuestShell) -> String {
    begin(libvirt, shell);
    libvirt.ok(&["domfsfreeze", DOMAIN]);
    let frozen = acknowledged(shell);
    let main_pid = "systemctl show -P MainPID qemu-guest-agent";
    let killed = shell.run(main_pid);
    shell.run("systemctl kill --kill-whom=main -s KILL qemu-guest-agent");
    wait::expect("another agent", wait::ANSWER, || {
        let pid = shell.run(main_pid);
        pid != "0" && pid != killed
    });
    libvirt.wait_agent();
    assert_eq!(freeze_status(libvirt), r#"{"return":"frozen"}"#);
    let holds = shell.test("kill -0 $(cat /run/qemu-ga-mariadb/pid)");
    assert!(holds, "the process that holds MariaDB died with the agent");
    assert_held(frozen, acknowledged(shell));
    let said = libvirt.ok(&["domfsthaw", DOMAIN]);
    let at_thaw = recorded(shell, "thaw");
    assert_held(frozen, at_thaw);
    let now = wait_for_more(shell, 20, GO_ON);
    format!("killed process {killed}; {said}; acknowledged at the thaw {at_thaw:?}, now {now:?}")
}

/// Stops the service while the guest is frozen. The service must end after the thaw, not before.
fn stopped_while_frozen(libvirt: &Libvirt, shell: &mut GuestShell) -> String {
    begin(libvirt, shell);
    libvirt.ok(&["domfsfreeze", DOMAIN]);
    shell.run("systemctl stop --no-block qemu-guest-agent");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(freeze_status(libvirt), r#"{"return":"frozen"}"#);
    let limit = shell.run("systemctl show -P TimeoutStopUSec qemu-guest-agent");
    assert_eq!(limit, "20min");
    libvirt.ok(&["domfsthaw", DOMAIN]);
    wait::expect("the service to end", GO_ON, || {
        shell.run("systemctl show -P ActiveState qemu-guest-agent") == "inactive"
    });
    let left = shell.run("ls /run");
    assert!(!left.contains("isfrozen") && !left.contains("gaunt.hooks"));
    shell.run("systemctl start qemu-guest-agent");
    libvirt.wait_agent();
    "inactive, and started again".into()
}

/// Asserts that MariaDB and Redis, which their hooks hold, acknowledged nothing in between.
fn assert_held(before: Numbers, after: Numbers) {
    assert_eq!(before[1..], after[1..], "MariaDB or Redis was not held");
}

/// Asserts that every database acknowledged rows in between.
fn assert_grown(before: Numbers, after: Numbers) {
    let grown = before
        .iter()
        .zip(after)
        .all(|(before, after)| *before < after);
    assert!(grown, "the load has ended: {before:?}, {after:?}");
}

/// Starts the databases from a copy of the disks. Asserts that they have every acknowledged row.
fn rows_of_copy(libvirt: &Libvirt, [root, data]: [&str; 2], acknowledged: Numbers) -> String {
    assert!(!acknowledged.contains(&0), "{acknowledged:?}");
    let mut guest = debian::machine(&libvirt.file(root))
        .disk(&libvirt.file(data))
        .boot();
    guest.wait_shell();
    let shell = guest.shell();
    shell.run("mount /dev/vdb /var/lib/postgresql");
    let start = "systemctl start postgresql@15-main mariadb redis-server";
    let ran = shell.try_run(start, START);
    assert_eq!(ran.status, 0, "{}", ran.output);
    let query = "select count(*), max(n) from";
    let rows = [
        shell.run(&format!(
            "runuser -u postgres -- psql -X -At -F ' ' -c '{query} t'"
        )),
        shell.run(&format!("mariadb -N -B -e '{query} t' t | tr '\\t' ' '")),
        shell.run(&format!("mariadb -N -B -e '{query} m' t | tr '\\t' ' '")),
        shell.run("n=$(redis-cli get n); echo $n $n"),
    ];
    for (rows, database) in rows.iter().zip([0, 1, 1, 2]) {
        let (name, acknowledged) = (DATABASES[database], acknowledged[database]);
        let (count, last) = rows.split_once(' ').expect("two numbers");
        // No row between the first and the last is missing.
        assert_eq!(count, last, "{name}");
        let last: u64 = last.parse().expect("a number");
        assert!(
            last >= acknowledged,
            "{name}: {last} of {acknowledged} that were acknowledged"
        );
    }
    // MyISAM has no log to recover from: the table must be intact without a repair.
    let checked = shell.run("mariadb -N -B -e 'check table t.m fast quick; check table t.m' ");
    assert!(
        checked
            .lines()
            .all(|line| line.ends_with("OK") || line.contains("up to date")),
        "{checked}"
    );
    let log = shell.run("cat /var/log/postgresql/postgresql-15-main.log | tail -n 20");
    assert!(!log.contains("PANIC") && !log.contains("ERROR"), "{log}");
    format!("{rows:?}, of {acknowledged:?} acknowledged")
}

fn service_and_databases(checks: &mut Checks, shell: &mut GuestShell) {
    checks.run("udev starts the service", || {
        let state = shell.run("systemctl is-active qemu-guest-agent.service");
        assert_eq!(state, "active");
        let words =
            shell.run("tr '\\0' ' ' </proc/$(systemctl show -P MainPID qemu-guest-agent)/cmdline");
        // Between them are the unit's settings, all empty.
        let hook = " -F/etc/qemu-ga/fsfreeze-hook";
        let settings = words.trim().strip_prefix("/usr/bin/qemu-ga");
        let settings = settings.and_then(|words| words.strip_suffix(hook));
        let mut settings = settings.expect(&words).split_whitespace();
        assert!(settings.all(|word| word.ends_with('=')), "{words}");
        let enabled = shell.try_run(
            "systemctl is-enabled qemu-guest-agent.service",
            wait::ANSWER,
        );
        format!(
            "{state}, started by the udev rule (the unit is {})",
            enabled.output
        )
    });
    checks.run("the sample hooks succeed while no database runs", || {
        for (number, name) in [
            (10, "sync"),
            (50, "postgresql"),
            (51, "mariadb"),
            (52, "redis"),
        ] {
            shell.run(&format!(
                "install -m 755 /usr/share/qemu-kvm/qemu-ga/fsfreeze-hook.d/{name}.sh.sample \
                 /etc/qemu-ga/fsfreeze-hook.d/{number}-{name}.sh"
            ));
        }

        let ran = shell.try_run(
            "/etc/qemu-ga/fsfreeze-hook freeze && /etc/qemu-ga/fsfreeze-hook thaw",
            START,
        );
        assert_eq!(ran.status, 0, "{}", ran.output);
        shell.run("cat /var/log/qemu-ga/fsfreeze-hook.log")
    });
    checks.run("the databases start, PostgreSQL on its own disk", || {
        shell.run("mount /dev/vdb /mnt && cp -a /var/lib/postgresql/. /mnt && umount /mnt");
        shell.run("chown postgres: /var/lib/postgresql && mount /dev/vdb /var/lib/postgresql");
        shell.run("chown postgres: /var/lib/postgresql");
        let start = "systemctl start postgresql@15-main mariadb redis-server";
        let ran = shell.try_run(start, START);
        assert_eq!(ran.status, 0, "{}", ran.output);
        shell.run("runuser -u postgres -- psql -X -q -c 'create table t (n int primary key)'");
        shell.run(
            "mariadb -e 'create database t; create table t.t (n int primary key) engine=innodb; \
             create table t.m (n int primary key) engine=myisam'",
        );
        shell.run("df /var/lib/postgresql | tail -n 1")
    });
}

/// Returns the numbers acknowledged at each snapshot that was made.
fn snapshots(
    checks: &mut Checks,
    libvirt: &Libvirt,
    shell: &mut GuestShell,
) -> (Option<Numbers>, Option<Numbers>) {
    let (mut at_freeze, mut while_frozen) = (None, None);
    checks.run("a quiesced snapshot under load", || {
        let (numbers, evidence) = snapshot_under_load(libvirt, shell);
        at_freeze = Some(numbers);
        evidence
    });
    checks.run("a hook that fails fails the snapshot", || {
        begin(libvirt, shell);
        hook(shell, "90-bad", "#!/bin/sh\necho no rest >&2; exit 3\n");
        let said = libvirt.refusal(&quiesced_snapshot("two"));
        assert!(
            said.contains("90-bad") && said.contains("no rest"),
            "{said}"
        );
        assert_eq!(freeze_status(libvirt), r#"{"return":"thawed"}"#);
        said
    });
    checks.run(
        "a snapshot of a frozen guest, with a background save of Redis",
        || {
            let (numbers, evidence) = snapshot_by_hand(libvirt, shell);
            while_frozen = Some(numbers);
            evidence
        },
    );
    (at_freeze, while_frozen)
}

fn ends_while_frozen(checks: &mut Checks, libvirt: &Libvirt, shell: &mut GuestShell) {
    checks.run(
        "after a kill while frozen the next agent thaws and all continues",
        || killed_while_frozen(libvirt, shell),
    );
    checks.run("a service stopped while frozen ends after the thaw", || {
        stopped_while_frozen(libvirt, shell)
    });
}

#[test]
fn snapshots_of_a_debian_guest_hold_every_acknowledged_row() {
    let mut checks = Checks::new("debian");
    let destination = Destination::new();
    destination.install("/usr");
    let disks = ["root.qcow2", "data.qcow2"];
    let libvirt = Libvirt::with(debian::MEMORY_MIB, &disks, |scratch| {
        std::fs::copy(image_file("vmlinuz"), scratch.join(KERNEL)).expect("a copy");
        let initramfs = debian::initramfs(Some(&destination.tree()));
        std::fs::write(scratch.join(INITRAMFS), initramfs).expect("a file");
        debian::disk(scratch.path(), "root.qcow2");
        disk::qcow2(&scratch.join("data.qcow2"), Fs::LargeExt4);
    });
    let mut shell = libvirt.boot();
    let shell = &mut shell;
    service_and_databases(&mut checks, shell);
    let (at_freeze, while_frozen) = snapshots(&mut checks, &libvirt, shell);
    ends_while_frozen(&mut checks, &libvirt, shell);
    libvirt.ok(&["destroy", DOMAIN]);

    // Only snapshots that were made can be looked at. The guest of each copy writes to it. The second
    // snapshot is a layer on top of the first, so it is used before the first.
    if let (Some(_), Some(rows)) = (at_freeze, while_frozen) {
        checks.run(
            "the snapshot of the frozen guest has every acknowledged row",
            || {
                let second = ["root.two.qcow2", "data.two.qcow2"];
                for (layer, name) in ["root.one", "data.one"].iter().zip(second) {
                    std::fs::rename(libvirt.file(layer), libvirt.file(name)).expect("a layer");
                }
                rows_of_copy(&libvirt, second, rows)
            },
        );
    }
    if let Some(rows) = at_freeze {
        checks.run(
            "the quiesced snapshot has every row acknowledged at the freeze",
            || rows_of_copy(&libvirt, disks, rows),
        );
    }
    checks.finish();
}

/// Prints all files of the guest that packages bring or leave: kind, mode, path, target of a link. The
/// files of dpkg and apt themselves, and logs, change with every installation, those of the database while
/// it runs.
const ALL_FILES: &str = "find / -xdev \\( -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/log -o -path /var/cache \
    -o -path /root/packages -o -path /var/lib/postgresql -o -path /tmp -o -path /var/tmp \\) -prune -o -printf '%y %m %p %l\\n' | sort";

/// Runs dpkg in the guest. Returns its output.
fn dpkg(shell: &mut GuestShell, words: &str) -> String {
    let ran = shell.try_run(
        &format!("DEBIAN_FRONTEND=noninteractive dpkg {words}"),
        START,
    );
    assert_eq!(ran.status, 0, "dpkg {words}: {}", ran.output);
    ran.output
}

/// Installs Debian's own package. The rule that it brings reaches a port that exists only by a trigger.
fn install_qemu_guest_agent(shell: &mut GuestShell) {
    dpkg(shell, "-i /root/packages/old/*.deb");
    shell.run("udevadm control --reload; udevadm trigger --subsystem-match=virtio-ports");
}

/// Returns the lines of one list that another lacks, with a sign before each.
fn difference(before: &str, after: &str) -> Vec<String> {
    let missing = |sign: char, from: &str, other: &str| -> Vec<String> {
        let other: std::collections::HashSet<&str> = other.lines().collect();
        from.lines()
            .filter(|line| !other.contains(line))
            .map(|line| format!("{sign} {line}"))
            .collect()
    };
    [missing('-', before, after), missing('+', after, before)].concat()
}

/// Asserts that the service is healthy and runs this program.
fn assert_service_runs(shell: &mut GuestShell, program: &str) -> String {
    let status = shell.try_run(
        "systemctl status --no-pager --lines=3 qemu-guest-agent",
        wait::ANSWER,
    );
    assert_eq!(status.status, 0, "{}", status.output);
    let exe = shell.run("readlink /proc/$(systemctl show -P MainPID qemu-guest-agent)/exe");
    assert_eq!(exe, program);
    let failed = shell.run("systemctl list-units --failed --no-legend --plain qemu-guest-agent");
    assert_eq!(failed, "");
    assert_eq!(
        shell.run("systemctl show -P NRestarts qemu-guest-agent"),
        "0"
    );
    status.output
}

/// Sends a request to the agent through libvirt. Returns its reply.
fn ask(libvirt: &Libvirt, command: &str, arguments: &str) -> String {
    let request = format!(r#"{{"execute":"{command}","arguments":{arguments}}}"#);
    libvirt.ok(&["qemu-agent-command", DOMAIN, &request])
}

/// Installs the sandbox, and tries the commands that need privileges.
fn sandbox(libvirt: &Libvirt, shell: &mut GuestShell) -> String {
    let before = shell.run("systemd-analyze security --no-pager qemu-guest-agent | tail -n 1");
    let settings = "FILTER_RPC_ARGS=--block-rpcs=guest-exec,guest-file-open\n";
    write(shell, "/etc/default/qemu-guest-agent", settings);
    shell.run(
        "install -D -m 644 /usr/share/doc/gaunt/examples/sandbox.conf \
         /etc/systemd/system/qemu-guest-agent.service.d/sandbox.conf && \
         systemctl daemon-reload && systemctl restart qemu-guest-agent",
    );
    libvirt.wait_agent();
    let after = shell.run("systemd-analyze security --no-pager qemu-guest-agent | tail -n 1");
    shell.run("rm -f /run/hooks");
    libvirt.ok(&quiesced_snapshot("two"));
    assert_eq!(shell.run("cat /run/hooks"), "freeze\nthaw");
    let refused = libvirt.virsh(&[
        "qemu-agent-command",
        DOMAIN,
        r#"{"execute":"guest-exec","arguments":{"path":"/bin/true"}}"#,
    ]);
    assert!(text(&refused).contains("disabled"), "{}", text(&refused));
    let password = r#"{"username":"root","password":"c2VjcmV0","crypted":false}"#;
    ask(libvirt, "guest-set-user-password", password);
    assert!(shell.test("grep -q '^root:[$]6[$]' /etc/shadow"));
    let key = r#"{"username":"root","keys":["ssh-ed25519 AAAA test"]}"#;
    ask(libvirt, "guest-ssh-add-authorized-keys", key);
    assert!(shell.test("grep -q AAAA /root/.ssh/authorized_keys"));
    ask(libvirt, "guest-set-time", r#"{"time":1900000000000000000}"#);
    assert!(shell.test("[ $(date +%Y) = 2030 ]"));
    ask(libvirt, "guest-set-time", "{}");
    let info = ask(libvirt, "guest-get-fsinfo", "{}");
    assert!(info.contains(r#""mountpoint":"/""#), "{info}");
    ask(libvirt, "guest-network-get-interfaces", "{}");
    ask(libvirt, "guest-fstrim", "{}");
    ask(
        libvirt,
        "guest-set-vcpus",
        r#"{"vcpus":[{"logical-id":1,"online":false}]}"#,
    );
    ask(
        libvirt,
        "guest-set-vcpus",
        r#"{"vcpus":[{"logical-id":1,"online":true}]}"#,
    );
    let log = shell.run("journalctl -b --no-pager -u qemu-guest-agent | tail -n 5");
    format!("{before}; {after}\n{log}")
}

#[test]
fn the_debian_packages_replace_qemu_guest_agent_and_leave_no_trace() {
    let mut checks = Checks::new("debian packages");
    let packages = Scratch::new();
    run(
        Command::new(top().join("image/recipes/debian/build"))
            .env("AGENT", agent_binary())
            .env("OUT", packages.join("root/packages/new")),
        wait::ANSWER,
    );
    let libvirt = Libvirt::with(debian::MEMORY_MIB, &["root.qcow2"], |scratch| {
        debian::disk(scratch.path(), "root.qcow2");
        let old = packages.join("root/packages/old");
        std::fs::create_dir(&old).expect("a directory");
        for entry in std::fs::read_dir(debian::packages("qemu-guest-agent")).expect("packages") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name");
            std::fs::copy(&path, old.join(name)).expect("a copy");
        }
        std::fs::copy(image_file("vmlinuz"), scratch.join(KERNEL)).expect("a copy");
        let initramfs = debian::initramfs(Some(packages.path()));
        std::fs::write(scratch.join(INITRAMFS), initramfs).expect("a file");
    });
    let mut shell = libvirt.boot_without_agent();
    let shell = &mut shell;
    let mut before = String::new();
    checks.run("qemu-guest-agent is installed and runs", || {
        install_qemu_guest_agent(shell);
        libvirt.wait_agent();
        before = shell.run(ALL_FILES);
        assert_service_runs(shell, "/usr/sbin/qemu-ga")
    });
    checks.run("the packages replace it, and the service runs", || {
        // Without lists of packages apt has only these files.
        let install = "DEBIAN_FRONTEND=noninteractive apt-get install -y /root/packages/new/*.deb";
        let ran = shell.try_run(install, START);
        assert_eq!(ran.status, 0, "{}", ran.output);
        let said = ran.output;
        libvirt.wait_agent();
        let state = shell.run("dpkg-query -W -f '${db:Status-Abbrev}' qemu-guest-agent");
        assert!(state.trim().ends_with('c'), "not removed: {state}");
        assert_eq!(shell.run("dpkg --audit"), "");
        format!("{said}\n{}", assert_service_runs(shell, "/usr/bin/gaunt"))
    });
    checks.run(
        "hooks run around a quiesced snapshot, PostgreSQL's too",
        || {
            let ran = shell.try_run("systemctl start postgresql@15-main", START);
            assert_eq!(ran.status, 0, "{}", ran.output);
            shell.run(
                "install -m 755 /usr/share/doc/gaunt/examples/postgresql.sh.sample \
             /etc/qemu/fsfreeze-hook.d/50-postgresql.sh",
            );
            let path = "/etc/qemu/fsfreeze-hook.d/60-test";
            write(shell, path, "#!/bin/sh\necho \"$1\" >>/run/hooks\n");
            shell.run(&format!("chmod 755 {path}"));
            libvirt.ok(&quiesced_snapshot("one"));
            let ran = shell.run("cat /run/hooks");
            assert_eq!(ran, "freeze\nthaw");
            let log = shell.run("tail -n 5 /var/log/postgresql/postgresql-15-main.log");
            assert!(log.contains("immediate force wait"), "{log}");
            shell.run(
                "systemctl stop postgresql@15-main; rm /etc/qemu/fsfreeze-hook.d/50-postgresql.sh",
            );
            format!("{}\n{log}", shell.run("cat /var/log/qga-fsfreeze-hook.log"))
        },
    );
    checks.run(
        "in the sandbox hooks, passwords, keys, clock and facts work",
        || sandbox(&libvirt, shell),
    );
    checks.run(
        "guest-shutdown reboots from the sandbox, and udev starts the service",
        || {
            let reboot = r#"{"execute":"guest-shutdown","arguments":{"mode":"reboot"}}"#;
            libvirt.virsh(&["qemu-agent-command", DOMAIN, reboot, "--timeout", "1"]);
            assert!(shell.wait_boot(START), "no reboot");
            libvirt.wait_agent();
            let evidence = assert_service_runs(shell, "/usr/bin/gaunt");
            let said = ask(&libvirt, "guest-info", "{}");
            assert!(said.contains("+gaunt."), "{said}");
            evidence
        },
    );
    checks.run("purged, and qemu-guest-agent put back: no trace", || {
        shell.run("rm -r /etc/qemu/fsfreeze-hook.d/60-test /etc/default/qemu-guest-agent");
        shell
            .run("rm -r /etc/systemd/system/qemu-guest-agent.service.d /root/.ssh/authorized_keys");
        dpkg(shell, "--purge gaunt-qemu-guest-agent gaunt");
        assert_eq!(shell.run("dpkg-divert --list '*qemu*'"), "");
        let logs = shell.run("ls /var/log");
        assert!(!logs.contains("fsfreeze"), "{logs}");
        install_qemu_guest_agent(shell);
        libvirt.wait_agent();
        let after = shell.run(ALL_FILES);
        let difference = difference(&before, &after);
        assert!(difference.is_empty(), "{difference:#?}");
        assert_service_runs(shell, "/usr/sbin/qemu-ga");
        format!("the same {} files", after.lines().count())
    });
    checks.finish();
}
