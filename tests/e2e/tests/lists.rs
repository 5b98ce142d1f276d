//! Lists as long as machines make them: no reply is cut short, and none needs memory that stays.
//!
//! What no guest here can have (100,000 memory blocks, 1,024 processors, 1,000 disks) is tested on
//! made-up trees beside the code, and what more entries cost in `growth`.

use std::time::Instant;

use gaunt_e2e::checks::Checks;
use gaunt_e2e::client::{Client, request};
use gaunt_e2e::compare::difference;
use gaunt_e2e::cpio::Cpio;
use gaunt_e2e::disk::{self, Fs};
use gaunt_e2e::guest::{Guest, Image, Machine};
use gaunt_e2e::modules::Modules;
use gaunt_e2e::scratch::Scratch;
use serde_json::{Value, json};

const INTERFACES: usize = 800;
/// Besides those that the interfaces have of themselves.
const ADDRESSES: usize = 1000;
const MOUNTS: usize = 2000;
const LOOP_DEVICES: usize = 400;
/// What the agent may take for a while, as for a read of 48 MiB.
const PEAK_KB: u64 = 1024;

#[test]
fn long_lists_are_whole() {
    let mut checks = Checks::new("lists");
    let scratch = Scratch::new();
    let path = scratch.join("ext4.raw");
    disk::raw(&path, Fs::Ext4);
    let modules = Modules::of(&["dummy", "loop"]);
    let mut guest = Machine::new(Image::Busybox)
        .overlay(&modules.put(Cpio::new()).finish())
        .disk(&path)
        .reference()
        .boot();
    guest.wait_shell();
    let (mut ours, mut theirs) = (guest.client(), guest.reference());
    let shell = guest.shell();
    shell.run(&format!(
        "insmod /root/modules/*-dummy.ko numdummies={INTERFACES}"
    ));
    // Busybox tries each interface of its own, and is not fast: the scripts are kept short.
    shell.run(&format!(
        "mkdir -p /data/from /run/m; (cd /run/m && mkdir $(seq {MOUNTS}))"
    ));

    checks.run("interfaces", || {
        let (list, evidence) = same(&mut guest, &mut ours, &mut theirs, INTERFACES_OF);
        assert_eq!(list.len(), INTERFACES + 2);
        evidence
    });
    checks.run("the order of interfaces and of their addresses", || {
        // Given in the order that clients are least served by.
        for address in ["169.254.7.7/16", "fe80::7/64", "fd00::7/64", "192.0.2.7/24"] {
            let set = format!("ip addr add {address} dev dummy7");
            guest.shell().run(&set);
        }
        let list = ours.get(INTERFACES_OF);
        let list = list.as_array().expect("a list");
        let names: Vec<&Value> = list.iter().map(|interface| &interface["name"]).collect();
        // The one that is hardware, those that are not, and the one that leads nowhere.
        assert_eq!(
            (names[0], names.last()),
            (&json!("eth0"), Some(&&json!("lo")))
        );
        let seventh = list.iter().find(|interface| interface["name"] == "dummy7");
        let addresses = seventh.expect("it is listed")["ip-addresses"].as_array();
        let addresses = addresses.expect("a list").iter();
        let texts: Vec<&str> = addresses
            .filter_map(|address| address["ip-address"].as_str())
            .collect();
        assert_eq!(texts[..3], ["192.0.2.7", "fd00::7", "169.254.7.7"]);
        assert!(
            texts[3..].iter().all(|text| text.starts_with("fe80:")),
            "{texts:?}"
        );
        texts.join(", ")
    });
    for hundred in 0..ADDRESSES / 100 {
        guest.shell().run(&format!(
            "for n in $(seq 100); do \
             ip addr add 10.1{hundred}.$n.1/24 dev dummy$((n % 7 * {hundred})); done"
        ));
    }
    checks.run("addresses", || {
        let (list, evidence) = same(&mut guest, &mut ours, &mut theirs, INTERFACES_OF);
        let addresses = list
            .iter()
            .filter_map(|interface| interface["ip-addresses"].as_array());
        assert!(addresses.map(Vec::len).sum::<usize>() >= ADDRESSES);
        evidence
    });
    checks.run("routes", || {
        guest
            .shell()
            .run("for n in $(seq 0 60); do ip link set dummy$n up; done");
        // Not compared: what is left of qemu-ga's signs is shown in `hardware`.
        let start = Instant::now();
        let list = ours.get("guest-network-get-route");
        let took = start.elapsed();
        let list = list.as_array().expect("a list");
        let lines = guest
            .shell()
            .run("cat /proc/net/route /proc/net/ipv6_route | wc -l");
        // One line is a heading.
        assert_eq!(list.len() + 1, lines.parse::<usize>().expect("a number"));
        assert!(list.len() > ADDRESSES);
        format!("{} in {took:.0?}", list.len())
    });
    checks.run("loop devices", || {
        let shell = guest.shell();
        shell.run(&format!(
            "rmmod loop; insmod /root/modules/*-loop.ko max_loop={LOOP_DEVICES}; \
             dd if=/dev/zero of=/run/loop bs=4096 count=1"
        ));
        for first in (0..LOOP_DEVICES).step_by(100) {
            let last = first + 99;
            shell.run(&format!(
                "for n in $(seq {first} {last}); do losetup /dev/loop$n /run/loop; done"
            ));
        }
        let mut lists = Vec::new();
        let mut took = Vec::new();
        for client in [&mut ours, &mut theirs] {
            let start = Instant::now();
            let list = client.get("guest-get-disks");
            took.push(start.elapsed());
            // Each agent has an order of its own.
            let mut disks = list.as_array().expect("a list").clone();
            disks.sort_by_key(|disk| disk["name"].to_string());
            lists.push(disks);
        }
        let loops = |disk: &&Value| disk["name"].as_str().is_some_and(|n| n.contains("/loop"));
        assert_eq!(lists[0].iter().filter(loops).count(), LOOP_DEVICES);
        assert_eq!(lists[0].len(), lists[1].len());
        for (one, other) in lists[0].iter().zip(&lists[1]).filter(|(one, _)| loops(one)) {
            assert_eq!(one, other);
        }
        assert!(took[0] < 10 * took[1], "{took:?}");
        format!("{LOOP_DEVICES} in {:.0?}, qemu-ga {:.0?}", took[0], took[1])
    });
    checks.run("bind mounts", || {
        for quarter in 0..4 {
            let count = MOUNTS / 4;
            guest.shell().run(&format!(
                "for n in $(seq {} {}); do mount --bind /data/from /run/m/$n; done",
                quarter * count + 1,
                (quarter + 1) * count
            ));
        }
        let mounts = guest.shell().run("grep -c /run/m/ /proc/mounts");
        assert_eq!(mounts, MOUNTS.to_string());
        let (list, evidence) = same(&mut guest, &mut ours, &mut theirs, "guest-get-fsinfo");
        assert!(list.iter().any(|fs| fs["mountpoint"] == "/data"));
        evidence
    });
    checks.run("bind mounts are frozen once", || {
        let mut counts = Vec::new();
        for client in [&mut ours, &mut theirs] {
            let start = Instant::now();
            let frozen = client.get("guest-fsfreeze-freeze");
            let thawed = client.get("guest-fsfreeze-thaw");
            counts.push((frozen, thawed, start.elapsed()));
        }
        assert_eq!(counts[0].0, counts[1].0);
        assert_eq!(counts[0].1, counts[1].1);
        format!("{counts:?}")
    });
    checks.run("and of all that nothing stays", || {
        let peak = status(&mut guest, "VmHWM");
        assert!(peak <= PEAK_KB, "{peak} kB at most");
        format!("{peak} kB at most, {} kB now", status(&mut guest, "VmRSS"))
    });
    checks.finish();
}

