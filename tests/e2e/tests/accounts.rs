//! Passwords and ssh keys: errors compared with qemu-ga on this machine, effects in a guest.
//!
//! Guests: the busybox image with made-up accounts, with strace in one and with qemu-ga in the other.
//! Needs QEMU, the images, qemu-ga, strace and openssl. No request to an agent on this machine can set
//! a password: the user does not exist, or the agent lacks the privilege.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gaunt_e2e::agent::Agent;
use gaunt_e2e::base64::encode;
use gaunt_e2e::checks::Checks;
use gaunt_e2e::client::{Client, request};
use gaunt_e2e::compare::{compare_masked, lines};
use gaunt_e2e::cpio::Cpio;
use gaunt_e2e::guest::{Image, Machine};
use gaunt_e2e::process::{Process, program, run};
use gaunt_e2e::shell::GuestShell;
use gaunt_e2e::wait;
use serde_json::{Value, json};

const PASSWORD: &str = "guest-set-user-password";
const GET: &str = "guest-ssh-get-authorized-keys";
const ADD: &str = "guest-ssh-add-authorized-keys";
const REMOVE: &str = "guest-ssh-remove-authorized-keys";

#[test]
fn errors_about_arguments_equal_those_of_qemu_ga() {
    let mut rows = Vec::new();
    let good = json!({ "username": "no:body", "password": "eA==", "crypted": false });
    let keys = json!({ "username": "nobody", "keys": ["# no key"] });
    let wrong = [json!(null), json!(5), json!({}), json!([]), json!([5])];
    let wrong = wrong.into_iter().chain([json!([null]), json!(["a", 5])]);
    for (command, good) in [(PASSWORD, &good), (GET, &json!({ "username": "nobody" }))]
        .into_iter()
        .chain([(ADD, &keys), (REMOVE, &keys)])
    {
        let members = good.as_object().expect("an object");
        let optional = (command == ADD).then_some("reset");
        let names = members.keys().map(String::as_str).chain(optional);
        for name in names {
            for value in wrong.clone().chain([json!(true), json!("text")]) {
                let mut arguments = good.clone();
                arguments[name] = value;
                // A parameter that does not exist: no request is carried out.
                arguments["no-such"] = json!(1);
                rows.push(json!({ "execute": command, "arguments": arguments }).to_string());
            }
            let mut arguments = good.clone();
            arguments.as_object_mut().expect("an object").remove(name);
            arguments["no-such"] = json!(1);
            rows.push(json!({ "execute": command, "arguments": arguments }).to_string());
        }
    }
    for (user, password) in [
        ("no:body", "eA=="),
        ("no\nbody", "eA=="),
        ("no:body", "eA== "),
        ("no:body", "e\u{0}A=="),
        ("no:body", "eAp5"),
        ("no\nbody", "eAp5"),
        ("a:b", ""),
        ("nobody", "!"),
        ("nobody", "eAp5"),
    ] {
        for crypted in [false, true] {
            let arguments = json!({ "username": user, "password": password, "crypted": crypted });
            rows.push(json!({ "execute": PASSWORD, "arguments": arguments }).to_string());
        }
    }
    let missing = ["nobody", "no:body", ""];
    for keys in [
        json!(["#"]),
        json!(["a", "#b"]),
        json!(["a\nb"]),
        json!(["\n"]),
    ] {
        for user in missing {
            for command in [ADD, REMOVE] {
                let arguments = json!({ "username": user, "keys": keys });
                rows.push(json!({ "execute": command, "arguments": arguments }).to_string());
            }
        }
    }
    // Both agents run as this user. Its home directory does not exist.
    for (command, keys) in [
        (GET, None),
        (ADD, Some(json!(["k"]))),
        (REMOVE, Some(json!(["k"]))),
    ] {
        let mut arguments = json!({ "username": "nobody" });
        if let Some(keys) = keys {
            arguments["keys"] = keys;
        }
        rows.push(json!({ "execute": command, "arguments": arguments }).to_string());
    }
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    compare_masked("accounts", &lines(&rows), |ours, theirs| {
        // gaunt already runs as that user and does not switch. qemu-ga switches, and fails.
        if theirs["error"]["desc"]
            == "failed to set group for user 'nobody': Operation not permitted"
        {
            *ours = theirs.clone();
        }
    });
}

#[test]
fn refuses_unknown_users_other_users_and_bad_passwords() {
    let agent = Agent::gaunt(&[]);
    let mut client = agent.client();
    for (user, expected) in [
        (
            "no-such-user",
            "failed to lookup user 'no-such-user': no such user",
        ),
        ("", "failed to lookup user '': no such user"),
        ("+", "failed to lookup user '+': no such user"),
        // The agent runs as nobody and cannot switch to another user.
        (
            "root",
            "failed to set group for user 'root': Operation not permitted",
        ),
    ] {
        let refusal = client.try_call(GET, json!({ "username": user }));
        assert_eq!(refusal.expect_err("an error").desc, expected);
        let keys = json!({ "username": user, "keys": ["k"] });
        for command in [ADD, REMOVE] {
            let refusal = client.try_call(command, keys.clone());
            assert_eq!(refusal.expect_err("an error").desc, expected);
        }
    }
    let long = "eHh4".repeat(171);
    for (password, crypted, expected) in [
        // x NUL y; a colon inside a hash; 513 bytes.
        ("eAB5", false, "forbidden characters in raw password"),
        ("eAB5", true, "forbidden characters in raw password"),
        ("eDp5", true, "forbidden characters in raw password"),
        (&long, false, "the password is too long"),
    ] {
        let arguments =
            json!({ "username": "no-such-user", "password": password, "crypted": crypted });
        let refusal = client.try_call(PASSWORD, arguments);
        assert_eq!(refusal.expect_err("an error").desc, expected);
    }
    let arguments = json!({ "username": "no-such-user", "password": "eHh4", "crypted": false });
    let refusal = client.try_call(PASSWORD, arguments).expect_err("an error");
    assert_eq!(
        refusal.desc,
        "child process has failed to set user password: no such user"
    );
    // The agent runs as nobody and may not lock /etc/shadow.
    let arguments = json!({ "username": "nobody", "password": "eHh4", "crypted": false });
    let refusal = client.try_call(PASSWORD, arguments).expect_err("an error");
    assert_eq!(
        refusal.desc,
        "child process has failed to set user password: /etc/shadow: Permission denied"
    );
}

/// Delays every openat2 of the agent and its children, and so the look into a home directory.
fn delay_openat2(agent: &Agent, microseconds: &str) -> Process {
    let delay = format!("inject=openat2:delay_enter={microseconds}");
    agent.trace(&["-e", "trace=openat2", "-o", "/dev/null", "-e", &delay])
}

/// A child that acts as a user keeps only the root directory, three anonymous inodes and the socket
/// for its reply, whatever the agent has open.
#[test]
fn a_child_that_acts_as_a_user_inherits_no_open_file() {
    let agent = Agent::gaunt(&[]);
    let mut client = agent.client();
    for _ in 0..3 {
        client.call("guest-file-open", json!({ "path": "/proc/version" }));
    }
    let sleeper = json!({ "path": "sleep", "arg": ["1000"], "capture-output": true });
    client.call("guest-exec", sleeper);
    // The worker that opened the files, and the program.
    let others = agent.children();
    let _tracer = delay_openat2(&agent, "6000000");
    let child = || {
        agent
            .children()
            .into_iter()
            .find(|pid| !others.contains(pid))
    };
    client.send(request(GET, &json!({ "username": "nobody" })));
    let child = wait::until(wait::ANSWER, child).expect("a child");
    let open = || {
        let list = std::fs::read_dir(format!("/proc/{child}/fd")).expect("descriptors");
        let mut open: Vec<String> = list
            // A descriptor may be closed meanwhile.
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .map(|target| {
                let target = target.display().to_string();
                target.split(':').next().expect("a word").to_owned()
            })
            .collect();
        open.sort();
        open
    };
    let expected = ["/", "anon_inode", "anon_inode", "anon_inode", "socket"];
    let mut seen = Vec::new();
    // Less than the delay.
    let found = wait::until(Duration::from_secs(5), || {
        seen = open();
        (seen == expected).then_some(())
    });
    assert!(found.is_some(), "{seen:?}");
    let refusal = client.reply();
    assert!(refusal["error"].is_object(), "{refusal}");
}

