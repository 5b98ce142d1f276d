//! Replies of gaunt and of the reference, a qemu-ga, to the same requests: `gaunt_e2e::compare`.
//!
//! On this machine both agents run without privileges, so that no request can harm it. Guest: the
//! busybox image with both agents and disks of several kinds, where both run as root. Needs QEMU, the
//! images, qemu-ga and dmsetup.

use std::collections::BTreeSet;

use gaunt_e2e::checks::Checks;
use gaunt_e2e::client::{parse, request};
use gaunt_e2e::compare::{
    assert_same_reply, common_commands, compare, compare_masked, lines, normalize,
};
use gaunt_e2e::cpio::Cpio;
use gaunt_e2e::damage::Random;
use gaunt_e2e::disk::{self, Fs};
use gaunt_e2e::guest::{Image, Machine};
use gaunt_e2e::process::program;
use gaunt_e2e::reference::reference;
use gaunt_e2e::scratch::Scratch;
use serde_json::{Value, json};

const LEFT_OUT: &str =
    "left out: qemu-ga before 11.1 reports all errors of a message, not only the first";

#[test]
fn errors_about_invalid_messages_equal_those_of_qemu_ga() {
    if reference().is_older() {
        return eprintln!("{LEFT_OUT}");
    }
    let mut rows = lines(&[
        "",
        "\r\n\t ",
        "garbage",
        "GARBAGE",
        "garbage {\"execute\":\"guest-ping\"}",
        "GARBAGE {\"execute\":\"guest-ping\"}",
        "GARBAGE\n{\"execute\":\"guest-ping\"}",
        "no such thing",
        "Nothing, [at all]",
        "]",
        "}",
        ",",
        ":",
        "[1]",
        "[]",
        "\"x\"",
        "'x'",
        "5 ",
        "-5 ",
        "null ",
        "true false",
        "{]}",
        "{[}]",
        "[}",
        "{}",
        "{\"a\":1.}",
        "{\"a\":+1}",
        "{\"a\":01}",
        "{\"a\":-}",
        "{\"a\":.5}",
        "{\"a\":1e}",
        "{\"a\":0e1}",
        "{\"a\":1e5x}",
        "{\"a\":tru}",
        "{\"a\":True}",
        "{\"a\":nulL}",
        "{1:2}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":1 \"b\":2}",
        "{\"a\" 1}",
        "{,}",
        "{:}",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1:2]",
        "{\"a\":1,\"a\":2}",
        "{\"execute\":\"guest-ping\",\"id\":{\"x\":1,\"x\":2}}",
        "{\"execute\":\"guest-ping\",\"id\":[{\"x\":[],\"x\":[]}]}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"\\uZZZZ\"}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\udc00\\ud800\"}",
        "{\"a\":\"\\ufdd0\"}",
        "{\"a\":\"\\uffff\"}",
        "{\"a\":\"tab\there\"}",
        "{\"a\":\"line\nend\"}",
        "{\"a\":'it is \"quoted\"'}",
        "{\"a\":\"unfinished",
        "{\"execute\":",
        "{\"execute\":\"guest-ping\"",
        "// comment",
        "/* comment */",
        "%s",
        "{\"a\":%d}",
        "\u{feff}{\"execute\":\"guest-ping\"}",
        "{\"a\":NaN}",
        "{\"a\":Infinity}",
        "{\"a\":0x10}",
        // The position of the error, and the bytes that are skipped after it.
        "\n\n  x ",
        "{\"a\":1,\n\n ,}",
        "{\"a\"\n:\t}",
        "{\"a\":\"\\q\"}",
        "{\"a\":1,\"a\":\n[1, 2\n ]}",
        "{\"execute\":\"guest-ping\"}\n}",
        "{}}",
        "{}\r\r\n\r]",
        "[1}",
        "[1 }",
        "[1\n}",
        "5]",
        "[1 2 [3, nope]]{}",
        "[1 2 }{}",
        "[1 2 {]}{}]",
        "{[}]{}",
        "{[}{}",
        "[1 2 G]{}",
        "{\"a\":1,\"a\":2, nope}{}",
        "{'execute':'guest-ping'}",
        "{\"execute\":\"guest-ping\"}{\"execute\":\"guest-ping\"}",
    ]);
    let raw: [&[u8]; 20] = [
        b"[[[\xff",
        b"[1 2 \xff]{}",
        b"\xff",
        b"\xff\xff\xff",
        b"\xff{\"execute\":\"guest-ping\"}",
        b"{\"execute\":\"gue\xff{\"execute\":\"guest-ping\"}",
        b"{\"execute\":\xff{\"execute\":\"guest-ping\"}",
        b"\x00",
        b"{\"execute\":\"guest-ping\"}\x00{\"execute\":\"guest-ping\"}",
        b"\x1b[A",
        b"\x7f",
        b"\xfe",
        b"{\"a\":\"\xc3\x28\"}",
        b"{\"a\":\"\xc0\x80\"}",
        b"{\"a\":\"\xc1\xbf\"}",
        b"{\"a\":\"\xed\xa0\x80\"}",
        b"{\"a\":\"\xf4\x90\x80\x80\"}",
        b"{\"a\":\"\xef\xbf\xbf\"}",
        b"{\"a\":\"\xe2\x82\"}",
        b"\xe2\x82\xac",
    ];
    rows.extend(raw.iter().map(|row| row.to_vec()));
    // Sequences that encode no character, well-formed or not: an error shows one replacement each.
    let sequences: [&[u8]; 17] = [
        b"\x80",
        b"\xc1\x81",
        b"\xc0\x80",
        b"\xe0",
        b"\xe0\x80\x80",
        b"\xe2\x80\x28",
        b"\xed\xa0",
        b"\xed\xa0\x80\xed\xa0\x80",
        b"\xef\xb7\x90",
        b"\xef\xbf\xbf",
        b"\xf0\x80\x80\x80",
        b"\xf0\x9f\x98",
        b"\xf0\x9f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xf8\x88\x80\x80\x80\xf8\x80\x41",
        b"\xfc\x84\x80\x80\x80\x80",
    ];
    rows.extend(sequences.map(|bytes| [b"\"", bytes, b"\x01\n"].concat()));
    // Long texts, some of which qemu-ga cuts in the error, and limits.
    rows.push("k".repeat(3000).into_bytes());
    rows.push(format!("\"{}\x01", "s".repeat(3000)).into_bytes());
    rows.push(format!("{{\"execute\":\"{}\"}}", "n".repeat(5000)).into_bytes());
    rows.push("[".repeat(1024).into_bytes());
    for (deep, end) in [(1025, ""), (1030, "{}"), (1100, "\u{1}{}")] {
        rows.push(format!("{}{}{end}", "[".repeat(deep), "]".repeat(deep)).into_bytes());
        rows.push(format!("{}1{}{end}", "{\"a\":".repeat(deep), "}".repeat(deep)).into_bytes());
        rows.push(format!("[1 2 {}{end}", "[".repeat(deep)).into_bytes());
    }
    compare("invalid messages", &rows);
}

