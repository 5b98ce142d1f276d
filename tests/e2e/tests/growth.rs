//! The cost of a list is proportional to its length: ten times as many entries cost at most 15 times
//! as much.
//!
//! Each list is requested twice, the second time with ten times as many entries. Two exact numbers are
//! compared: the system calls of the agent and its children (strace), and their instructions in user
//! space (callgrind), less those of an agent that answers only a ping. Times are not compared.
//!
//! Agents on this machine, without privileges, in a mount namespace where the directories of a [`Tree`]
//! hide /sys, /proc, /run and /etc, and in a network namespace with real interfaces. Only root can make
//! these namespaces; otherwise the tests are skipped. Needs strace, valgrind and iproute2.

use std::fmt::Write as _;

use gaunt_e2e::agent::Agent;
use gaunt_e2e::checks::Checks;
use gaunt_e2e::client::{Client, request};
use gaunt_e2e::scratch::{NOBODY, is_root};
use gaunt_e2e::tree::Tree;
use gaunt_e2e::wait;
use serde_json::{Value, json};
use std::time::Duration;

/// Largest ratio of the costs of a list to those of a list with a tenth of its entries.
const MAX_RATIO: u64 = 15;

/// Time limit of a reply under callgrind.
const LIMIT: Duration = Duration::from_secs(120);

/// A made-up machine, and the requests that list or change its entries.
struct Case {
    tree: Tree,
    interfaces: String,
    requests: Vec<String>,
    /// Counts the entries in the value of one reply.
    count: Box<dyn Fn(&Value) -> usize>,
}

/// Makes a case with this number of entries.
type Make = fn(usize) -> Case;

impl Case {
    fn new(tree: Tree, command: &str, count: impl Fn(&Value) -> usize + 'static) -> Case {
        let count = Box::new(count);
        Case {
            tree,
            interfaces: String::new(),
            requests: vec![request(command, &json!({}))],
            count,
        }
    }

    fn with(
        tree: Tree,
        command: &str,
        arguments: Value,
        count: impl Fn(&Value) -> usize + 'static,
    ) -> Case {
        let requests = vec![request(command, &arguments)];
        Case {
            requests,
            ..Case::new(tree, command, count)
        }
    }

    /// Sends all requests. Returns the number of entries in their replies.
    fn ask(&self, agent: &Agent, client: &mut Client) -> usize {
        client.limit = LIMIT;
        let (mut entries, mut pids) = (0, Vec::new());
        for request in &self.requests {
            let reply = client.ask(request);
            let value = reply.get("return");
            let value = value.unwrap_or_else(|| panic!("{request:.200}: {reply}\n{}", agent.log()));
            entries += (self.count)(value);
            pids.extend(value["pid"].as_i64());
        }
        for pid in pids {
            client.call("guest-exec-status", json!({ "pid": pid }));
        }
        entries
    }

    fn system_calls(&self, entries: usize) -> u64 {
        let agent = Agent::in_tree(&self.tree, &self.interfaces);
        let mut client = agent.client();
        client.get("guest-ping");
        let log = agent.state().join("calls");
        let mut tracer = agent.trace(&["-c", "-o", log.to_str().expect("a plain path")]);
        assert_eq!(self.ask(&agent, &mut client), entries);
        tracer.signal(libc::SIGINT);
        assert!(tracer.wait(wait::ANSWER).is_some());
        let calls = std::fs::read_to_string(&log).expect("the output of strace");
        // The last line holds the sums: share, seconds, microseconds a call, calls.
        let total = calls.lines().find(|line| line.ends_with(" total"));
        let number = total.and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
        number.unwrap_or_else(|| panic!("no sum in:\n{calls}"))
    }

    fn instructions(&self, entries: usize) -> u64 {
        let agent = Agent::under_callgrind_in_tree(&self.tree, &self.interfaces);
        let mut client = agent.client();
        client.get("guest-ping");
        assert_eq!(self.ask(&agent, &mut client), entries);
        agent.instructions()
    }
}