/// The owner of a file can make the child that opens it wait. The agent kills that child after 10 s.
#[test]
fn a_child_that_waits_for_a_users_file_blocks_no_other_client() {
    let agent = Agent::gaunt(&[]);
    let (mut client, mut other) = (agent.client(), agent.client());
    let _tracer = delay_openat2(&agent, "20000000");
    let start = Instant::now();
    client.send(request(GET, &json!({ "username": "nobody" })));
    wait::expect("a child", wait::ANSWER, || !agent.children().is_empty());
    assert_eq!(other.get("guest-ping"), json!({}));
    let refusal = client.reply();
    let took = start.elapsed().as_secs_f32();
    assert_eq!(
        refusal["error"]["desc"],
        "child process has terminated abnormally"
    );
    assert!((9.5..20.0).contains(&took), "{took} s");
    wait::expect("the child to end", wait::ANSWER, || {
        agent.children().is_empty()
    });
    assert_eq!(client.get("guest-ping"), json!({}));
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    alice:x:1000:1000:Alice:/home/alice:/bin/sh\n\
    bob:plain:1001:1001::/home/bob/:/bin/sh\n\
    carol:x:1002:1002::/home/carol:/bin/sh\n\
    dave:both:1003:1003::/srv/dave:/bin/sh\n\
    empty:x:1004:1004:::/bin/sh\n\
    gone:x:1005:1005::/home/gone:/bin/sh\n\
    rooted:x:1006:1006::/srv/rooted:/bin/sh\n\
    nouser:x:4294967295:1000::/srv/nouser:/bin/sh\n\
    nogroup:x:1000:4294967295::/srv/nogroup:/bin/sh\n\
    \n\
    malformed\n\
    +::::::\n\
    last:x:1007:1007::/:/bin/sh";
const SHADOW: &str = "root:*:19000:0:99999:7:::\nalice:!$6$old:19000:1:2:3:4:5:6\nodd\n\
    dave:old:1:::::: \n+::::::::\nlast:!";
const GROUP: &str = "root:x:0:\nkeys:x:2000:bob,alice\nalice:x:1000:\n";

/// Returns a field of a user's line in passwd or shadow.
fn field(file: &str, user: &str, number: usize) -> String {
    let line = file
        .lines()
        .find(|line| line.split(':').next() == Some(user));
    let line = line.unwrap_or_else(|| panic!("no {user} in {file}"));
    line.split(':').nth(number).unwrap_or_default().to_owned()
}

/// Asserts that a hash equals the one that openssl makes of the password and the same salt.
fn assert_hash(hash: &str, password: &str) {
    let salt = hash
        .strip_prefix("$6$")
        .and_then(|rest| rest.split('$').next());
    let salt = salt.unwrap_or_else(|| panic!("not SHA-512 crypt: {hash}"));
    assert_eq!(salt.len(), 16, "{hash}");
    let openssl = program("openssl", "openssl");
    let script = "printf '%s\\n' \"$3\" | \"$1\" passwd -6 -salt \"$2\" -stdin";
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script, "sh"])
        .arg(openssl)
        .args([salt, password]);
    let made = run(&mut shell, wait::ANSWER);
    assert_eq!(made.trim(), hash, "{password}");
}

/// Returns the arguments that set a plain password.
fn plain(user: &str, password: &str) -> Value {
    json!({ "username": user, "password": encode(password.as_bytes()), "crypted": false })
}

/// Returns the arguments that store a hash.
fn hashed(user: &str, hash: &str) -> Value {
    json!({ "username": user, "password": encode(hash.as_bytes()), "crypted": true })
}

/// Sets a password, which must fail. Returns the reason.
fn failure(client: &mut Client, arguments: Value) -> String {
    let refusal = client.try_call(PASSWORD, arguments).expect_err("an error");
    let detail = refusal
        .desc
        .strip_prefix("child process has failed to set user password: ");
    detail
        .unwrap_or_else(|| panic!("{}", refusal.desc))
        .to_owned()
}

/// Returns what a check says about setting passwords and about reading keys.
fn checked(shell: &mut GuestShell) -> [String; 2] {
    let check =
        "/usr/bin/gaunt --check | grep -E '^guest-(set-user-password|ssh-get-authorized-keys): '";
    let said = shell.run(check);
    let mut lines = said.lines();
    let findings = lines
        .by_ref()
        .map(|line| line.split_once(": ").expect("a finding").1);
    let findings: Vec<String> = findings.map(str::to_owned).collect();
    findings.try_into().expect("two lines")
}

/// What a check says of a command that works.
const WORKS: &str = "works";

/// Lists passwd, shadow and their locks and temporary files in /etc.
fn etc(shell: &mut GuestShell) -> String {
    shell.run("cd /etc; ls -A | grep -E '^(passwd|shadow|\\.pwd)' | tr '\\n' ' '")
}

/// Restores the files of accounts, whatever an earlier check has left.
fn reset(shell: &mut GuestShell) {
    shell.run(
        "killall -q strace sleep; umount -l /etc/shadow 2>/dev/null; umount -l /etc 2>/dev/null; \
         if [ -e /dev/away ]; then mv -f /dev/away /dev/urandom; fi; true",
    );
    shell.run(
        "rm -f /etc/shadow* /etc/passwd* /etc/.pwd.lock; cp /root/passwd /etc/passwd; \
         cp /root/shadow /etc/shadow; chmod 644 /etc/passwd; chmod 640 /etc/shadow; \
         chown 0:42 /etc/shadow",
    );
}

/// Returns the content of a file in /etc.
fn read(shell: &mut GuestShell, name: &str) -> String {
    // The shell drops the last line feed.
    let content = shell.run(&format!("cat /etc/{name}; echo ."));
    let without = content.strip_suffix("\n.").or(content.strip_suffix('.'));
    without.unwrap_or(&content).to_owned()
}

/// Attaches strace, with these options, to the agent in the guest.
fn attach(shell: &mut GuestShell, strace: &Path, options: &str) {
    shell.run(&format!(
        "{} -f {options} -p $(cat /run/agent.pid) >/dev/null 2>&1 & echo $! >/run/strace.pid; \
         until grep -q '^TracerPid:.[1-9]' /proc/$(cat /run/agent.pid)/status; do sleep 0.1; done",
        strace.display()
    ));
}

/// Ends the strace of [`attach`].
fn detach(shell: &mut GuestShell) {
    shell.run(
        "kill $(cat /run/strace.pid); \
         until grep -q '^TracerPid:.0' /proc/$(cat /run/agent.pid)/status; do sleep 0.1; done",
    );
}

fn image() -> Cpio {
    Cpio::new()
        .file("root/passwd", 0o644, PASSWD.as_bytes())
        .file("root/shadow", 0o644, SHADOW.as_bytes())
        .file("etc/group", 0o644, GROUP.as_bytes())
}