/// `SEED=7 cargo test ...` makes other damage.
#[test]
fn replies_to_two_thousand_damaged_requests_equal_those_of_qemu_ga() {
    if reference().is_older() {
        return eprintln!("{LEFT_OUT}");
    }
    let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().expect("a number"));
    eprintln!("SEED={seed}");
    let mut random = Random::new(seed);
    let rows: Vec<Vec<u8>> = (0..2000).map(|_| random.damaged()).collect();
    compare_masked("damaged requests", &rows, |ours, theirs| {
        // qemu-ga writes an infinite double, which is not JSON. guest-info differs in the version.
        let is_infinite = theirs.as_str().is_some_and(|text| text.contains("inf"));
        let is_info = |reply: &Value| reply.pointer("/return/supported_commands").is_some();
        if is_infinite || (is_info(ours) && is_info(theirs)) {
            *ours = theirs.clone();
        }
        let desc = |reply: &Value| reply.pointer("/error/desc")?.as_str().map(str::to_owned);
        let (Some(mine), Some(reference)) = (desc(ours), desc(theirs)) else {
            return;
        };
        let both = |start: &str, end: &str| {
            let fits = |text: &str| text.starts_with(start) && text.ends_with(end);
            fits(&mine) && fits(&reference)
        };
        // If several members are wrong, qemu-ga names the first in the order of a hash. Its error about
        // an unknown PID has a broken format.
        if both("QMP input member '", "")
            || both("Parameter '", "' is unexpected")
            || (reference == "PID ld does not exist" && both("PID ", " does not exist"))
        {
            ours["error"]["desc"] = reference.into();
        }
    });
}