/// Returns the instructions of an agent that answers only a ping.
fn at_rest() -> u64 {
    let agent = Agent::under_callgrind_in_tree(&Tree::new(), "");
    agent.client().get("guest-ping");
    agent.instructions()
}

/// Asserts that ten times as many entries as `few` cost at most [`MAX_RATIO`] times as much.
fn assert_proportional(few: usize, at_rest: u64, case: Make) -> String {
    let mut evidence = String::new();
    let mut costs = [[0; 2]; 2];
    for (entries, costs) in [few, 10 * few].into_iter().zip(&mut costs) {
        let case = case(entries);
        let instructions = case.instructions(entries);
        *costs = [
            case.system_calls(entries),
            instructions.saturating_sub(at_rest),
        ];
    }
    let [before, after] = costs;
    let mut fits = true;
    for (what, before, after) in [
        ("system calls", before[0], after[0]),
        ("instructions", before[1], after[1]),
    ] {
        fits &= after <= MAX_RATIO * before;
        let times = after as f64 / before as f64;
        let _ = write!(evidence, "{what} {before} -> {after} ({times:.1} times), ");
    }
    assert!(fits, "{few} and ten times as many entries: {evidence}");
    format!(
        "{few} and ten times as many: {}",
        evidence.trim_end_matches(", ")
    )
}

fn items(value: &Value) -> usize {
    value.as_array().map_or(0, Vec::len)
}

/// Adds a block device: links, uevent, size, and for a disk its `slaves` directory.
fn device(tree: &Tree, path: &str, minor: usize, kind: &str) {
    let name = path.rsplit('/').next().expect("a name");
    let top = format!("sys/devices/{path}");
    let uevent = format!("MAJOR=259\nMINOR={minor}\nDEVNAME={name}\nDEVTYPE={kind}\n");
    tree.file(&format!("{top}/uevent"), uevent);
    tree.file(&format!("{top}/size"), "2048\n");
    if kind == "disk" {
        tree.directory(&format!("{top}/slaves"));
    }
    let depth = "../../";
    tree.link(
        &format!("sys/class/block/{name}"),
        &format!("{depth}devices/{path}"),
    );
    tree.link(
        &format!("sys/dev/block/259:{minor}"),
        &format!("{depth}devices/{path}"),
    );
}

const CONTROLLER: &str = "pci0000:00/0000:00:05.0";

fn driver(tree: &Tree, name: &str) {
    let target = format!("../../../bus/pci/drivers/{name}");
    tree.link(&format!("sys/devices/{CONTROLLER}/driver"), &target);
}

/// Returns the path of a disk on a virtio-scsi controller, below /sys/devices.
fn scsi(number: usize) -> String {
    format!("{CONTROLLER}/virtio2/host2/target2:0:{number}/2:0:{number}:0/block/sd{number}")
}

fn scsi_disks(disks: usize) -> Tree {
    let tree = Tree::new();
    driver(&tree, "virtio-pci");
    for number in 0..disks {
        device(&tree, &scsi(number), number, "disk");
        let serial = format!("sys/devices/{}/device/vendor", scsi(number));
        tree.file(&serial, "QEMU    \n");
    }
    tree
}

fn disks(disks: usize) -> Case {
    Case::new(scsi_disks(disks), "guest-get-disks", items)
}

fn loops(devices: usize) -> Case {
    let tree = Tree::new();
    for number in 0..devices {
        device(
            &tree,
            &format!("virtual/block/loop{number}"),
            number,
            "disk",
        );
    }
    Case::new(tree, "guest-get-disks", items)
}

fn partitions(partitions: usize) -> Case {
    let tree = scsi_disks(1);
    for number in 1..=partitions {
        let path = format!("{}/sd0p{number}", scsi(0));
        device(&tree, &path, number, "partition");
    }
    Case::new(tree, "guest-get-disks", |list| items(list) - 1)
}

