//! Options, configuration files and environment: `--dump-conf` and exit status, compared with the
//! reference; and a policy on the kernel's command line.
//!
//! Most are programs on this machine that print and end. Guest: the busybox image. Needs QEMU, the
//! images and qemu-ga. Differences are listed with their reason; one that no longer occurs fails the
//! test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output};

use gaunt_e2e::agent_binary;
use gaunt_e2e::cpio::Cpio;
use gaunt_e2e::guest::{Image, Machine};
use gaunt_e2e::process;
use gaunt_e2e::reference::reference;
use gaunt_e2e::scratch::Scratch;
use gaunt_e2e::wait;

/// What a program printed: exit status, and its settings if the status is 0.
type Said = (Option<i32>, BTreeMap<String, BTreeSet<String>>);

/// Directories of qemu-ga that gaunt has elsewhere.
const DIRECTORIES: [(&str, &str, &str); 2] = [
    ("statedir", "/var/run", "/run"),
    ("pidfile", "/var/run/qemu-ga.pid", "/run/qemu-ga.pid"),
];

/// Runs a program in `directory`, with the file of `QGA_CONF`.
fn run(words: &[String], arguments: &[&str], conf: Option<&str>, directory: &Path) -> Output {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(arguments);
    command.env_clear().current_dir(directory);
    if let Some(conf) = conf {
        command.env("QGA_CONF", conf);
    }
    process::output(&mut command, wait::ANSWER)
}

/// Reads what a program printed. Lists become sets, because their order means nothing.
fn said(output: &Output) -> Said {
    let text = String::from_utf8_lossy(&output.stdout);
    let mut settings = BTreeMap::new();
    if output.status.success() {
        for line in text.lines() {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            let parts: BTreeSet<String> = match key {
                "block-rpcs" | "allow-rpcs" => value.split(',').map(str::to_owned).collect(),
                _ => BTreeSet::from([value.to_owned()]),
            };
            settings.insert(key.to_owned(), parts);
        }
    }
    (output.status.code(), settings)
}

/// Runs both programs on each case: arguments besides `-D`, the file `conf` in the working directory,
/// the value of `QGA_CONF`.
struct Both {
    scratch: Scratch,
    gaunt: Vec<String>,
    reference: Vec<String>,
}

impl Both {
    fn new() -> Both {
        let scratch = Scratch::new();
        reference().copy_to(scratch.path());
        let reference = reference().words(scratch.path());
        let gaunt = vec![agent_binary().display().to_string()];
        std::fs::create_dir(scratch.join("here")).expect("a directory");
        Both {
            scratch,
            gaunt,
            reference,
        }
    }

    fn say(&self, arguments: &[&str], conf: Option<&str>) -> (Said, Said) {
        let here = self.scratch.join("here");
        let mut arguments = arguments.to_vec();
        arguments.insert(0, "-D");
        let [gaunt, reference] = [&self.gaunt, &self.reference].map(|words| {
            let (status, mut settings) = said(&run(words, &arguments, conf, &here));
            for (key, theirs, ours) in DIRECTORIES {
                let values = settings.get_mut(key);
                if let Some(values) = values.filter(|values| values.contains(theirs)) {
                    *values = BTreeSet::from([ours.to_owned()]);
                }
            }
            (status, settings)
        });
        (gaunt, reference)
    }

    fn file(&self, text: impl AsRef<[u8]>) {
        std::fs::write(self.scratch.join("here/conf"), text).expect("a file");
    }
}