#[test]
fn passwords_are_set_in_a_guest() {
    let mut checks = Checks::new("passwords");
    let strace = program("strace", "strace");
    let overlay = image().program(&strace).finish();
    let mut guest = Machine::new(Image::Busybox).overlay(&overlay).boot();
    guest.wait_shell();
    let mut client = guest.client();
    let shell = guest.shell();
    shell.run("mkdir -p /home /srv");
    hashes(&mut checks, shell, &mut client);
    passwd_and_shadow(&mut checks, shell, &mut client);
    unknown_users_and_locks(&mut checks, shell, &mut client);
    failing_system_calls(&mut checks, shell, &mut client, &strace);
    file_systems_that_refuse(&mut checks, shell, &mut client);
    killed_children(&mut checks, shell, &mut client, &strace);
    checks.finish();
}

fn hashes(checks: &mut Checks, shell: &mut GuestShell, client: &mut Client) {
    checks.run("hashes a plain password and changes one line", || {
        reset(shell);
        let inode = shell.run("stat -c %i /etc/shadow");
        client.call(PASSWORD, plain("alice", "correct horse: bättery"));
        let shadow = read(shell, "shadow");
        let hash = field(&shadow, "alice", 1);
        assert_hash(&hash, "correct horse: bättery");
        let day = shell.run("echo $(( $(date +%s) / 86400 ))");
        let expected = SHADOW.replace("alice:!$6$old:19000:", &format!("alice:{hash}:{day}:"));
        assert_eq!(shadow.trim_end(), expected.trim_end());
        assert_eq!(read(shell, "passwd").trim_end(), PASSWD.trim_end());
        assert_eq!(shell.run("stat -c '%a %u %g' /etc/shadow"), "640 0 42");
        assert_ne!(shell.run("stat -c %i /etc/shadow"), inode);
        assert_eq!(etc(shell), ".pwd.lock passwd shadow ");
        hash
    });
    checks.run("uses a new salt each time", || {
        reset(shell);
        client.call(PASSWORD, plain("alice", "x"));
        let one = field(&read(shell, "shadow"), "alice", 1);
        client.call(PASSWORD, plain("alice", "x"));
        let other = field(&read(shell, "shadow"), "alice", 1);
        assert_ne!(one, other);
        client.call(PASSWORD, plain("alice", ""));
        // openssl refuses the empty password, so only the length is checked here; the unit tests of
        // `base::crypt` have its hash.
        assert_eq!(
            field(&read(shell, "shadow"), "alice", 1).len(),
            3 + 16 + 1 + 86
        );
        "two salts; the empty password is hashed".into()
    });
    checks.run("stores a hash unchanged", || {
        reset(shell);
        client.call(PASSWORD, hashed("root", "$y$anything"));
        assert_eq!(field(&read(shell, "shadow"), "root", 1), "$y$anything");
        client.call(PASSWORD, hashed("root", ""));
        assert_eq!(field(&read(shell, "shadow"), "root", 1), "");
        "and the empty hash".into()
    });
}

fn passwd_and_shadow(checks: &mut Checks, shell: &mut GuestShell, client: &mut Client) {
    checks.run(
        "adds a missing line to shadow and completes a short one",
        || {
            reset(shell);
            client.call(PASSWORD, hashed("carol", "c"));
            client.call(PASSWORD, hashed("last", "l"));
            let shadow = read(shell, "shadow");
            let lines: Vec<&str> = shadow.lines().collect();
            let [.., last, carol] = lines[..] else {
                panic!("{shadow}")
            };
            assert!(
                last.starts_with("last:l:") && last.ends_with("::::::"),
                "{last}"
            );
            assert!(
                carol.starts_with("carol:c:") && carol.ends_with("::::::"),
                "{carol}"
            );
            assert_eq!(lines.len(), SHADOW.lines().count() + 1);
            carol.into()
        },
    );
    checks.run("changes a password in passwd if passwd has it", || {
        reset(shell);
        client.call(PASSWORD, hashed("bob", "b"));
        client.call(PASSWORD, hashed("dave", "d"));
        let passwd = read(shell, "passwd");
        let expected = PASSWD
            .replace("bob:plain", "bob:b")
            .replace("dave:both", "dave:d");
        assert_eq!(passwd.trim_end(), expected.trim_end());
        let shadow = read(shell, "shadow");
        assert_eq!(shadow.trim_end(), SHADOW.trim_end());
        assert_eq!(shell.run("stat -c '%a %u %g' /etc/passwd"), "644 0 0");
        "bob, and dave, who has a password in both files".into()
    });
    checks.run("stores the hash in passwd if there is no shadow", || {
        reset(shell);
        shell.run("rm /etc/shadow");
        client.call(PASSWORD, hashed("alice", "a"));
        assert_eq!(field(&read(shell, "passwd"), "alice", 1), "a");
        assert_eq!(etc(shell), ".pwd.lock passwd ");
        assert_eq!(checked(shell), [WORKS; 2]);
        "no shadow created".into()
    });
}

fn unknown_users_and_locks(checks: &mut Checks, shell: &mut GuestShell, client: &mut Client) {
    checks.run("refuses unknown users", || {
        reset(shell);
        for user in ["nobody-here", "", "+", "malformed", "odd"] {
            assert_eq!(failure(client, plain(user, "x")), "no such user");
        }
        assert_eq!(read(shell, "shadow").trim_end(), SHADOW.trim_end());
        shell.run("rm /etc/passwd");
        let said = failure(client, hashed("alice", "x"));
        assert_eq!(said, "/etc/passwd: No such file or directory");
        assert_eq!(checked(shell), ["no user in /etc/passwd"; 2]);
        shell.run("echo malformed >/etc/passwd");
        assert_eq!(failure(client, hashed("malformed", "x")), "no such user");
        let keys = client.try_call(
            "guest-ssh-get-authorized-keys",
            json!({ "username": "malformed" }),
        );
        let refusal = keys.expect_err("no user");
        assert!(refusal.desc.contains("no such user"), "{}", refusal.desc);
        assert_eq!(checked(shell), ["no user in /etc/passwd"; 2]);
        said
    });
    checks.run(
        "waits less than 15 s for a lock, and replaces a stale lock",
        || {
            reset(shell);
            shell.run("sleep 1000 >/dev/null 2>&1 & printf '%d\\0' $! >/etc/shadow.lock");
            let start = Instant::now();
            let said = failure(client, hashed("alice", "x"));
            assert_eq!(said, "/etc/shadow: No locks available");
            assert!(start.elapsed() < Duration::from_secs(15));
            assert_eq!(read(shell, "shadow").trim_end(), SHADOW.trim_end());
            // A lock whose owner is gone is stale.
            shell.run("kill $(tr -d '\\0' </etc/shadow.lock)");
            client.call(PASSWORD, hashed("alice", "x"));
            assert_eq!(etc(shell), ".pwd.lock passwd shadow ");
            said
        },
    );
    checks.run(
        "chooses between passwd and shadow after it has the lock",
        || {
            // Another program holds both locks, and moves alice's password to passwd.
            reset(shell);
            shell.run(
                "sleep 1000 >/dev/null 2>&1 & for file in passwd shadow; do \
             printf '%d\\0' $! >/etc/$file.lock; done",
            );
            client.send(request(PASSWORD, &hashed("alice", "x")));
            std::thread::sleep(Duration::from_secs(1));
            shell.run("sed 's/^alice:x:/alice:moved:/' /root/passwd >/etc/passwd");
            shell
                .run("kill $(tr -d '\\0' </etc/shadow.lock); rm /etc/passwd.lock /etc/shadow.lock");
            assert_eq!(client.reply(), json!({ "return": {} }));
            assert_eq!(field(&read(shell, "passwd"), "alice", 1), "x");
            assert_eq!(read(shell, "shadow").trim_end(), SHADOW.trim_end());
            assert_eq!(etc(shell), ".pwd.lock passwd shadow ");
            "passwd".into()
        },
    );
}