/// Namespaces of an NVMe subsystem, each the head of its multipath devices.
fn namespaces(namespaces: usize) -> Case {
    let tree = Tree::new();
    driver(&tree, "nvme");
    let subsystem = "virtual/nvme-subsystem/nvme-subsys0";
    let link = format!("sys/devices/{subsystem}/nvme0");
    tree.link(&link, &format!("../../../{CONTROLLER}/nvme/nvme0"));
    for number in 0..namespaces {
        device(
            &tree,
            &format!("{subsystem}/nvme0n{number}"),
            number,
            "disk",
        );
    }
    Case::new(tree, "guest-get-disks", |list| {
        let list = list.as_array().expect("a list").iter();
        list.filter(|disk| disk["address"]["bus-type"] == "nvme")
            .count()
    })
}

/// A RAID array of this number of disks.
fn array(disks: usize) -> Tree {
    let tree = scsi_disks(disks);
    let array = "virtual/block/md0";
    device(&tree, array, disks, "disk");
    for number in 0..disks {
        let link = format!("sys/devices/{array}/slaves/sd{number}");
        tree.link(&link, &format!("../../../../{}", scsi(number)));
    }
    tree
}

fn members_of_an_array(disks: usize) -> Case {
    Case::new(array(disks), "guest-get-disks", |list| {
        let list = list.as_array().expect("a list").iter();
        list.map(|disk| items(&disk["dependencies"])).sum()
    })
}

fn disks_of_a_file_system(disks: usize) -> Case {
    let tree = array(disks);
    let table = format!("22 1 259:{disks} / /nowhere rw - ext4 /dev/md0 rw\n");
    tree.file("proc/self/mountinfo", table);
    Case::new(tree, "guest-get-fsinfo", |list| items(&list[0]["disk"]))
}

fn file_systems(mounts: usize) -> Case {
    let tree = Tree::new();
    let mut table = String::new();
    for number in 0..mounts {
        let (major, minor) = (259 + number / 256, number % 256);
        let _ = writeln!(
            table,
            "{} 1 {major}:{minor} / /nowhere/{number} rw - ext4 /dev/x{number} rw",
            22 + number
        );
    }
    tree.file("proc/self/mountinfo", table);
    Case::new(tree, "guest-get-fsinfo", items)
}

fn trimmed(mounts: usize) -> Case {
    Case::new(file_systems(mounts).tree, "guest-fstrim", |value| {
        items(&value["paths"])
    })
}

/// A freeze with a list of paths that are no mount points, so that nothing is frozen.
fn mount_points(chosen: usize) -> Case {
    let list: Vec<String> = (0..chosen)
        .map(|number| format!("/elsewhere/{number}"))
        .collect();
    let arguments = json!({ "mountpoints": list });
    let tree = file_systems(chosen).tree;
    Case::with(
        tree,
        "guest-fsfreeze-freeze-list",
        arguments,
        move |value| {
            assert_eq!(value, &json!(0));
            chosen
        },
    )
}

fn processors(processors: usize) -> Case {
    let tree = Tree::new();
    for number in 0..processors {
        tree.file(&format!("sys/devices/system/cpu/cpu{number}/online"), "1\n");
    }
    Case::new(tree, "guest-get-vcpus", items)
}

fn memory(blocks: usize) -> Tree {
    let tree = Tree::new();
    for number in 0..blocks {
        let block = format!("sys/devices/system/memory/memory{number}");
        tree.file(&format!("{block}/state"), "online\n");
        tree.file(&format!("{block}/removable"), "1\n");
    }
    tree
}

fn memory_blocks(blocks: usize) -> Case {
    Case::new(memory(blocks), "guest-get-memory-blocks", items)
}

fn memory_blocks_set(blocks: usize) -> Case {
    let list: Vec<Value> = (0..blocks)
        .map(|number| json!({ "phys-index": number, "online": true }))
        .collect();
    let arguments = json!({ "mem-blks": list });
    Case::with(memory(blocks), "guest-set-memory-blocks", arguments, items)
}