#[test]
fn replies_to_envelopes_and_ids_equal_those_of_qemu_ga() {
    let rows = lines(&[
        r#"{"execute":"guest-ping"}"#,
        r#"{"execute":"guest-ping","arguments":{}}"#,
        r#"{"arguments":{},"execute":"guest-ping"}"#,
        r#"{"execute":"guest-ping","arguments":null}"#,
        r#"{"execute":"guest-ping","arguments":[]}"#,
        r#"{"execute":"guest-ping","arguments":"x"}"#,
        r#"{"execute":5}"#,
        r#"{"execute":null,"id":7}"#,
        r#"{"execute":["guest-ping"]}"#,
        r#"{"Execute":"guest-ping"}"#,
        r#"{"execute":"guest-ping","extra":1}"#,
        r#"{"exec-oob":"guest-ping"}"#,
        r#"{"arguments":{}}"#,
        r#"{"id":1}"#,
        r#"{"execute":""}"#,
        r#"{"execute":"no-such-command"}"#,
        r#"{"execute":"guest-Ping"}"#,
        r#"{"execute":"guest-ping "}"#,
        r#"{"execute":"guest\u002dping"}"#,
        r#"{"execute":"guest-\u00e9\u0000\ud83d\ude00\n\"\\"}"#,
        r#"{"execute":"no-such-command","arguments":7}"#,
        r#"{"execute":"no-such-command","arguments":{"x":1},"id":"x"}"#,
        r#"{"execute":"guest-ping","id":0}"#,
        r#"{"execute":"guest-ping","id":-9223372036854775808}"#,
        r#"{"execute":"guest-ping","id":18446744073709551615}"#,
        r#"{"execute":"guest-ping","id":100000000000000000000}"#,
        r#"{"execute":"guest-ping","id":-0}"#,
        r#"{"execute":"guest-ping","id":-0.0}"#,
        r#"{"execute":"guest-ping","id":0.1}"#,
        r#"{"execute":"guest-ping","id":1E+2}"#,
        r#"{"execute":"guest-ping","id":1e-320}"#,
        r#"{"execute":"guest-ping","id":123456789.123456789}"#,
        r#"{"execute":"guest-ping","id":1e999}"#,
        r#"{"execute":"guest-ping","id":true}"#,
        r#"{"execute":"guest-ping","id":null}"#,
        r#"{"execute":"guest-ping","id":"text"}"#,
        r#"{"execute":"guest-ping","id":'it''s'}"#,
        r#"{"execute":"guest-ping","id":"\u0000\u0001\b\f\n\r\t\"\\\/'\u007f\u0080\u20ac\ud83d\ude00"}"#,
        r#"{"execute":"guest-ping","id":"ünïcödé 😀"}"#,
        r#"{"execute":"guest-ping","id":[1,[2,[3,{"a":[]}]],{}]}"#,
        r#"{"execute":"guest-ping","id":{"b":1,"a":{"c":null,"d":[true,false]}}}"#,
        r#"{"execute":"guest-sync","arguments":{"id":0}}"#,
        r#"{"execute":"guest-sync","arguments":{"id":9223372036854775807}}"#,
        r#"{"execute":"guest-sync","arguments":{"id":-9223372036854775808}}"#,
        r#"{"execute":"guest-sync","arguments":{"id":5},"id":"both"}"#,
        r#"{"execute":"guest-sync-delimited","arguments":{"id":5},"id":7}"#,
        r#"{"execute":"guest-sync-delimited","arguments":{}}"#,
    ]);
    compare("envelopes", &rows);
}