fn failing_system_calls(
    checks: &mut Checks,
    shell: &mut GuestShell,
    client: &mut Client,
    strace: &Path,
) {
    checks.run(
        "works without getrandom and other newer system calls",
        || {
            reset(shell);
            shell.run("mkdir -p /home/alice; chown 1000:1000 /home/alice");
            let calls = "getrandom,openat2,preadv2,renameat2,statx";
            let options = format!("-o /dev/null -e trace={calls} -e inject={calls}:error=ENOSYS");
            attach(shell, strace, &options);
            client.call(PASSWORD, plain("alice", "x"));
            let hash = field(&read(shell, "shadow"), "alice", 1);
            assert_hash(&hash, "x");
            client.call(ADD, json!({ "username": "alice", "keys": ["k"] }));
            let keys = client.call(GET, json!({ "username": "alice" }));
            assert_eq!(keys, json!({ "keys": ["k"] }));
            shell.run("mv /dev/urandom /dev/away");
            let said = failure(client, plain("alice", "y"));
            assert_eq!(said, "/dev/urandom: No such file or directory");
            shell.run("echo no random bytes >/dev/urandom");
            let wrong = failure(client, plain("alice", "y"));
            assert_eq!(wrong, "/dev/urandom: No such device");
            shell.run("mv -f /dev/away /dev/urandom");
            detach(shell);
            assert_eq!(field(&read(shell, "shadow"), "alice", 1), hash);
            said
        },
    );
    checks.run("reports a failure to switch to the user", || {
        reset(shell);
        let options = "-o /dev/null -e trace=setresuid -e inject=setresuid:error=EPERM";
        attach(shell, strace, options);
        let refused = client.try_call(GET, json!({ "username": "alice" }));
        detach(shell);
        let said = refused.expect_err("setresuid fails").desc;
        let expected = "failed to set effective user ID for user 'alice': Operation not permitted";
        assert_eq!(said, expected);
        said
    });
}

fn file_systems_that_refuse(checks: &mut Checks, shell: &mut GuestShell, client: &mut Client) {
    checks.run("replaces the file behind a symbolic link", || {
        reset(shell);
        shell.run("mv /etc/shadow /root/there; ln -s ../root/there /etc/shadow");
        client.call(PASSWORD, hashed("alice", "x"));
        assert_eq!(shell.run("readlink /etc/shadow"), "../root/there");
        assert_eq!(etc(shell), ".pwd.lock passwd shadow ");
        let line = shell.run("grep ^alice: /root/there; ls -l /root/there");
        assert!(line.starts_with("alice:x:"), "{line}");
        shell.run("rm /etc/shadow /root/there");
        line
    });
    checks.run("overwrites a file that is a mount point", || {
        reset(shell);
        shell.run("cp -a /etc/shadow /root/there; mount --bind /root/there /etc/shadow");
        let before = shell.run("stat -c '%i %a %u' /root/there");
        client.call(PASSWORD, hashed("alice", "x"));
        assert_eq!(shell.run("stat -c '%i %a %u' /root/there"), before);
        assert_eq!(etc(shell), ".pwd.lock passwd shadow ");
        shell.run("umount /etc/shadow");
        let line = shell.run("grep ^alice: /root/there");
        assert!(line.starts_with("alice:x:"), "{line}");
        assert_eq!(read(shell, "shadow").trim_end(), SHADOW.trim_end());
        shell.run("rm /root/there");
        line
    });
    checks.run(
        "overwrites a file in a directory that cannot be written",
        || {
            reset(shell);
            shell.run(
                "mkdir -p /run/etc; cp -a /etc/. /run/etc; cp -a /etc/shadow /root/there; \
             mount --bind /run/etc /etc; mount -o remount,ro,bind /etc; \
             mount --bind /root/there /etc/shadow",
            );
            client.call(PASSWORD, hashed("alice", "x"));
            assert_eq!(checked(shell), [WORKS; 2]);
            shell.run("umount /etc/shadow; umount /etc");
            let line = shell.run("grep ^alice: /root/there; rm /root/there");
            assert!(line.starts_with("alice:x:"), "{line}");
            line
        },
    );
    checks.run("reports a read-only file system", || {
        reset(shell);
        shell.run("mkdir -p /run/etc; cp -a /etc/. /run/etc; mount --bind /run/etc /etc");
        shell.run("mount -o remount,ro,bind /etc");
        let said = failure(client, hashed("alice", "x"));
        assert_eq!(said, "/etc/shadow: Read-only file system");
        assert_eq!(checked(shell), ["/etc/shadow cannot be written", WORKS]);
        shell.run("umount /etc");
        said
    });
    checks.run("keeps the old file on a full file system", || {
        reset(shell);
        shell.run("mkdir -p /run/full; mount -t tmpfs -o size=16k full /run/full");
        shell.run("cp -a /etc/passwd /etc/shadow /run/full; mount --bind /run/full /etc");
        shell.run("touch /etc/.pwd.lock; dd if=/dev/zero of=/etc/fill 2>/dev/null; true");
        let said = failure(client, hashed("alice", "x"));
        assert_eq!(said, "/etc/shadow: No space left on device");
        assert_eq!(read(shell, "shadow").trim_end(), SHADOW.trim_end());
        assert_eq!(etc(shell), ".pwd.lock passwd shadow ");
        shell.run("umount /etc");
        said
    });
}

fn killed_children(
    checks: &mut Checks,
    shell: &mut GuestShell,
    client: &mut Client,
    strace: &Path,
) {
    checks.run(
        "leaves the old or the new file when killed at any system call",
        || {
            let mut seen = Vec::new();
            for call in [
                // Calls that only the child makes meanwhile, not the agent.
                "linkat:when=1",
                "linkat:when=2",
                "unlinkat:when=1",
                "unlinkat:when=3",
                "unlinkat:when=5",
                "unlinkat:when=6",
                "unlinkat:when=7",
                "unlinkat:when=8",
                "fchown:when=1",
                "fchmod:when=1",
                "fgetxattr:when=1",
                "fsync:when=1",
                "renameat:when=1",
                "fsync:when=2",
            ] {
                reset(shell);
                let (name, when) = call.split_once(':').expect("a call and a count");
                let options =
                    format!("-o /dev/null -e trace={name} -e inject={name}:signal=KILL:{when}");
                attach(shell, strace, &options);
                let outcome = client.try_call(PASSWORD, hashed("alice", "NEW"));
                detach(shell);
                let shadow = read(shell, "shadow");
                let now = field(&shadow, "alice", 1);
                assert!(
                    now == "NEW" || shadow.trim_end() == SHADOW.trim_end(),
                    "{call}: {shadow}"
                );
                let died = outcome.is_err_and(|refusal| refusal.desc.contains("abnormally"));
                seen.push(format!(
                    "{call} {}{now}",
                    if died { "killed, " } else { "" }
                ));
                // Files that the killed child left behind do not hinder the next one.
                client.call(PASSWORD, hashed("alice", "AGAIN"));
                assert_eq!(field(&read(shell, "shadow"), "alice", 1), "AGAIN");
                assert_eq!(etc(shell), ".pwd.lock passwd shadow ", "{call}");
            }
            // Each of these calls was made, and before the new file was synced the old one was in place.
            assert!(seen.iter().all(|one| one.contains("killed")), "{seen:?}");
            let synced = seen.iter().find(|one| one.starts_with("fsync:when=1"));
            assert!(synced.is_some_and(|one| !one.ends_with("NEW")), "{seen:?}");
            seen.join("; ")
        },
    );
}