#[test]
fn option_lists_give_the_settings_of_qemu_ga() {
    let both = Both::new();
    both.file("[general]\nverbose=1\nblock-rpcs=x\npath=/conf\n");
    let cases: &[&[&str]] = &[
        &[],
        &["-v"],
        &["-vrd"],
        &["-dvf/pid"],
        &["-f", "/pid", "-t/state", "-l", "/log"],
        &["--pidfile=/pid", "--statedir", "/state", "--logfile=/log"],
        &[
            "--dae", "--verb", "--retry", "--pid=/x", "--state", "/y", "--log", "/z",
        ],
        &["-m", "unix-listen", "-p", "/socket"],
        &["--method=unix-listen", "--path=/socket"],
        &["-munix-listen", "-p/a", "-p/b"],
        &["-p", "/a", "-m", "unix-listen"],
        &["-m", "isa-serial"],
        &["-m", "vsock-listen", "-p", "3:1234"],
        &["-m", "vsock-listen"],
        &["-m", "unix-listen", "-m", "virtio-serial"],
        &["-p/a", "-p/b", "-m", "unix-listen"],
        &["-F/etc/qemu/fsfreeze-hook"],
        &["-p", "  x\ty\\z "],
        &["-p", "\t x"],
        &["-l", ""],
        &["-t", ""],
        &["-F"],
        &["-F/hook"],
        &["-F", "/hook"],
        &["-F/dev/null"],
        &["--fsfreeze-hook"],
        &["--fsfreeze-hook=/hook"],
        &["--fsfreeze-hook", "/hook"],
        &["-b", "guest-ping"],
        &["-bguest-ping"],
        &["-b", "a,b", "-b", "c", "-a", "d,e"],
        &["--block-rpcs=a,b", "--allow-rpcs", "c"],
        &["-b", ""],
        &["-a", ""],
        &["-b", "help,x"],
        &["-b", "guest-nonsense"],
        &["operand", "-v"],
        &["--", "-v"],
        &["-c", "conf"],
        &["-cconf", "-p/x"],
        &["--config=conf", "-b", "y"],
        &["--conf", "conf", "-v"],
        &["-c", "none", "-c", "conf"],
        &["-vcconf"],
        // Errors.
        &["-q"],
        &["--frob"],
        &["--v"],
        &["--p=/x"],
        &["--verbose=1"],
        &["--dump-conf=x"],
        &["-p"],
        &["--path"],
        &["-b"],
        &["-m", "carrier-pigeon"],
        &["-m", "unix-listen"],
        &["-c", "none"],
        &["-c", ""],
        &["-c", "."],
        &["-c", "/dev/null"],
        &["-c"],
    ];
    for arguments in cases {
        let (gaunt, reference) = both.say(arguments, None);
        assert_eq!(gaunt, reference, "{arguments:?}");
    }
    let different: &[(&[&str], &str)] = &[
        (
            &["-m", "virtio-serial", "-p/a", "-m", "virtio-serial"],
            "a second channel",
        ),
        (
            &["-b", "-v"],
            "a dash begins the next option: the list was left out",
        ),
        (
            &["-b", "guest-ping,", "guest-info"],
            "a blank has split a list",
        ),
        (
            &["-b=guest-ping"],
            "a short option may have its value behind =",
        ),
        (&["-F=/hook"], "a short option may have its value behind ="),
        (&["-m", ""], "an empty method is the default"),
        (&["-p", ""], "an empty path is the default"),
        (&["-m", "unix-listen:/x"], "only gaunt has this form"),
        (&["-Fhook"], "hooks have absolute paths"),
        (&["--fsfreeze-hook="], "an empty path is the default one"),
        (&["--blacklist=a"], "the name until QEMU 9.0"),
        (&["--freeze-timeout=5"], "only gaunt has the option"),
    ];
    for (arguments, reason) in different {
        let (gaunt, reference) = both.say(arguments, None);
        assert_ne!(gaunt, reference, "{arguments:?}: {reason}");
    }
}

