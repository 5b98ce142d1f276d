//! What `make install` lays out, on this machine below a directory, and in a Debian guest: started by
//! udev, and snapshots of databases under load through the sample hooks, with an agent killed meanwhile.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use gaunt_e2e::checks::Checks;
use gaunt_e2e::debian;
use gaunt_e2e::disk::{self, Fs};
use gaunt_e2e::libvirt::{DOMAIN, INITRAMFS, KERNEL, Libvirt, quiesced_snapshot};
use gaunt_e2e::process::{output, text};
use gaunt_e2e::scratch::{NOBODY, Scratch, is_root};
use gaunt_e2e::shell::GuestShell;
use gaunt_e2e::{agent_binary, image_file, top, wait};

/// What a database under emulation may take to start.
const START: Duration = Duration::from_secs(120);

/// What they may take to go on after a thaw: less than the two minutes after which what holds them ends
/// by itself.
const GO_ON: Duration = Duration::from_secs(60);

/// Runs `make install` or `make uninstall` below a directory, as an ordinary account.
fn make(target: &str, directory: &Path, prefix: &str) -> Output {
    let mut command = Command::new(top().join("image/package/install"));
    command
        .arg(target)
        .env("DESTDIR", directory)
        .env("PREFIX", prefix)
        .env("AGENT", directory.with_extension("agent"));
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    output(&mut command, wait::ANSWER)
}

/// A directory to install into, and the program beside it.
struct Place {
    scratch: Scratch,
}

impl Place {
    fn new() -> Place {
        let scratch = Scratch::new();
        std::fs::create_dir(scratch.join("tree")).expect("a directory");
        std::fs::copy(agent_binary(), scratch.join("tree.agent")).expect("a copy");
        scratch.give_away();
        Place { scratch }
    }

    fn tree(&self) -> PathBuf {
        self.scratch.join("tree")
    }

    fn install(&self, prefix: &str) -> String {
        let done = make("install", &self.tree(), prefix);
        assert!(done.status.success(), "{}", text(&done));
        text(&done)
    }

    /// Everything that is there: mode, path, and where links lead.
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
        let metadata = entry.metadata().expect("it is there");
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
fn everything_is_where_administrators_look_for_it() {
    let place = Place::new();
    place.install("/usr");
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
        "var/ 755",
        "var/log/ 755",
        "var/log/qemu-ga/ 755",
    ];
    assert_eq!(place.listed(), expected);
    // man(1) follows such a line from the directory that holds man8.
    let page = place.tree().join("usr/share/man/man8/qemu-ga.8");
    let page = std::fs::read_to_string(page).expect("a page");
    assert_eq!(page, ".so man8/gaunt.8\n");
    // Again is no different.
    assert_eq!(place.install("/usr"), "");
    assert_eq!(place.listed(), expected);
}

#[test]
fn the_unit_names_the_program_of_its_prefix() {
    let place = Place::new();
    place.install("/opt/agent");
    let unit = "opt/agent/lib/systemd/system/qemu-guest-agent.service";
    let unit = std::fs::read_to_string(place.tree().join(unit)).expect("the unit");
    let starts = "\nExecStart=/opt/agent/bin/qemu-ga $TRANSPORT_ARGS $FILTER_RPC_ARGS -F${FSFREEZE_HOOK_PATHNAME}\n";
    assert!(unit.contains(starts) && !unit.contains('@'), "{unit}");
    let hook = place.tree().join("etc/qemu-ga/fsfreeze-hook");
    assert_eq!(
        hook.read_link().expect("a link"),
        Path::new("/opt/agent/bin/gaunt")
    );
    // A slash at its end is no difference.
    assert_eq!(place.install("/opt/agent/"), "");
    for prefix in ["opt", "/opt/a&b|c d", "/"] {
        let done = make("install", &place.tree(), prefix);
        assert!(!done.status.success(), "{prefix}");
    }
    std::fs::remove_file(place.scratch.join("tree.agent")).expect("it was there");
    let done = make("install", &place.tree(), "/usr");
    assert!(
        !done.status.success() && text(&done).contains("make build"),
        "{}",
        text(&done)
    );
}