#[test]
fn errors_about_arguments_equal_those_of_qemu_ga() {
    // Commands, each with one of its parameters.
    let parameters = [
        ("guest-sync", "id"),
        ("guest-sync-delimited", "id"),
        ("guest-fstrim", "minimum"),
        ("guest-shutdown", "mode"),
        ("guest-fsfreeze-freeze-list", "mountpoints"),
        ("guest-exec", "path"),
        ("guest-exec-status", "pid"),
    ];
    // Strings with escapes.
    let mut rows = [
        r#"{"execute":"guest-file-open","arguments":{"path":"/no/such","mode":"r\u002B"}}"#,
        r#"{"execute":"guest-file-open","arguments":{"path":"/no/\u0073uch","mode":"\u0077b\u002b"}}"#,
        r#"{"execute":"guest-file-open","arguments":{"path":"/no/such","mode":"r\n\ud83d\ude00"}}"#,
        r#"{"execute":"guest-shutdown","arguments":{"mode":"\u0068alt\u0020"}}"#,
        r#"{"execute":"guest-exec","arguments":{"path":"/no/such","capture-output":"\u0073tdout"}}"#,
        r#"{"execute":"guest-file-seek","arguments":{"handle":7,"offset":0,"whence":"\u0073et"}}"#,
        r#"{"execute":"guest-ping","arguments":{"\u0078":1}}"#,
        r#"{"\u0065xecute":"guest-p\u0069ng","arg\u0075ments":{}}"#,
    ]
    .map(str::to_owned)
    .to_vec();
    let mut walked = BTreeSet::new();
    for command in common_commands() {
        // An unknown member is reported before the command does anything.
        rows.push(request(&command, &json!({ "no-such-member": 1 })));
        rows.push(json!({ "execute": command, "arguments": 5, "id": 1 }).to_string());
        for (_, parameter) in parameters.iter().filter(|(name, _)| *name == command) {
            walked.insert(command.clone());
            let wrong = [
                json!(null),
                json!(true),
                json!({}),
                json!([[]]),
                json!([1]),
                json!(["x", 5]),
                json!([null]),
                json!(1.5),
                json!(1e3),
                json!(u64::MAX),
            ];
            for value in wrong {
                // With an unknown member, so that a value that is valid after all has no effect.
                rows.push(
                    json!({ "execute": command, "arguments": { *parameter: value, "x": 1 } })
                        .to_string(),
                );
            }
        }
    }
    assert!(walked.len() == parameters.len(), "tested only {walked:?}");
    rows.extend(
        [
            r#"{"execute":"guest-sync"}"#,
            r#"{"execute":"guest-sync","arguments":{"id":1,"x":2}}"#,
            r#"{"execute":"guest-sync","arguments":{"id":1.0}}"#,
            r#"{"execute":"guest-sync","arguments":{"id":"1"}}"#,
            r#"{"execute":"guest-sync","arguments":{"id":9223372036854775808}}"#,
            r#"{"execute":"guest-sync","arguments":{"x":1}}"#,
            r#"{"execute":"guest-shutdown","arguments":{"mode":"sideways"}}"#,
            r#"{"execute":"guest-shutdown","arguments":{"mode":""}}"#,
            r#"{"execute":"guest-shutdown","arguments":{"mode":"HALT"}}"#,
            r#"{"execute":"guest-shutdown","arguments":{"mode":"halt\u0000"}}"#,
            r#"{"execute":"guest-fsfreeze-freeze-list","arguments":{"mountpoints":["/",5]}}"#,
            r#"{"execute":"guest-fsfreeze-freeze-list","arguments":{"mountpoints":[{}]}}"#,
        ]
        .map(str::to_owned),
    );
    let rows: Vec<Vec<u8>> = rows.into_iter().map(String::into_bytes).collect();
    compare("arguments", &rows);
}

#[test]
fn facts_about_this_machine_equal_those_of_qemu_ga() {
    let common = common_commands();
    let harmless = [
        "guest-get-time",
        "guest-get-osinfo",
        "guest-get-host-name",
        "guest-get-timezone",
        "guest-get-users",
        "guest-get-load",
        "guest-network-get-interfaces",
        "guest-get-fsinfo",
        "guest-get-vcpus",
        "guest-fsfreeze-status",
        // The kernel refuses the trim of each path, for lack of privileges.
        "guest-fstrim",
        "guest-info",
    ];
    let mut rows: Vec<Vec<u8>> = harmless
        .iter()
        .filter(|name| common.iter().any(|command| command == **name))
        .map(|name| request(name, &json!({})).into_bytes())
        .collect();
    rows.extend(lines(&[
        r#"{"execute":"guest-fstrim","arguments":{"minimum":4096}}"#,
        r#"{"execute":"guest-fstrim","arguments":{"minimum":-1}}"#,
        // These lists select no file system.
        r#"{"execute":"guest-fsfreeze-freeze-list","arguments":{"mountpoints":[]}}"#,
        r#"{"execute":"guest-fsfreeze-freeze-list","arguments":{"mountpoints":["/no/such"]}}"#,
        r#"{"execute":"guest-fsfreeze-thaw"}"#,
    ]));
    compare("this machine", &rows);
}