/// A command, and its arguments without the user.
type Request = (&'static str, &'static str);

/// Title, shell commands that prepare the home directory, requests. Replies and files of both agents
/// must be equal.
const SCENARIOS: [(&str, &str, &[Request]); 15] = [
    (
        "no .ssh directory",
        "",
        &[
            (GET, r#"{}"#),
            (REMOVE, r#"{"keys":["a"]}"#),
            (ADD, r#"{"keys":["ssh-rsa AAAA me@x","b","b"]}"#),
            (GET, r#"{}"#),
        ],
    ),
    (
        "no keys to add",
        "",
        &[(ADD, r#"{"keys":[]}"#), (GET, r#"{}"#)],
    ),
    (
        "an empty key",
        "",
        &[
            (ADD, r#"{"keys":["","b",""]}"#),
            (REMOVE, r#"{"keys":["b"]}"#),
            (GET, r#"{}"#),
        ],
    ),
    (
        "comments, blanks, options, duplicates",
        "mkdir .ssh; printf '# c\\n\\n  a b \\nfrom=\"x\" k\\nd\\nd\\n\\t# e\\nk\\r\\n' >.ssh/authorized_keys",
        &[
            (GET, r#"{}"#),
            (ADD, r#"{"keys":["d","a b","n\\ew","é"]}"#),
            (GET, r#"{}"#),
            (REMOVE, r#"{"keys":["d","a b","",  "n\\ew"]}"#),
            (GET, r#"{}"#),
        ],
    ),
    (
        "a file without a final line feed",
        "mkdir .ssh; printf 'a\\nb' >.ssh/authorized_keys; chmod 644 .ssh/authorized_keys",
        &[
            (ADD, r#"{"keys":["c"]}"#),
            (REMOVE, r#"{"keys":["a"]}"#),
            (GET, r#"{}"#),
        ],
    ),
    (
        "a reset",
        "mkdir .ssh; chmod 755 .ssh; printf 'a\\nb\\n' >.ssh/authorized_keys",
        &[
            (ADD, r#"{"keys":["b","c"],"reset":true}"#),
            (ADD, r#"{"keys":["d"],"reset":false}"#),
            (GET, r#"{}"#),
        ],
    ),
    (
        "a reset without a file",
        "",
        &[(ADD, r#"{"keys":["b"],"reset":true}"#), (GET, r#"{}"#)],
    ),
    (
        "removing a key that the file lacks",
        "mkdir .ssh; printf 'a\\n' >.ssh/authorized_keys",
        &[
            (REMOVE, r#"{"keys":["x"]}"#),
            (REMOVE, r#"{"keys":["a"]}"#),
            (GET, r#"{}"#),
        ],
    ),
    (
        "removing from an empty file",
        "mkdir .ssh; : >.ssh/authorized_keys",
        &[
            (REMOVE, r#"{"keys":["x",""]}"#),
            (ADD, r#"{"keys":["a"]}"#),
            (GET, r#"{}"#),
        ],
    ),
    (
        "authorized_keys is a link",
        "mkdir .ssh; printf 'a\\n' >elsewhere; ln -s ../elsewhere .ssh/authorized_keys",
        &[(GET, r#"{}"#), (ADD, r#"{"keys":["b"]}"#), (GET, r#"{}"#)],
    ),
    (
        ".ssh is a link",
        "mkdir other; ln -s other .ssh",
        &[(ADD, r#"{"keys":["b"]}"#), (GET, r#"{}"#)],
    ),
    (
        ".ssh is a file",
        ": >.ssh",
        &[
            (GET, r#"{}"#),
            (ADD, r#"{"keys":["b"]}"#),
            (REMOVE, r#"{"keys":["b"]}"#),
        ],
    ),
    (
        ".ssh is a dangling link",
        "ln -s nowhere .ssh",
        &[(GET, r#"{}"#), (ADD, r#"{"keys":["b"]}"#)],
    ),
    (
        "authorized_keys is a directory",
        "mkdir -p .ssh/authorized_keys",
        &[(GET, r#"{}"#)],
    ),
    (
        "invalid keys",
        "mkdir .ssh; printf 'a\\n' >.ssh/authorized_keys",
        &[
            (ADD, r##"{"keys":["ok","#bad"]}"##),
            (ADD, r#"{"keys":["b\nc"]}"#),
            (GET, r#"{}"#),
        ],
    ),
];

#[test]
fn ssh_keys_are_edited_as_qemu_ga_edits_them() {
    let mut checks = Checks::new("ssh keys");
    let overlay = image()
        .file("etc/passwd", 0o644, PASSWD.as_bytes())
        .finish();
    let mut guest = Machine::new(Image::Busybox)
        .overlay(&overlay)
        .reference()
        .boot();
    guest.wait_shell();
    let mut ours = guest.client();
    let mut theirs = guest.reference();
    let shell = guest.shell();
    shell.run("mkdir -p /home /srv");

    let ask = |client: &mut Client, user: &str, command: &str, arguments: &str| {
        let mut arguments: Value = serde_json::from_str(arguments).expect("JSON");
        arguments["username"] = user.into();
        match client.try_call(command, arguments) {
            Ok(value) => value,
            Err(refusal) => json!({ "error": refusal.desc }),
        }
    };
    // bob's home directory ends in a slash in passwd, alice's does not.
    for (title, prepare, requests) in SCENARIOS {
        checks.run(title, || {
            let mut count = 0;
            for (user, uid, home) in [("alice", 1000, "/home/alice"), ("bob", 1001, "/home/bob")] {
                let mut seen = Vec::new();
                for client in [&mut ours, &mut theirs] {
                    shell.run(&format!(
                        "rm -rf {home}; mkdir -p {home}; cd {home}; {prepare}\n chown -hR {uid}:{uid} {home}"
                    ));
                    let mut results = Vec::new();
                    for (command, arguments) in requests {
                        let reply = ask(client, user, command, arguments);
                        // Without blank lines, and without the last line feed: gaunt adds no blank
                        // line, and always ends the file in a line feed.
                        results.push(shell.run(&format!(
                            "cd {home}; find . | sort | while read -r f; do \
                             stat -c '%n %F %a %u %g' $f; \
                             [ -f $f ] && grep -v '^$' $f | od -c; done; true"
                        )));
                        if seen.is_empty() && *command != GET && reply == json!({}) {
                            let last = shell.run(&format!(
                                "cat {home}/.ssh/authorized_keys 2>/dev/null | tail -c 1 | od -An -c"
                            ));
                            assert!(matches!(last.trim(), "" | "\\n"), "{last}");
                        }
                        results.push(reply.to_string());
                    }
                    seen.push(results);
                }
                assert_eq!(seen[0], seen[1], "{user}");
                count += seen[0].len();
            }
            format!("{count} replies and directories")
        });
    }
    checks.run("both agents refuse unknown users and missing homes", || {
        for user in ["nobody-here", "", "malformed"] {
            for (command, arguments) in [(GET, "{}"), (ADD, r#"{"keys":[]}"#)] {
                let replies = [&mut ours, &mut theirs]
                    .map(|client| ask(client, user, command, arguments)["error"].to_string());
                let prefix = format!("\"failed to lookup user '{user}': ");
                for reply in replies {
                    assert!(reply.starts_with(&prefix), "{reply}");
                }
            }
        }
        for (command, arguments) in [
            (GET, "{}"),
            (ADD, r#"{"keys":["k"]}"#),
            (REMOVE, r#"{"keys":["k"]}"#),
        ] {
            let [a, b] =
                [&mut ours, &mut theirs].map(|client| ask(client, "gone", command, arguments));
            assert_eq!(a, b);
        }
        "equal".into()
    });
    checks.run("reads and writes with the user's permissions only", || {
        // Links into root's directory, a home that root owns, and no home.
        shell.run("printf 'secret\\n' >/root/secret; chmod 600 /root/secret; chmod 700 /root");
        shell.run(
            "rm -rf /home/alice; mkdir -p /home/alice/.ssh; cd /home/alice; \
             ln -s /root/secret .ssh/authorized_keys; chown -hR 1000:1000 .",
        );
        let path = "/home/alice/.ssh/authorized_keys";
        let read_denied = |whose: &str| {
            format!(
                "failed to read '{path}': Failed to open file \u{201C}{path}\u{201D}: \
                 {whose} belongs to root (uid 0): Permission denied"
            )
        };
        let write_denied = |whose: &str| {
            format!(
                "failed to write to '{path}': {whose} belongs to root (uid 0): Permission denied"
            )
        };
        // alice owns the directory of the link, and may not search the directory of its target.
        let denied = format!(
            "failed to read '{path}': Failed to open file \u{201C}{path}\u{201D}: Permission denied"
        );
        for (command, arguments) in [
            (GET, "{}"),
            (ADD, r#"{"keys":["k"]}"#),
            (REMOVE, r#"{"keys":["secret"]}"#),
        ] {
            assert_eq!(ask(&mut ours, "alice", command, arguments)["error"], denied);
        }
        shell.run("cd /home/alice; rm -r .ssh; ln -s /root .ssh");
        let reply = ask(&mut ours, "alice", ADD, r#"{"keys":["k"]}"#);
        assert_eq!(reply["error"], write_denied("/home/alice/.ssh"));
        shell.run("mkdir -p /srv/rooted");
        assert_eq!(
            ask(&mut ours, "rooted", ADD, r#"{"keys":["k"]}"#)["error"],
            "failed to create directory '/srv/rooted/.ssh': \
             /srv/rooted belongs to root (uid 0): Permission denied"
        );
        assert_eq!(
            ask(&mut ours, "empty", GET, "{}")["error"],
            "failed to lookup user 'empty': Not a directory"
        );
        // A .ssh that root owns: first closed to alice, then readable.
        shell.run("cd /home/alice; rm .ssh; mkdir -m 700 .ssh; echo k >.ssh/authorized_keys");
        let reply = ask(&mut ours, "alice", ADD, r#"{"keys":["k"]}"#);
        assert_eq!(reply["error"], write_denied("/home/alice/.ssh"));
        for (command, arguments) in [(GET, "{}"), (REMOVE, r#"{"keys":["k"]}"#)] {
            let reply = ask(&mut ours, "alice", command, arguments);
            assert_eq!(reply["error"], read_denied("/home/alice/.ssh"));
        }
        shell.run("cd /home/alice; chmod 755 .ssh");
        assert_eq!(ask(&mut ours, "alice", GET, "{}"), json!({ "keys": ["k"] }));
        for (command, arguments) in [(ADD, r#"{"keys":["l"]}"#), (REMOVE, r#"{"keys":["k"]}"#)] {
            let reply = ask(&mut ours, "alice", command, arguments);
            assert_eq!(reply["error"], write_denied("/home/alice/.ssh"));
        }
        shell.run("cd /home/alice; chmod 600 .ssh/authorized_keys; chown 1000:1000 .ssh");
        let reply = ask(&mut ours, "alice", GET, "{}");
        assert_eq!(reply["error"], read_denied(path));
        // alice is a member of the group that owns the directory.
        shell.run(
            "rm -r /home/alice; mkdir /home/alice; chown 0:2000 /home/alice; chmod 770 /home/alice",
        );
        ask(&mut ours, "alice", ADD, r#"{"keys":["k"]}"#);
        assert_eq!(
            shell.run("stat -c '%a %u %g' /home/alice/.ssh /home/alice/.ssh/authorized_keys"),
            "700 1000 1000\n600 1000 1000"
        );
        assert_eq!(shell.run("ls -A /root"), "passwd\nsecret\nshadow");
        read_denied(path)
    });
    checks.run(
        "edits root's keys; a home may be the root directory",
        || {
            ask(&mut ours, "root", ADD, r#"{"keys":["k"]}"#);
            assert_eq!(
                shell.run("stat -c '%a %u' /root/.ssh/authorized_keys"),
                "600 0"
            );
            let [a, b] = [&mut ours, &mut theirs].map(|client| ask(client, "last", GET, "{}"));
            assert_eq!(a, b);
            a.to_string()
        },
    );
    checks.run("ends a changed file in a line feed", || {
        let mut count = 0;
        for (before, command, key, after) in [
            ("", ADD, "k", "k\\n"),
            ("a\\n", ADD, "k", "a\\nk\\n"),
            ("a", ADD, "k", "a\\nk\\n"),
            ("a\\n\\nb\\n", ADD, "k", "a\\n\\nb\\nk\\n"),
            ("a\\n", ADD, "", "a\\n"),
            ("", ADD, "", ""),
            ("a\\nb", REMOVE, "a", "b\\n"),
            ("a\\n\\nb\\n", REMOVE, "b", "a\\n\\n"),
            ("a\\n\\nb\\n", REMOVE, "", "a\\nb\\n"),
            ("a\\n", REMOVE, "a", ""),
        ] {
            let home = "/home/alice";
            shell.run(&format!(
                "rm -rf {home}; mkdir -p {home}/.ssh; printf '{before}' >{home}/.ssh/authorized_keys; \
                 chown -R 1000:1000 {home}"
            ));
            let keys = json!({ "keys": [key] }).to_string();
            assert_eq!(ask(&mut ours, "alice", command, &keys), json!({}));
            let file = "/home/alice/.ssh/authorized_keys";
            let now = shell.run(&format!("od -An -v -c {file} | tr -d ' \\n'"));
            assert_eq!(now, after, "{before} {command} {key}");
            count += 1;
        }
        ask(&mut ours, "alice", ADD, r#"{"keys":["one"]}"#);
        shell.run("echo two >>/home/alice/.ssh/authorized_keys");
        let listed = ask(&mut ours, "alice", GET, "{}");
        assert_eq!(listed, json!({ "keys": ["two", "one"] }));
        format!("{count} files, and a key added by echo")
    });
    checks.run("follows no link to a file that the agent has open", || {
        // Every user may read the file, but not search /root above it. The agent has both open.
        shell.run("mkdir -p /root/open; cp /root/secret /root/open/authorized_keys");
        shell.run("chmod 755 /root/open; chmod 644 /root/open/authorized_keys");
        let handles: Vec<Value> = ["/root/open/authorized_keys", "/root/open"]
            .map(|path| ours.call("guest-file-open", json!({ "path": path })))
            .into();
        let mut refused = Vec::new();
        for target in [
            "/proc/self/fd/64",
            "/proc/self/fd/65",
            "/dev/fd/64",
            "/proc/thread-self/fd/64",
            "/proc/self/fd/0",
            "/proc/self/maps",
            "/proc/self/root/root/open/authorized_keys",
        ] {
            for link in [".ssh/authorized_keys", ".ssh"] {
                shell.run(&format!(
                    "rm -rf /home/alice; mkdir -p /home/alice; cd /home/alice; \
                     [ {link} = .ssh ] || mkdir .ssh; ln -s {target} {link}; \
                     chown -hR 1000:1000 .; true"
                ));
                for (command, arguments) in [(GET, "{}"), (ADD, r#"{"keys":["k"]}"#)] {
                    let reply = ask(&mut ours, "alice", command, arguments);
                    match reply["error"].as_str() {
                        Some(said) => refused.push(said.rsplit(": ").next().unwrap().to_owned()),
                        // The link dangles in the child, so the child replaces it by a file.
                        None => {
                            assert_eq!((command, &reply), (ADD, &json!({})), "{target}");
                            let keys = ask(&mut ours, "alice", GET, "{}");
                            assert_eq!(keys, json!({ "keys": ["k"] }), "{target}");
                        }
                    }
                }
                let found = shell.run("find /home/alice -type f -exec grep -l secret {} \\;");
                assert_eq!(found, "", "{target}");
            }
        }
        for handle in handles {
            ours.call("guest-file-close", json!({ "handle": handle }));
        }
        refused.sort();
        refused.dedup();
        refused.join(", ")
    });
    checks.run("refuses an authorized_keys that is not a regular file", || {
        let file = "/home/alice/.ssh/authorized_keys";
        let expected = format!(
            "failed to read '{file}': Failed to open file \u{201C}{file}\u{201D}: not a regular file"
        );
        for make in ["mkfifo F", "ln -s /dev/zero F", "ln -s /dev/null F", "mknod F c 1 7"] {
            shell.run(&format!(
                "rm -rf /home/alice; mkdir -p /home/alice/.ssh; cd /home/alice/.ssh; {}; \
                 chown -hR 1000:1000 /home/alice",
                make.replace('F', "authorized_keys")
            ));
            for (command, arguments) in [
                (GET, "{}"),
                (ADD, r#"{"keys":["k"]}"#),
                (REMOVE, r#"{"keys":["k"]}"#),
            ] {
                let reply = ask(&mut ours, "alice", command, arguments);
                assert_eq!(reply["error"], expected, "{make}");
            }
        }
        expected
    });
    checks.run("refuses the user and group number -1", || {
        for user in ["nouser", "nogroup"] {
            shell.run(&format!(
                "mkdir -p -m 777 /srv/{user}; chmod 777 /srv/{user}"
            ));
            for (command, arguments) in [(GET, "{}"), (ADD, r#"{"keys":["k"]}"#)] {
                let reply = ask(&mut ours, user, command, arguments);
                let said = reply["error"]
                    .as_str()
                    .unwrap_or_else(|| panic!("{user}: {reply}"));
                assert!(said.ends_with(": Invalid argument"), "{said}");
            }
            assert_eq!(shell.run(&format!("ls -A /srv/{user}")), "", "{user}");
        }
        "refused".into()
    });
    checks.run("takes 256 KiB of keys and refuses one byte more", || {
        let file = "/home/alice/.ssh/authorized_keys";
        let mut prepare = |content: &str| {
            shell.run(&format!(
                "rm -rf /home/alice; mkdir -p /home/alice/.ssh; {content} >{file}; \
                 chown -R 1000:1000 /home/alice; chmod 600 {file}"
            ));
        };
        let read = format!(
            "failed to read '{file}': Error reading file \u{201C}{file}\u{201D}: \
             more than 256 KiB of keys"
        );
        let write = format!("failed to write to '{file}': more than 256 KiB of keys");
        // Zeros, as some file systems leave them after a power cut. A reset replaces such a file.
        for bytes in [11_000_000, (256 << 10) + 1] {
            prepare(&format!("head -c {bytes} /dev/zero"));
            for (command, arguments) in [
                (GET, "{}"),
                (ADD, r#"{"keys":["k"]}"#),
                (REMOVE, r#"{"keys":["k"]}"#),
            ] {
                let reply = ask(&mut ours, "alice", command, arguments);
                assert_eq!(reply["error"], read, "{bytes}");
            }
            let reset = r#"{"keys":["k"],"reset":true}"#;
            assert_eq!(ask(&mut ours, "alice", ADD, reset), json!({}));
        }
        prepare("head -c 262144 /dev/zero");
        let listed = ask(&mut ours, "alice", GET, "{}");
        let key = listed["keys"][0].as_str().expect("a key");
        assert!(key.len() == 256 << 10 && key.chars().all(|one| one == '\0'));
        assert_eq!(
            ask(&mut ours, "alice", ADD, r#"{"keys":["k"]}"#)["error"],
            write
        );
        prepare("(head -c 100 /dev/urandom | tr '\\n' x; echo; printf '\\377\\0\\200\\n')");
        assert_eq!(ask(&mut ours, "alice", ADD, r#"{"keys":["k"]}"#), json!({}));
        let listed = ask(&mut ours, "alice", GET, "{}");
        let [k, junk, _] = &listed["keys"].as_array().expect("keys")[..] else {
            panic!("{listed}")
        };
        assert_eq!((k, junk), (&json!("k"), &json!("\u{FFFD}\0\u{FFFD}")));
        assert_eq!(shell.run(&format!("wc -l <{file}")), "3");
        let many = json!({ "keys": ["k".repeat(256 << 10)] }).to_string();
        for command in [ADD, REMOVE] {
            let reply = ask(&mut ours, "alice", command, &many);
            assert_eq!(reply["error"], "more than 256 KiB of keys");
        }
        let peak = shell.run("sed -n 's/^VmHWM:[^0-9]*//p' /proc/$(cat /run/agent.pid)/status");
        let kb: u32 = peak
            .split(' ')
            .next()
            .and_then(|kb| kb.parse().ok())
            .expect("a size");
        assert!(kb < 4096, "{peak}");
        format!("the agent's peak: {peak}")
    });
    checks.run("adds 300 keys at once", || {
        let keys: Vec<String> = (0..300)
            .map(|key| format!("ssh-ed25519 {key:0>300}"))
            .collect();
        let arguments = json!({ "keys": keys, "reset": true }).to_string();
        assert_eq!(ask(&mut ours, "root", ADD, &arguments), json!({}));
        let listed = ask(&mut ours, "root", GET, "{}");
        let listed: Vec<&str> = listed["keys"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|key| key.as_str().expect("a key"))
            .rev()
            .collect();
        assert_eq!(listed, keys);
        format!("{} keys", listed.len())
    });
    checks.finish();
}

/// Reads a user's keys, or changes them if the arguments have some. Returns the value, or the text of the
/// error.
fn ask_keys(client: &mut Client, user: &str, command: &str, mut arguments: Value) -> Value {
    arguments["username"] = user.into();
    match client.try_call(command, arguments) {
        Ok(value) => value,
        Err(refusal) => refusal.desc.into(),
    }
}

/// Starts the agent of the busybox image anew, with this pattern.
fn start_with(pattern: &str, shell: &mut GuestShell, client: &mut Client) {
    shell.run(&format!(
        "kill $(cat /run/agent.pid); while [ -d /proc/$(cat /run/agent.pid) ]; do sleep 0.1; done; \
         /usr/bin/gaunt '--authorized-keys={pattern}' </dev/null >/run/agent.log 2>&1 & echo $! >/run/agent.pid"
    ));
    wait::until(wait::ANSWER, || client.sync(Duration::from_secs(3))).expect("the new agent");
}

#[test]
fn keys_are_where_the_option_says() {
    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        alice:x:1000:1000::/home/alice:/bin/sh\n\
        bob:x:1001:1001:::/bin/sh\n\
        ..:x:1002:1002::/home/up:/bin/sh\n";
    const FILE: &str = "/etc/ssh/keys/alice";
    let mut checks = Checks::new("places of ssh keys");
    let overlay = image()
        .file("etc/passwd", 0o644, PASSWD.as_bytes())
        .finish();
    let mut guest = Machine::new(Image::Busybox)
        .overlay(&overlay)
        .kernel("gaunt.authorized-keys=/etc/ssh/keys/%u")
        .boot();
    guest.wait_shell();
    let mut client = guest.client();
    let shell = guest.shell();
    let key = |key: &str| json!({ "keys": [key] });
    let facts = format!("stat -c '%a %u' {FILE}; cat {FILE}");
    // alice has what others may not reach, and would have root write to it.
    shell.run("printf 'secret\\n' >/root/secret; chmod 700 /root; mkdir -p /home/alice");
    shell.run("chown 1000:1000 /home/alice");
    let prepare = |shell: &mut GuestShell, commands: &str| {
        shell.run("cd /; rm -rf /etc/ssh /data; mkdir -p /etc/ssh/keys");
        shell.run(commands);
    };
    checks.run("root writes where only root can change the file", || {
        prepare(shell, "");
        // bob has no home directory, and needs none.
        for user in ["alice", "bob"] {
            assert_eq!(ask_keys(&mut client, user, ADD, key("k")), json!({}));
            let listed = ask_keys(&mut client, user, GET, json!({}));
            assert_eq!(listed, key("k"), "{user}");
        }
        assert_eq!(shell.run(&facts), "644 0\nk");
        // sshd reads it with the rights of the user.
        assert_eq!(shell.run(&format!("su alice -c 'cat {FILE}'")), "k");
        shell.run(&format!("chown 1000 {FILE}; chmod 600 {FILE}"));
        assert_eq!(ask_keys(&mut client, "alice", ADD, key("l")), json!({}));
        assert_eq!(ask_keys(&mut client, "alice", REMOVE, key("k")), json!({}));
        assert_eq!(shell.run(&facts), "600 1000\nl");
        let reset = json!({ "keys": ["m"], "reset": true });
        assert_eq!(ask_keys(&mut client, "alice", ADD, reset), json!({}));
        assert_eq!(shell.run(&facts), "600 1000\nm");
        assert_eq!(shell.run("ls -A /etc/ssh/keys"), "alice\nbob");
        "new files are root's; others keep owner and mode".into()
    });
    checks.run("a directory behind root's links is root's", || {
        prepare(
            shell,
            "mkdir -p /data/keys; rmdir /etc/ssh/keys; ln -s /data/keys /etc/ssh/keys",
        );
        assert_eq!(ask_keys(&mut client, "alice", ADD, key("k")), json!({}));
        shell.run("stat -c '%a %u %n' /data/keys/*")
    });
    checks.run("follows no link in place of the file", || {
        let mut said = Value::Null;
        for target in ["/root/secret", "none"] {
            prepare(shell, &format!("ln -s {target} {FILE}"));
            let reset = json!({ "keys": ["m"], "reset": true });
            for (command, arguments) in [
                (GET, json!({})),
                (ADD, key("k")),
                (ADD, reset),
                (REMOVE, key("secret")),
            ] {
                said = ask_keys(&mut client, "alice", command, arguments);
                let said = said.as_str().expect("an error");
                assert!(
                    said.ends_with("Too many levels of symbolic links"),
                    "{said}"
                );
            }
        }
        assert_eq!(
            shell.run("cat /root/secret; ls -A /root"),
            "secret\npasswd\nsecret\nshadow"
        );
        said.to_string()
    });
    checks.run(
        "acts as the user where others can change the directory",
        || {
            // It is alice's, everybody's, or below one of alice's.
            for commands in [
                "chown 1000:1000 /etc/ssh/keys",
                "chmod 1777 /etc/ssh/keys",
                "mkdir -p /data/keys; chown -R 1000:1000 /data; rmdir /etc/ssh/keys; \
             ln -s /data/keys /etc/ssh/keys",
            ] {
                prepare(shell, commands);
                assert_eq!(ask_keys(&mut client, "alice", ADD, key("k")), json!({}));
                assert_eq!(shell.run(&facts), "600 1000\nk", "{commands}");
                prepare(shell, commands);
                shell.run(&format!(
                    "ln -s /root/secret {FILE}; chown -h 1000:1000 {FILE}"
                ));
                for (command, arguments) in [(GET, json!({})), (ADD, key("k"))] {
                    let said = ask_keys(&mut client, "alice", command, arguments);
                    let said = said.as_str().expect("an error");
                    assert!(said.ends_with("Permission denied"), "{said}");
                }
            }
            prepare(shell, "chown 1000:1000 /etc/ssh/keys");
            let said = ask_keys(&mut client, "bob", ADD, key("k"));
            assert_eq!(
                said,
                "failed to write to '/etc/ssh/keys/bob': \
             /etc/ssh/keys belongs to alice (uid 1000): Permission denied"
            );
            said.to_string()
        },
    );
    checks.run("makes no directory of root's", || {
        prepare(shell, "rmdir /etc/ssh/keys");
        let said = ask_keys(&mut client, "alice", ADD, key("k"));
        assert_eq!(
            said,
            "failed to create directory '/etc/ssh/keys': \
             /etc/ssh belongs to root (uid 0): Permission denied"
        );
        said.to_string()
    });
    checks.run(
        "refuses a user whose name leads to another directory",
        || {
            prepare(shell, "");
            let said = ask_keys(&mut client, "..", ADD, key("k"));
            assert_eq!(said, "failed to lookup user '..': Not a directory");
            said.to_string()
        },
    );
    checks.run("several users may share a file, as with dropbear", || {
        prepare(shell, "");
        start_with("/etc/ssh/keys/shared", shell, &mut client);
        assert_eq!(ask_keys(&mut client, "alice", ADD, key("k")), json!({}));
        assert_eq!(ask_keys(&mut client, "bob", ADD, key("l")), json!({}));
        assert_eq!(
            shell.run("cd /etc/ssh/keys; stat -c '%a %u' *; cat *"),
            "644 0\nk\nl"
        );
        "one file".into()
    });
    checks.run("a path below the home is the user's", || {
        for (pattern, path) in [(".keys/%u", "alice"), ("%h/.keys/%u%%", "alice%")] {
            shell.run("rm -rf /home/alice/.keys");
            start_with(pattern, shell, &mut client);
            assert_eq!(ask_keys(&mut client, "alice", ADD, key("k")), json!({}));
            let facts = shell.run("cd /home/alice; stat -c '%a %u %n' .keys .keys/*");
            assert_eq!(facts, format!("700 1000 .keys\n600 1000 .keys/{path}"));
        }
        let said = ask_keys(&mut client, "bob", ADD, key("k"));
        assert_eq!(said, "failed to lookup user 'bob': Not a directory");
        "made by the user".into()
    });
    checks.run(
        "--check looks at the directory, --dump-conf prints the option",
        || {
            prepare(shell, "");
            let check = |shell: &mut GuestShell, pattern: &str| {
                shell.run(&format!(
                    "/usr/bin/gaunt --check '--authorized-keys={pattern}' | sed -n 's/^{ADD}: //p'"
                ))
            };
            assert_eq!(check(shell, "/etc/ssh/keys/%u"), "works");
            let missing = check(shell, "/etc/none/%u");
            assert_eq!(missing, "the directory is missing or cannot be written");
            shell.run("/usr/bin/gaunt --authorized-keys=/etc/%u --dump-conf | grep keys=")
        },
    );
    checks.finish();
}