#[test]
fn uninstall_takes_back_all_but_what_was_changed() {
    let place = Place::new();
    let tree = place.tree();
    place.install("/usr");
    let taken = make("uninstall", &tree, "/usr");
    assert!(
        taken.status.success() && text(&taken).is_empty(),
        "{}",
        text(&taken)
    );
    // What other packages use too.
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
    assert_eq!(place.listed(), shared);

    place.install("/usr");
    let settings = tree.join("etc/sysconfig/qemu-ga");
    let main_hook = tree.join("etc/qemu-ga/fsfreeze-hook");
    let own_hook = tree.join("etc/qemu-ga/fsfreeze-hook.d/10-own");
    std::fs::write(&settings, "FILTER_RPC_ARGS=--allow-rpcs=guest-ping\n").expect("a change");
    std::fs::remove_file(&main_hook).expect("a link");
    std::fs::write(&main_hook, "#!/bin/sh\n").expect("a script");
    std::fs::write(&own_hook, "#!/bin/sh\n").expect("a script");
    let said = place.install("/usr");
    assert!(
        said.contains("qemu-ga.new") && said.contains("fsfreeze-hook is not ours"),
        "{said}"
    );
    let taken = make("uninstall", &tree, "/usr");
    assert!(taken.status.success(), "{}", text(&taken));
    let changed = std::fs::read_to_string(&settings).expect("the settings stay");
    assert_eq!(changed, "FILTER_RPC_ARGS=--allow-rpcs=guest-ping\n");
    assert!(main_hook.exists() && own_hook.exists());
    assert!(!settings.with_extension("new").exists());
    // Another's program of that name, as a file and as a link, its manual page, unit and rule, and a main
    // hook that is another's link.
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
        let said = place.install("/usr");
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
            let kept = std::fs::read_to_string(tree.join(name)).expect("it stays");
            assert_eq!(kept, text, "{name}");
        }
    }
}

/// Writes all the time to three databases, and keeps in memory what was acknowledged.
const LOAD: &str = r#"
n=0
while :; do n=$((n + 1)); echo "insert into t values ($n) returning n;"; done |
    runuser -u postgres -- psql -X -q -At -d postgres >/run/postgresql.acked 2>&1 &
n=0
while :; do n=$((n + 1)); echo "insert into t.t values ($n); insert into t.m values ($n); select $n;"; done |
    mariadb --no-defaults -N -B --unbuffered >/run/mariadb.acked 2>&1 &
while :; do echo "incr n"; done | redis-cli >/run/redis.acked 2>&1 &
"#;

/// Prints the number that each database acknowledged last: the last line that has an end.
const ACKNOWLEDGED: &str = r#"
for name in postgresql mariadb redis; do
    head -n "$(wc -l </run/$name.acked)" /run/$name.acked | tail -n 1
done
"#;

/// A hook that runs after the databases' own before a freeze, and before them after the thaw. It notes
/// what was acknowledged: at `rest`, when their hooks are done, and last of all at the `freeze`. In
/// between PostgreSQL, which nothing holds, goes on, so that any database that should be held and is
/// not has time to go on too.
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

/// A hook that runs right before that of Redis, and begins a save in the background which takes five
/// seconds: the server waits after the one key that there is.
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

/// Makes a hook in the guest.
fn hook(shell: &mut GuestShell, name: &str, content: &str) {
    let path = format!("/etc/qemu-ga/fsfreeze-hook.d/{name}");
    write(shell, &path, content);
    shell.run(&format!("chmod 755 {path}"));
}

/// What a command in the guest prints for each database.
fn numbers(shell: &mut GuestShell, command: &str) -> Numbers {
    let said = shell.run(command);
    let numbers: Vec<u64> = said.lines().flat_map(str::parse).collect();
    numbers
        .try_into()
        .unwrap_or_else(|_| panic!("{command} said {said:?}"))
}

/// The numbers acknowledged last.
fn acknowledged(shell: &mut GuestShell) -> Numbers {
    numbers(shell, "sh /run/acknowledged")
}

/// The numbers that the hook noted.
fn noted(shell: &mut GuestShell, when: &str) -> Numbers {
    numbers(shell, &format!("cat /run/acknowledged.{when}"))
}