/// Devices and mount points in the guest: one disk of each bus, a partition, and a device-mapper device.
const MOUNTS: [(&str, &str); 5] = [
    ("/dev/sda", "/mnt/scsi"),
    ("/dev/sdb", "/mnt/sata"),
    ("/dev/nvme0n1", "/mnt/nvme"),
    ("/dev/vdc1", "/mnt/part"),
    ("/dev/mapper/joined", "/mnt/dm"),
];

#[test]
fn replies_in_a_guest_equal_those_of_qemu_ga() {
    let mut checks = Checks::new("both in a guest");
    let scratch = Scratch::new();
    let image = |name: &str, fs| {
        let path = scratch.join(name);
        disk::raw(&path, fs);
        path
    };
    let dmsetup = program("dmsetup", "dmsetup");
    let logins = [
        login("ann", 300, 0),
        login("bob", 200, 250_000),
        login("ann", 100, 1),
    ]
    .concat();
    let overlay = Cpio::new()
        .file("root/utmp", 0o644, &logins)
        .program(&dmsetup)
        .file("usr/share/zoneinfo/Moon/Base", 0o644, &zone_file())
        .link("etc/localtime", "/usr/share/zoneinfo/Moon/Base")
        .finish();
    let partitioned = scratch.join("partitioned.raw");
    disk::partitioned(&partitioned);
    let mut guest = Machine::new(Image::Busybox)
        .overlay(&overlay)
        .reference()
        // With multipath qemu-ga does not recognize an NVMe disk.
        .kernel("nvme_core.multipath=N")
        .disk(&image("ext4.raw", Fs::Ext4))
        .disk(&image("xfs.raw", Fs::Xfs))
        .disk(&partitioned)
        .disk_as(&image("one.raw", Fs::None), "virtio-blk-pci,serial=ONE")
        .disk_as(&image("two.raw", Fs::None), "virtio-blk-pci,serial=TWO")
        .qemu(&["-device", "virtio-scsi-pci,id=scsi"])
        .disk_as(
            &image("scsi.raw", Fs::Ext4),
            "scsi-hd,bus=scsi.0,channel=0,scsi-id=3,lun=2",
        )
        .disk_as(&image("sata.raw", Fs::Ext4), "ide-hd,bus=ide.2")
        .disk_as(&image("nvme.raw", Fs::Ext4), "nvme,serial=NVME")
        .boot();
    guest.wait_shell();
    let shell = guest.shell();
    shell.run("mkdir -p /mnt; for n in 1 2 3 4 5 6; do modprobe -q sd_mod; done; sleep 1");
    // A device-mapper device across two disks.
    let joined = "0 32768 linear /dev/vdd 0\\n32768 32768 linear /dev/vde 0\\n";
    let maker = dmsetup.display();
    shell.run(&format!(
        "printf '{joined}' | DM_DISABLE_UDEV=1 {maker} create joined"
    ));
    // busybox has no mkfs.ext4, but the kernel mounts an ext2 as ext4.
    shell.run("mke2fs /dev/mapper/joined >/dev/null");
    for (device, directory) in MOUNTS {
        shell.run(&format!(
            "mkdir -p {directory} && mount -t ext4 {device} {directory}"
        ));
    }
    // A record of udev about the first disk; two logins of one user and one of another; an address with
    // a label.
    shell.run("mkdir -p /run/udev/data; echo E:ID_SERIAL=GAUNT >/run/udev/data/b$(cat /sys/block/vda/dev)");
    shell.run("cp /root/utmp /run/utmp");
    shell.run("ip addr add 10.9.9.9/24 dev eth0 label eth0:1");
    let mut ours = guest.client();
    let mut theirs = guest.reference();

    for (name, command) in [
        ("operating system", "guest-get-osinfo"),
        ("host name", "guest-get-host-name"),
        ("time zone", "guest-get-timezone"),
        ("users", "guest-get-users"),
        ("interfaces", "guest-network-get-interfaces"),
        ("CPUs", "guest-get-vcpus"),
        ("trim", "guest-fstrim"),
    ] {
        checks.run(name, || {
            let row = request(command, &json!({}));
            assert_same_reply(&mut ours, &mut theirs, &row);
            let reply = ours.get(command).to_string();
            reply.chars().take(100).collect()
        });
    }
    checks.run("file systems on disks of every kind", || {
        let row = request("guest-get-fsinfo", &json!({}));
        assert_same_reply(&mut ours, &mut theirs, &row);
        let list = ours.get("guest-get-fsinfo");
        let list = list.as_array().expect("a list");
        assert_eq!(list.len(), MOUNTS.len() + 2, "{list:?}");
        let disks: Vec<&Value> = list
            .iter()
            .flat_map(|fs| fs["disk"].as_array().expect("a list"))
            .collect();
        let all = |member: &str| -> BTreeSet<&str> {
            disks
                .iter()
                .filter_map(|disk| disk[member].as_str())
                .collect()
        };
        assert_eq!(
            all("bus-type"),
            BTreeSet::from(["nvme", "sata", "scsi", "virtio"])
        );
        // The first serial number is from udev's database, the others from sysfs.
        let serials = all("serial");
        for known in ["GAUNT", "ONE", "TWO"] {
            assert!(serials.contains(known), "no {known} among {serials:?}");
        }
        assert!(
            serials.iter().any(|serial| serial.ends_with("NVME_1")),
            "{serials:?}"
        );
        let scsi = disks
            .iter()
            .find(|disk| disk["bus-type"] == "scsi")
            .expect("a SCSI disk");
        assert_eq!((&scsi["target"], &scsi["unit"]), (&json!(3), &json!(2)));
        format!("serial numbers {serials:?}")
    });
    checks.run("counts of freeze and thaw", || {
        let mut seen = Vec::new();
        for client in [&mut ours, &mut theirs] {
            let some = json!({ "mountpoints": ["/data", "/mnt/nvme", "/mnt", "/no/such"] });
            let list = client.call("guest-fsfreeze-freeze-list", some);
            let thawed = client.get("guest-fsfreeze-thaw");
            let all = client.get("guest-fsfreeze-freeze");
            let refused = client
                .try_call("guest-fsfreeze-freeze", json!({}))
                .expect_err("already frozen");
            let written = client
                .try_call("guest-get-osinfo", json!({}))
                .expect_err("frozen");
            let status = client.get("guest-fsfreeze-status");
            let thawed_all = client.get("guest-fsfreeze-thaw");
            let again = client.get("guest-fsfreeze-thaw");
            let counts = json!([list, thawed, all, status, thawed_all, again]);
            seen.push((counts, [refused, written]));
        }
        assert_eq!(seen[0], seen[1]);
        seen[0].0.to_string()
    });
    checks.finish();
}