const INTERFACES_OF: &str = "guest-network-get-interfaces";

/// A list that both agents give alike; the evidence says how long each took.
fn same(
    guest: &mut Guest,
    ours: &mut Client,
    theirs: &mut Client,
    command: &str,
) -> (Vec<Value>, String) {
    let row = request(command, &json!({}));
    let difference = difference(ours, theirs, row.as_bytes());
    assert!(difference.is_none(), "{}", difference.unwrap_or_default());
    let mut took = Vec::new();
    let mut lists = Vec::new();
    for client in [ours, theirs] {
        let start = Instant::now();
        lists.push(client.get(command));
        took.push(start.elapsed());
    }
    let list = lists[0].as_array().expect("a list").clone();
    let evidence = format!(
        "{} in {:.0?}, qemu-ga {:.0?}; {} kB at most",
        list.len(),
        took[0],
        took[1],
        status(guest, "VmHWM")
    );
    (list, evidence)
}

/// A line of the agent's status, in kB.
fn status(guest: &mut Guest, name: &str) -> u64 {
    let said = guest.shell().run(&format!(
        "sed -n 's/^{name}:[^0-9]*\\([0-9]*\\) kB/\\1/p' /proc/$(cat /run/agent.pid)/status"
    ));
    said.parse().expect("a number")
}