/// Waits until every database has acknowledged more rows than now; gives the numbers then.
fn wait_for_more(shell: &mut GuestShell, rows: u64, limit: Duration) -> Numbers {
    let before = acknowledged(shell);
    wait::expect("all databases to be written to", limit, || {
        let now = acknowledged(shell);
        now.iter()
            .zip(before)
            .all(|(now, before)| *now >= before + rows)
    });
    acknowledged(shell)
}

/// What the agent says of its freeze.
fn freeze_status(libvirt: &Libvirt) -> String {
    let request = r#"{"execute":"guest-fsfreeze-status"}"#;
    libvirt.ok(&["qemu-agent-command", DOMAIN, request])
}

/// Begins the load, and takes a quiesced snapshot. Gives what was acknowledged at the freeze.
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
    let at_rest = noted(shell, "rest");
    let at_freeze = noted(shell, "freeze");
    let at_thaw = noted(shell, "thaw");
    // The load went on until it was held, and that of PostgreSQL until the freeze.
    assert_grown(before, at_rest);
    assert_held(at_rest, at_freeze);
    assert_held(at_freeze, at_thaw);
    let log = shell.run("tail -n 20 /var/log/qemu-ga/fsfreeze-hook.log");
    let evidence = format!(
        "acknowledged before {before:?}, at rest {at_rest:?}, at the freeze {at_freeze:?}; the log:\n{log}"
    );
    (at_freeze, evidence)
}