fn interfaces(interfaces: usize) -> Case {
    let mut lines = String::new();
    for number in 0..interfaces / 2 {
        let _ = writeln!(lines, "link add a{number} type veth peer name b{number}");
        let (high, low) = (number / 256, number % 256);
        let _ = writeln!(lines, "addr add 10.{high}.{low}.1/24 dev a{number}");
    }
    // The loopback interface does not count.
    let case = Case::new(Tree::new(), "guest-network-get-interfaces", |list| {
        items(list) - 1
    });
    Case {
        interfaces: lines,
        ..case
    }
}

fn addresses(addresses: usize) -> Case {
    let mut lines = String::from("link add veth-a type veth peer name veth-b\n");
    for number in 0..addresses {
        let (high, low) = (number / 256, number % 256);
        let _ = writeln!(lines, "addr add 10.1.{high}.{low}/8 dev veth-a");
    }
    let case = Case::new(Tree::new(), "guest-network-get-interfaces", |list| {
        let list = list.as_array().expect("a list").iter();
        list.map(|interface| items(&interface["ip-addresses"]))
            .sum()
    });
    Case {
        interfaces: lines,
        ..case
    }
}

fn routes(routes: usize) -> Case {
    let tree = Tree::new();
    let mut table =
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
            .to_owned();
    for number in 0..routes {
        let _ = writeln!(
            table,
            "eth0\t{number:08X}\t00000000\t0001\t0\t0\t0\tFFFFFFFF\t0\t0\t0"
        );
    }
    tree.file("proc/net/route", table);
    Case::new(tree, "guest-network-get-route", items)
}

fn routes_of_ipv6(routes: usize) -> Case {
    let tree = Tree::new();
    let zeros = "0".repeat(32);
    let mut table = String::new();
    for number in 0..routes {
        let _ = writeln!(
            table,
            "20010db8{number:024x} 80 {zeros} 00 {zeros} 00000100 00000001 00000000 00000001 eth0"
        );
    }
    tree.file("proc/net/ipv6_route", table);
    Case::new(tree, "guest-network-get-route", items)
}

fn disk_statistics(disks: usize) -> Case {
    let tree = Tree::new();
    let mut table = String::new();
    for number in 0..disks {
        let _ = writeln!(table, " 259 {number} sd{number} 1 2 3 4 5 6 7 8 9 10 11");
    }
    tree.file("proc/diskstats", table);
    Case::new(tree, "guest-get-diskstats", items)
}

fn processor_statistics(processors: usize) -> Case {
    let tree = Tree::new();
    let mut table = "cpu  1 2 3 4 5 6 7 8 9 10\n".to_owned();
    for number in 0..processors {
        let _ = writeln!(table, "cpu{number} 1 2 3 4 5 6 7 8 9 10");
    }
    tree.file("proc/stat", table);
    Case::new(tree, "guest-get-cpustats", items)
}

/// Returns a utmp file with one login of each user.
fn utmp(users: usize, name: impl Fn(usize) -> String) -> Vec<u8> {
    // Length of a record in glibc's bits/utmpx.h. Its type, user and time are at 0, 44 and 340.
    const RECORD: usize = 384;
    let mut file = vec![0; users * RECORD];
    for (number, record) in file.chunks_mut(RECORD).enumerate() {
        let name = name(number);
        record[0] = 7;
        record[44..44 + name.len()].copy_from_slice(name.as_bytes());
        record[340..344].copy_from_slice(&1_700_000_000u32.to_ne_bytes());
    }
    file
}

fn users(users: usize) -> Case {
    let tree = Tree::new();
    let name = |number: usize| format!("user{number}");
    tree.file("run/utmp", utmp(users, name));
    tree.directory("var");
    Case::new(tree, "guest-get-users", items)
}

/// Returns a key of the usual length.
fn key(number: usize) -> String {
    format!("ssh-ed25519 {number:068} user{number}@host")
}

fn keys(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(key).collect()
}

/// A machine whose user `nobody` has this number of keys.
fn home(known: usize) -> Tree {
    let tree = Tree::new();
    let passwd = format!("nobody:x:{NOBODY}:{NOBODY}::/run/home:/bin/sh\n");
    tree.file("etc/passwd", passwd);
    tree.file("etc/group", "");
    let file = keys(0..known).join("\n") + "\n";
    tree.file("run/home/.ssh/authorized_keys", file);
    tree.give_away();
    tree
}