/// Returns a utmp record of a login, as glibc lays it out on x86-64.
fn login(user: &str, seconds: i32, microseconds: i32) -> Vec<u8> {
    const USER_PROCESS: u8 = 7;
    let mut record = vec![0; 384];
    record[0] = USER_PROCESS;
    record[44..44 + user.len()].copy_from_slice(user.as_bytes());
    record[340..344].copy_from_slice(&seconds.to_le_bytes());
    record[344..348].copy_from_slice(&microseconds.to_le_bytes());
    record
}

/// Returns a time zone file of 2:15 hours east, named GAUNT, which no default has.
fn zone_file() -> Vec<u8> {
    let mut bytes = Vec::new();
    // Version 2 has two blocks, the first with times of 32 bits. Neither has transitions here.
    for _ in 0..2 {
        bytes.extend_from_slice(b"TZif2");
        bytes.extend_from_slice(&[0; 15]);
        for count in [0_u32, 0, 0, 0, 1, 6] {
            bytes.extend_from_slice(&count.to_be_bytes());
        }
        bytes.extend_from_slice(&8100_i32.to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(b"GAUNT\0");
    }
    bytes.extend_from_slice(b"\nGAUNT-2:15\n");
    bytes
}

#[test]
fn the_comparison_masks_values_that_change_and_sorts_processors() {
    let mut value = json!([{ "used-bytes": 5, "name": "x" }, { "name": "y" }]);
    normalize("guest-get-fsinfo", &mut value);
    assert_eq!(
        value,
        json!([{ "used-bytes": "<a number>", "name": "x" }, { "name": "y" }])
    );
    let mut value = parse(br#"[{"logical-id":1},{"logical-id":0}]"#);
    normalize("guest-get-vcpus", &mut value);
    assert_eq!(value, json!([{ "logical-id": 0 }, { "logical-id": 1 }]));
}
