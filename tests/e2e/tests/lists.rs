//! Long lists are complete, equal those of qemu-ga, and take little memory.
//!
//! Guest: the busybox image with qemu-ga, an ext4 disk, and hundreds of interfaces, addresses, loop
//! devices and mounts. Needs QEMU, the images and qemu-ga. Longer lists than a guest can have (100,000
//! memory blocks, 1,024 processors, 1,000 disks) are covered by the agent's unit tests; the costs of
//! lists by `growth.rs`.

use std::time::Instant;

use gaunt_e2e::checks::Checks;
use gaunt_e2e::client::{Client, request};
use gaunt_e2e::compare::assert_same_reply;
use gaunt_e2e::cpio::Cpio;
use gaunt_e2e::disk::{self, Fs};
use gaunt_e2e::guest::{Guest, Image, Machine};
use gaunt_e2e::modules::Modules;
use gaunt_e2e::scratch::Scratch;
use serde_json::{Value, json};

const INTERFACES: usize = 800;
/// IPv4 addresses added to the interfaces.
const ADDRESSES: usize = 1000;
const MOUNTS: usize = 2000;
const LOOP_DEVICES: usize = 400;
/// Limit of the agent's peak memory, the same as for a read of 48 MiB.
const PEAK_KB: u64 = 1024;

#[test]
fn long_lists_are_complete_and_take_little_memory() {
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
    // Many short scripts: busybox's ip looks at every interface on each call, which takes time.
    shell.run(&format!(
        "mkdir -p /data/from /run/m; (cd /run/m && mkdir $(seq {MOUNTS}))"
    ));

    checks.run("interfaces", || {
        let (list, evidence) = assert_same(&mut guest, &mut ours, &mut theirs, GET_INTERFACES);
        assert_eq!(list.len(), INTERFACES + 2);
        evidence
    });
    checks.run(
        "interfaces and addresses are in the documented order",
        || {
            // Added in an order unlike that of the reply.
            for address in ["169.254.7.7/16", "fe80::7/64", "fd00::7/64", "192.0.2.7/24"] {
                let set = format!("ip addr add {address} dev dummy7");
                guest.shell().run(&set);
            }
            let list = ours.get(GET_INTERFACES);
            let list = list.as_array().expect("a list");
            let names: Vec<&Value> = list.iter().map(|interface| &interface["name"]).collect();
            // Hardware first, then virtual interfaces, then the loopback interface.
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
        },
    );
    for hundred in 0..ADDRESSES / 100 {
        guest.shell().run(&format!(
            "for n in $(seq 100); do \
             ip addr add 10.1{hundred}.$n.1/24 dev dummy$((n % 7 * {hundred})); done"
        ));
    }
    checks.run("addresses", || {
        let (list, evidence) = assert_same(&mut guest, &mut ours, &mut theirs, GET_INTERFACES);
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
        // Not compared with qemu-ga, which reports some route numbers wrongly: see `hardware.rs`.
        let start = Instant::now();
        let list = ours.get("guest-network-get-route");
        let took = start.elapsed();
        let list = list.as_array().expect("a list");
        let lines = guest
            .shell()
            .run("cat /proc/net/route /proc/net/ipv6_route | wc -l");
        // The first line of /proc/net/route is a heading.
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
            // The agents list disks in different orders.
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
        let (list, evidence) = assert_same(&mut guest, &mut ours, &mut theirs, "guest-get-fsinfo");
        assert!(list.iter().any(|fs| fs["mountpoint"] == "/data"));
        evidence
    });
    checks.run("a file system with many bind mounts is frozen once", || {
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
    checks.run("the agent's peak memory stays within its limit", || {
        let peak = status_kb(&mut guest, "VmHWM");
        assert!(peak <= PEAK_KB, "{peak} kB at most");
        format!(
            "{peak} kB at most, {} kB now",
            status_kb(&mut guest, "VmRSS")
        )
    });
    checks.finish();
}

const GET_INTERFACES: &str = "guest-network-get-interfaces";

/// Asserts that both agents return the same list. Returns the list, and how long each agent took.
fn assert_same(
    guest: &mut Guest,
    ours: &mut Client,
    theirs: &mut Client,
    command: &str,
) -> (Vec<Value>, String) {
    let row = request(command, &json!({}));
    assert_same_reply(ours, theirs, &row);
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
        status_kb(guest, "VmHWM")
    );
    (list, evidence)
}

/// Returns a number of kB in the agent's /proc/PID/status.
fn status_kb(guest: &mut Guest, name: &str) -> u64 {
    let said = guest.shell().run(&format!(
        "sed -n 's/^{name}:[^0-9]*\\([0-9]*\\) kB/\\1/p' /proc/$(cat /run/agent.pid)/status"
    ));
    said.parse().expect("a number")
}