fn keys_listed(known: usize) -> Case {
    let arguments = json!({ "username": "nobody" });
    let command = "guest-ssh-get-authorized-keys";
    Case::with(home(known), command, arguments, |value| {
        items(&value["keys"])
    })
}

/// Adds keys, half of which the file already has, and lists the keys.
fn keys_added(wanted: usize) -> Case {
    let keys = keys(0..wanted);
    let arguments = json!({ "username": "nobody", "keys": keys });
    let add = request("guest-ssh-add-authorized-keys", &arguments);
    let mut case = keys_listed(wanted / 2);
    case.requests.insert(0, add);
    case
}

/// Removes half of the keys and lists the rest.
fn keys_removed(removed: usize) -> Case {
    let keys = keys(removed..2 * removed);
    let arguments = json!({ "username": "nobody", "keys": keys });
    let remove = request("guest-ssh-remove-authorized-keys", &arguments);
    let mut case = keys_listed(2 * removed);
    case.requests.insert(0, remove);
    case
}

/// Starts programs and asks for the status of each.
fn programs(programs: usize) -> Case {
    let tree = Tree::new();
    let exec = request("guest-exec", &json!({ "path": "/bin/true" }));
    let case = Case::new(tree, "", |value| usize::from(value["pid"].is_number()));
    Case {
        requests: vec![exec; programs],
        ..case
    }
}

#[test]
fn ten_times_as_many_entries_cost_at_most_15_times_as_much() {
    if !is_root() {
        eprintln!("SKIP: only root can mount a made-up tree");
        return;
    }
    let mut checks = Checks::new("growth");
    let at_rest = at_rest();
    let cases: [(&'static str, usize, Make); 23] = [
        ("disks", 60, disks),
        ("loop devices", 60, loops),
        ("partitions", 60, partitions),
        ("NVMe namespaces", 60, namespaces),
        ("members of an array", 60, members_of_an_array),
        ("disks of a file system", 60, disks_of_a_file_system),
        ("file systems", 400, file_systems),
        ("file systems trimmed", 400, trimmed),
        ("mount points chosen", 200, mount_points),
        ("processors", 100, processors),
        ("memory blocks", 100, memory_blocks),
        ("memory blocks set", 100, memory_blocks_set),
        ("interfaces", 60, interfaces),
        ("addresses of an interface", 60, addresses),
        ("routes", 1000, routes),
        ("routes of IPv6", 1000, routes_of_ipv6),
        ("statistics of disks", 1000, disk_statistics),
        ("statistics of processors", 100, processor_statistics),
        ("users", 1000, users),
        ("keys", 100, keys_listed),
        ("keys added", 100, keys_added),
        ("keys removed", 100, keys_removed),
        ("programs", 12, programs),
    ];
    for (name, few, case) in cases {
        checks.run(name, || assert_proportional(few, at_rest, case));
    }
    checks.finish();
}

#[test]
fn a_list_past_the_limit_is_an_error_that_states_the_limit() {
    if !is_root() {
        eprintln!("SKIP: only root can mount a made-up tree");
        return;
    }
    let tree = Tree::new();
    let name = |number: usize| format!("user-{number:027}");
    tree.file("run/utmp", utmp(160_000, name));
    tree.directory("var");
    let agent = Agent::in_tree(&tree, "");
    let mut client = agent.client();
    client.limit = LIMIT;
    let refusal = client.try_call("guest-get-users", json!({})).unwrap_err();
    assert_eq!(refusal.desc, "the reply is larger than 10 MiB");
    assert_eq!(client.get("guest-ping"), json!({}));
    // A list just below the limit is complete.
    tree.file("run/utmp", utmp(120_000, name));
    let list = client.get("guest-get-users");
    assert_eq!(items(&list), 120_000);
    let last = &list[119_999]["user"];
    assert_eq!(last, &json!(name(119_999)));
}