#[test]
fn configuration_files_give_the_settings_of_qemu_ga() {
    let both = Both::new();
    let general = "[general]\n";
    let long = format!("unknown={}", "x".repeat(9000));
    // Each in the group `general`.
    let lines: &[&str] = &[
        "",
        "verbose=true",
        "verbose= 1 \t",
        "verbose=false",
        "verbose=0\nverbose=1",
        "verbose=z\nverbose=1",
        "daemon=1\nretry-path=true\nlogfile=/l\npidfile=/p\nstatedir=/s\nmethod=unix-listen\npath=/x",
        "path=a=b",
        "path =  a  ",
        "\tpath=a",
        "path=\\s\\n\\t\\r\\\\x",
        "path=a\r\nverbose=1\r",
        "path=a;b",
        "path[de]=x\npath=y",
        "path[]=x",
        "fsfreeze-hook=/hook",
        "block-rpcs=a,b\nblock-rpcs=c",
        "block-rpcs=guest-ping;guest-get-time",
        "block-rpcs= a\\s,b ",
        "allow-rpcs=help",
        "allow-rpcs=-v",
        "allow-rpcs=",
        "unknown=\\q\nun known=",
        "[other]\nverbose=x\n[general]\npath=/x",
        "[general2]\nverbose=1",
        "# verbose=1\n  # x\n\n \t\nverbose=1",
        "method=virtio-serial",
        "statedir=\npidfile=\nlogfile=",
        &long,
        // Errors.
        "verbose",
        "verbose=",
        "verbose=yes",
        "verbose=TRUE",
        "daemon=2",
        "retry-path=1 # comment",
        "; comment",
        "=x",
        "path=\\q",
        "path=a\\",
        "path=\\;",
        "path[de=x",
        "path [de]=x",
        "path[d e]=x",
        "[path]=x",
        "[other",
        "[]",
        "[a[b]",
        "[a]b",
        "[other] # comment",
        "method=carrier-pigeon",
        "method=unix-listen",
    ];
    let in_general = |line: &[u8]| [general.as_bytes(), line].concat();
    let lines = lines.iter().map(|line| in_general(line.as_bytes()));
    let mut files: Vec<Vec<u8>> = lines.collect();
    // What is not UTF-8 is an error in a value that counts.
    files.extend(
        [
            &b"path=\xff"[..],
            b"path=/\xc3\xa4",
            b"path=/\xed\xa0\x80",
            b"verbose=1\nlogfile=/\xc3",
            b"path=\xff\npath=/x",
            b"unknown=\xff",
            b"verbose=\xff",
            b"[other]\npath=\xff\n# \xff",
        ]
        .map(in_general),
    );
    files.extend(["", "\n", "# x\n", "verbose=1\n[general]\n", "[general]"].map(Vec::from));
    files.push("\u{feff}[general]\nverbose=1\n".into());
    for file in &files {
        let shown = file.escape_ascii();
        both.file(file);
        for (arguments, conf) in [(&["-c", "conf"][..], None), (&["-b", "z"], Some("conf"))] {
            let (gaunt, reference) = both.say(arguments, conf);
            assert_eq!(gaunt, reference, "{shown} {conf:?}");
            // Each reads what the other has printed.
            let words = [&both.gaunt, &both.reference];
            for words in words {
                both.file(file);
                let mut all = vec!["-D"];
                all.extend(arguments);
                let printed = run(words, &all, conf, &both.scratch.join("here"));
                if printed.status.success() {
                    both.file(&printed.stdout);
                    let (gaunt, reference) = both.say(&["-c", "conf"], None);
                    assert_eq!(gaunt.0, Some(0), "{shown}");
                    assert_eq!(gaunt, reference, "{shown}");
                }
            }
            both.file(file);
        }
    }
    let different: &[(&[u8], &str)] = &[
        (b"blacklist=a", "the key until QEMU 9.0"),
        (b"allow-rpcs=?", "no command can have this name"),
        (
            b"block-rpcs=guest-exec guest-ping",
            "a blank in the place of a comma",
        ),
        (b"fsfreeze-hook=", "an empty path is the default one"),
        (b"fsfreeze-hook=hook", "hooks have absolute paths"),
        (b"channels=unix-listen:/x", "only gaunt has the key"),
        (b"path=a\0b", "a byte 0 is an error"),
        (b"method=", "an empty method is the default"),
        (b"path=", "an empty path is the default"),
        (b"hook-timeout=5", "only gaunt has the option"),
    ];
    for (line, reason) in different {
        both.file([general.as_bytes(), line].concat());
        let (gaunt, reference) = both.say(&["-c", "conf"], None);
        assert_ne!(gaunt, reference, "{}: {reason}", line.escape_ascii());
    }
}

#[test]
fn several_channels_are_dumped_for_both_agents() {
    let both = Both::new();
    let here = both.scratch.join("here");
    let pairs = [
        "-p",
        "/a",
        "-m",
        "unix-listen",
        "-m",
        "vsock-listen",
        "-p",
        ":1",
    ];
    let dump = |words: &[String], more: &[&str]| {
        let arguments = [&["-D"], more].concat();
        let output = run(words, &arguments, None, &here);
        assert_eq!(output.status.code(), Some(0), "{}", process::text(&output));
        process::text(&output)
    };
    let dumped = dump(&both.gaunt, &pairs);
    let key = "\nchannels=unix-listen:/a;vsock-listen::1\n";
    assert!(dumped.contains(key), "{dumped}");
    both.file(&dumped);
    assert_eq!(dump(&both.gaunt, &["-c", "conf"]), dumped);
    // qemu-ga serves the last.
    let theirs = dump(&both.reference, &["-c", "conf"]);
    assert!(
        theirs.contains("\nmethod=vsock-listen\npath=:1\n"),
        "{theirs}"
    );
    // The check comes last, and looks at both channels.
    let check = [&["-D"], &pairs[..], &["--check"]].concat();
    let said = process::text(&run(&both.gaunt, &check, None, &here));
    assert!(said.contains("unix-listen /a: "), "{said}");
    assert!(said.contains("vsock-listen :1: "), "{said}");
}