/// Freezes while Redis saves by itself, and takes a snapshot. Gives what was acknowledged when that was
/// done: the guest is left frozen.
fn snapshot_by_hand(libvirt: &Libvirt, shell: &mut GuestShell) -> (Numbers, String) {
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
    // One commit may have been on its way to its client.
    let more = still_frozen[0] - frozen[0];
    assert!(more <= 1, "PostgreSQL went on: {more} rows");
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

/// Kills the agent of a frozen guest. The next one must thaw, and end what its predecessor's hooks hold.
fn killed_while_frozen(libvirt: &Libvirt, shell: &mut GuestShell) -> String {
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
    assert!(holds, "what holds MariaDB died with the agent");
    assert_held(frozen, acknowledged(shell));
    let said = libvirt.ok(&["domfsthaw", DOMAIN]);
    let at_thaw = noted(shell, "thaw");
    assert_held(frozen, at_thaw);
    let now = wait_for_more(shell, 20, GO_ON);
    format!("{killed} was killed; {said}; acknowledged at the thaw {at_thaw:?}, now {now:?}")
}

/// Stops the service while the guest is frozen: it ends when that is over, and not before.
fn stopped_while_frozen(libvirt: &Libvirt, shell: &mut GuestShell) -> String {
    libvirt.ok(&["domfsfreeze", DOMAIN]);
    shell.run("systemctl stop --no-block qemu-guest-agent");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(freeze_status(libvirt), r#"{"return":"frozen"}"#);
    let patience = shell.run("systemctl show -P TimeoutStopUSec qemu-guest-agent");
    assert_eq!(patience, "20min");
    libvirt.ok(&["domfsthaw", DOMAIN]);
    wait::expect("the end of the service", GO_ON, || {
        shell.run("systemctl show -P ActiveState qemu-guest-agent") == "inactive"
    });
    let left = shell.run("ls /run");
    assert!(!left.contains("isfrozen") && !left.contains("gaunt.hooks"));
    shell.run("systemctl start qemu-guest-agent");
    libvirt.wait_agent();
    "inactive, and started again".into()
}

/// Checks that MariaDB and Redis, which their hooks hold, took nothing between two moments.
fn assert_held(before: Numbers, after: Numbers) {
    assert_eq!(before[1..], after[1..], "MariaDB or Redis went on");
}

/// Checks that every database was written to between two moments.
fn assert_grown(before: Numbers, after: Numbers) {
    let grown = before
        .iter()
        .zip(after)
        .all(|(before, after)| *before < after);
    assert!(grown, "the load has died: {before:?}, {after:?}");
}

/// Starts the databases from a copy of the disks, which must have every row that was acknowledged.
fn rows_of_copy(libvirt: &Libvirt, [root, data]: [&str; 2], acknowledged: Numbers) -> String {
    assert!(!acknowledged.contains(&0), "the snapshot has failed");
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
        // From the first to the last, none missing.
        assert_eq!(count, last, "{name}");
        let last: u64 = last.parse().expect("a number");
        assert!(
            last >= acknowledged,
            "{name}: {last} of {acknowledged} that were acknowledged"
        );
    }
    // MyISAM has no log to recover from: the table must have been closed, not repaired.
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

#[test]
fn databases_in_a_debian_guest_are_whole_in_a_quiesced_snapshot() {
    let mut checks = Checks::new("debian");
    let place = Place::new();
    place.install("/usr");
    let disks = ["root.qcow2", "data.qcow2"];
    let libvirt = Libvirt::with(debian::MEMORY_MIB, &disks, |scratch| {
        std::fs::copy(image_file("vmlinuz"), scratch.join(KERNEL)).expect("a copy");
        let initramfs = debian::initramfs(Some(&place.tree()));
        std::fs::write(scratch.join(INITRAMFS), initramfs).expect("a file");
        debian::disk(scratch.path(), "root.qcow2");
        disk::qcow2(&scratch.join("data.qcow2"), Fs::LargeExt4);
    });
    let mut shell = libvirt.boot();
    let shell = &mut shell;
    checks.run("udev has started the service", || {
        let state = shell.run("systemctl is-active qemu-guest-agent.service");
        assert_eq!(state, "active");
        let words =
            shell.run("tr '\\0' ' ' </proc/$(systemctl show -P MainPID qemu-guest-agent)/cmdline");
        assert_eq!(
            words.trim(),
            "/usr/bin/qemu-ga -F/etc/qemu-ga/fsfreeze-hook"
        );
        let enabled = shell.try_run(
            "systemctl is-enabled qemu-guest-agent.service",
            wait::ANSWER,
        );
        format!(
            "{state}, started by its rule alone (it is {})",
            enabled.output
        )
    });
    checks.run("the samples are hooks once they are copied", || {
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
        // No database runs yet, which is no error.
        let ran = shell.try_run(
            "/etc/qemu-ga/fsfreeze-hook freeze && /etc/qemu-ga/fsfreeze-hook thaw",
            START,
        );
        assert_eq!(ran.status, 0, "{}", ran.output);
        shell.run("cat /var/log/qemu-ga/fsfreeze-hook.log")
    });
    checks.run("databases run, PostgreSQL on a disk of its own", || {
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
    let (mut at_freeze, mut while_frozen) = ([0; DATABASES.len()], [0; DATABASES.len()]);
    checks.run("a snapshot under load, through virsh", || {
        let (numbers, evidence) = snapshot_under_load(&libvirt, shell);
        at_freeze = numbers;
        evidence
    });
    checks.run("an error of a hook is the snapshot's", || {
        hook(shell, "90-bad", "#!/bin/sh\necho no rest >&2; exit 3\n");
        let refused = libvirt.virsh(&quiesced_snapshot("two"));
        assert!(!refused.status.success());
        let said = text(&refused);
        assert!(
            said.contains("90-bad") && said.contains("no rest"),
            "{said}"
        );
        shell.run("rm /etc/qemu-ga/fsfreeze-hook.d/90-bad");
        assert_eq!(freeze_status(&libvirt), r#"{"return":"thawed"}"#);
        said
    });
    checks.run(
        "a snapshot of a frozen guest whose Redis was saving by itself",
        || {
            let (numbers, evidence) = snapshot_by_hand(&libvirt, shell);
            while_frozen = numbers;
            evidence
        },
    );
    checks.run(
        "an agent killed while frozen is back, and all goes on after its thaw",
        || killed_while_frozen(&libvirt, shell),
    );
    checks.run(
        "a service that is stopped while frozen ends after the thaw",
        || stopped_while_frozen(&libvirt, shell),
    );
    libvirt.ok(&["destroy", DOMAIN]);

    // The second is a layer on top of the first, to which its own guest will write.
    let second = ["root.two.qcow2", "data.two.qcow2"];
    for (layer, name) in ["root.one", "data.one"].iter().zip(second) {
        std::fs::rename(libvirt.file(layer), libvirt.file(name)).expect("a layer");
    }
    checks.run(
        "the copy of the frozen guest has every acknowledged row",
        || rows_of_copy(&libvirt, second, while_frozen),
    );
    checks.run(
        "the quiesced snapshot has every row acknowledged at the freeze",
        || rows_of_copy(&libvirt, disks, at_freeze),
    );
    checks.finish();
}