#[test]
fn environment_names_the_file_as_with_qemu_ga() {
    let both = Both::new();
    both.file("[general]\nverbose=1\n");
    let bad = both.scratch.join("here/bad");
    std::fs::write(&bad, "[general]\nverbose\n").expect("a file");
    let bad = bad.display().to_string();
    for conf in ["conf", &bad, "none", "/none", "", ".", "/dev/null"] {
        for arguments in [&[][..], &["-c", "conf"], &["-c", &bad], &["-r"]] {
            let (gaunt, reference) = both.say(arguments, Some(conf));
            assert_eq!(gaunt, reference, "{conf} {arguments:?}");
        }
    }
    // A file with an error is an error whatever else is asked for.
    let here = both.scratch.join("here");
    for arguments in [
        &["-h"][..],
        &["-V"],
        &["-b", "help"],
        &["-a", "?"],
        &["-V", "-q"],
    ] {
        for (conf, status) in [(None, 0), (Some(&*bad), 1)] {
            for words in [&both.gaunt, &both.reference] {
                let output = run(words, arguments, conf, &here);
                assert_eq!(
                    output.status.code(),
                    Some(status),
                    "{words:?} {arguments:?}"
                );
            }
        }
    }
    let commands = |words: &[String]| run(words, &["-b", "help"], None, &here).stdout;
    assert_eq!(commands(&both.gaunt), commands(&both.reference));
}

#[test]
fn kernel_line_has_a_policy_for_an_agent_that_is_not_pid_1() {
    let config = "[general]\nallow-rpcs=guest-get-vcpus;guest-exec\n";
    let archive = Cpio::new()
        .file("etc/qemu/qemu-ga.conf", 0o644, config.as_bytes())
        .file("etc/bad.conf", 0o644, b"[general]\nverbose=yes\n")
        .finish();
    let mut guest = Machine::new(Image::Busybox)
        .kernel("gaunt.allow-rpcs=@lifecycle")
        .kernel("\"gaunt.block-rpcs=guest-exec, guest-get-load\"")
        .agent("--block-rpcs=guest-fstrim")
        .overlay(&archive)
        .boot();
    let mut client = guest.client();
    let disabled = client.disabled();
    for (name, is_disabled) in [
        ("guest-get-vcpus", false),
        ("guest-shutdown", false),
        ("guest-fsfreeze-freeze", false),
        ("guest-get-load", true),
        ("guest-fstrim", true),
        ("guest-exec", true),
        ("guest-file-open", true),
        ("guest-set-user-password", true),
    ] {
        assert_eq!(disabled.contains(name), is_disabled, "{name}");
    }
    guest.wait_shell();
    // The command line wins over the kernel's, and what is wrong ends the agent.
    let said = guest
        .shell()
        .run("/usr/bin/gaunt -D -c /etc/bad.conf 2>&1; echo $?");
    assert!(
        said.contains("of key verbose") && said.ends_with('1'),
        "{said}"
    );
    let said = guest.shell().run("/usr/bin/gaunt -D -b x");
    assert!(
        said.contains("block-rpcs=guest-exec, guest-get-load,x"),
        "{said}"
    );
    // An agent that must thaw what an earlier one has frozen stays.
    let start = "/usr/bin/gaunt --frob -m unix-listen -p /run/socket -t /tmp >/tmp/log 2>&1";
    let said = guest.shell().run(&format!("{start}; echo $?"));
    assert!(said.ends_with('1'), "{said}");
    let mark = "(umask 077; : >/tmp/qga.state.isfrozen)";
    let wait = "for i in 1 2 3 4 5; do [ -S /run/socket ] || sleep 1; done; echo $?";
    let said = guest.shell().run(&format!(
        "{mark}; {start} & {wait}; [ -S /run/socket ] && echo stays"
    ));
    assert!(said.contains("stays"), "{said}");
}
