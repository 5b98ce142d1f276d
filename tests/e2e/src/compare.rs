//! The same requests to gaunt and to the reference; the replies must be equal.
//!
//! Equal as JSON, that is whatever the order of members, after numbers that change by themselves
//! have been checked for their type and taken out. Differences that are meant are listed with their
//! reason; a listed difference that is none is a failure too, so that the list stays true.

use serde_json::{Value, json};

use crate::agent::Agent;
use crate::client::{Client, request};
use crate::reference::reference;
use crate::wait;

/// Requests, as they go over the wire, whose replies differ, and why.
const MEANT: [(&str, &str); 1] = [(
    r#"{"execute":"guest-ping","id":1e999}"#,
    "Q1: qemu-ga echoes a double that overflows as `inf`, which is not JSON",
)];

/// A member of the reply to a command whose value is no part of the comparison, only its type.
/// `*` stands for any index or member.
const VOLATILE: [(&str, &str); 25] = [
    ("guest-get-time", ""),
    ("guest-info", "/version"),
    ("guest-info", "/supported_commands"),
    ("guest-get-load", "/load1m"),
    ("guest-get-load", "/load5m"),
    ("guest-get-load", "/load15m"),
    ("guest-get-fsinfo", "/*/used-bytes"),
    ("guest-get-fsinfo", "/*/total-bytes"),
    ("guest-network-get-interfaces", "/*/statistics/rx-bytes"),
    ("guest-network-get-interfaces", "/*/statistics/rx-packets"),
    ("guest-network-get-interfaces", "/*/statistics/tx-bytes"),
    ("guest-network-get-interfaces", "/*/statistics/tx-packets"),
    ("guest-get-diskstats", "/*/stats/*"),
    ("guest-get-cpustats", "/*/user"),
    ("guest-get-cpustats", "/*/nice"),
    ("guest-get-cpustats", "/*/system"),
    ("guest-get-cpustats", "/*/idle"),
    ("guest-get-cpustats", "/*/iowait"),
    ("guest-get-cpustats", "/*/irq"),
    ("guest-get-cpustats", "/*/softirq"),
    ("guest-get-cpustats", "/*/steal"),
    ("guest-get-cpustats", "/*/guest"),
    ("guest-get-cpustats", "/*/guestnice"),
    ("guest-get-disks", "/*/smart/*"),
    // What one has trimmed the other need not trim again.
    ("guest-fstrim", "/paths/*/trimmed"),
];

/// Everything an agent says to some bytes: all lines until it answers a sync sent behind them.
fn all_replies(client: &mut Client, bytes: &[u8]) -> Vec<Value> {
    const MARK: i64 = 0x6D61_726B;
    client.send(bytes);
    // Out of whatever the bytes left open; it costs the same error line on both sides.
    client.send(b"\n\xff\n");
    client.send(request("guest-sync", &json!({ "id": MARK })));
    let mut replies = Vec::new();
    loop {
        let line = client.line(wait::ANSWER).expect("a reply");
        let line = line.strip_prefix(b"\xff").unwrap_or(&line);
        // qemu-ga can write what is not JSON; that is for the comparison to see.
        let reply = serde_json::from_slice(line)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(line).into_owned()));
        if reply["return"] == MARK {
            // Where our own stray byte is depends on what else the connection was used for.
            if let Some(last) = replies.last_mut()
                && desc(last).is_some_and(|desc| desc.ends_with("stray '\u{fffd}'"))
            {
                strip_position(last);
            }
            return replies;
        }
        replies.push(reply);
    }
}

/// Takes out what changes by itself, leaving its type.
pub fn settle(command: &str, value: &mut Value) {
    for (_, pointer) in VOLATILE.iter().filter(|(name, _)| *name == command) {
        let parts: Vec<&str> = pointer.split('/').skip(1).collect();
        blank(value, &parts);
    }
    if command == "guest-network-get-interfaces" {
        align_interfaces(value);
    }
    // In the order of directories, which is that of a hash, and here in that of names.
    if command == "guest-get-disks"
        && let Some(list) = value.as_array_mut()
    {
        for disk in &mut *list {
            if let Some(below) = disk.get_mut("dependencies").and_then(Value::as_array_mut) {
                below.sort_by_key(Value::to_string);
            }
        }
        list.sort_by_key(|disk| disk["name"].to_string());
    }
    // The same is true of the disks of one file system.
    if command == "guest-get-fsinfo" {
        for fs in value.as_array_mut().into_iter().flatten() {
            if let Some(disks) = fs.get_mut("disk").and_then(Value::as_array_mut) {
                disks.sort_by_key(|disk| disk["dev"].to_string());
            }
        }
    }
    // In no order by contract: the kernel's own, which differs from one walk to another.
    if command == "guest-get-vcpus"
        && let Some(list) = value.as_array_mut()
    {
        list.sort_by_key(|cpu| cpu["logical-id"].as_i64());
    }
}

/// gaunt lists real devices first and the loopback last, link-local addresses after all others, and
/// an address with a label of its own with its interface, where qemu-ga makes it one of its own.
fn align_interfaces(value: &mut Value) {
    let Some(list) = value.as_array_mut() else {
        return;
    };
    let (labels, mut interfaces): (Vec<Value>, Vec<Value>) = list
        .drain(..)
        .partition(|one| one["name"].as_str().is_some_and(|name| name.contains(':')));
    for mut label in labels {
        let name = label["name"].as_str().unwrap_or_default();
        let name = name.split(':').next().unwrap_or_default().to_owned();
        let addresses = label["ip-addresses"].take();
        let interface = interfaces.iter_mut().find(|one| one["name"] == *name);
        if let (Some(interface), Value::Array(addresses)) = (interface, addresses)
            && let Some(list) = interface
                .get_mut("ip-addresses")
                .and_then(Value::as_array_mut)
        {
            list.extend(addresses);
        }
    }
    for interface in &mut interfaces {
        if let Some(addresses) = interface
            .get_mut("ip-addresses")
            .and_then(Value::as_array_mut)
        {
            addresses.sort_by_key(Value::to_string);
        }
    }
    interfaces.sort_by_key(|one| one["name"].to_string());
    *list = interfaces;
}

/// Takes out of our file systems or disks what qemu-ga does not know: serial numbers and names of
/// device-mapper without udev, and the SCSI target behind a virtio controller (Q23).
fn forgive_disks(ours: &mut Value, theirs: &Value) {
    let ours = ours.as_array_mut().into_iter().flatten();
    let theirs = theirs.as_array().into_iter().flatten();
    for (ours, theirs) in ours.zip(theirs) {
        if let (Some(ours), Some(theirs)) = (ours.get_mut("address"), theirs.get("address")) {
            forgive_address(ours, theirs);
        }
        let below = ours.get_mut("disk").and_then(Value::as_array_mut);
        let theirs_below = theirs["disk"].as_array().into_iter().flatten();
        for (ours, theirs) in below.into_iter().flatten().zip(theirs_below) {
            forgive_address(ours, theirs);
        }
        if let (Some(members), None) = (ours.as_object_mut(), theirs.get("alias")) {
            members.remove("alias");
        }
    }
}

fn forgive_address(ours: &mut Value, theirs: &Value) {
    if let Some(members) = ours.as_object_mut() {
        if theirs.get("serial").is_none() {
            members.remove("serial");
        }
        if theirs["bus-type"] == "scsi" && theirs["target"] == 0 {
            members.insert("target".into(), 0.into());
        }
    }
}

/// Numbers are compared by value: qemu-ga writes the double 1E+2 as `100`.
fn same_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(double) = number.as_f64().filter(|_| number.is_f64())
                && double.fract() == 0.0
                && double.abs() < 9e18
            {
                *value = Value::from(double as i64);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(same_numbers),
        Value::Object(members) => members.values_mut().for_each(same_numbers),
        _ => {}
    }
}

fn blank(value: &mut Value, parts: &[&str]) {
    match (parts, value) {
        ([], value) => {
            *value = Value::from(match value {
                Value::Number(_) => "<a number>",
                Value::String(_) => "<a string>",
                Value::Array(_) => "<a list>",
                _ => "<other>",
            });
        }
        (["*", rest @ ..], Value::Array(list)) => {
            list.iter_mut().for_each(|element| blank(element, rest));
        }
        (["*", rest @ ..], Value::Object(members)) => {
            members.values_mut().for_each(|member| blank(member, rest));
        }
        ([name, rest @ ..], Value::Object(members)) => {
            if let Some(member) = members.get_mut(*name) {
                blank(member, rest);
            }
        }
        _ => {}
    }
}

/// Makes an error of ours that of a qemu-ga before 11.1.
fn make_older(reply: &mut Value) {
    const OLDER: [(&str, &str); 3] = [
        ("expected ',' or '}'", "expected separator in dict"),
        ("expected ',' or ']'", "expected separator in list"),
        ("expecting ':'", "missing : in object pair"),
    ];
    strip_position(reply);
    let Some(desc) = desc(reply) else { return };
    let mut desc = desc.to_owned();
    for (newer, older) in OLDER {
        desc = desc.replace(newer, older);
    }
    let path = desc.strip_prefix("Could not open '");
    if let Some((path, rest)) = path.and_then(|rest| rest.split_once('\'')) {
        desc = format!("open(\"{path}\"){rest}");
    }
    reply["error"]["desc"] = desc.into();
}

/// Takes the position out of an error about a request that is no JSON.
fn strip_position(reply: &mut Value) {
    const TEXT: &str = "JSON parse error";
    if let Some((_, text)) = desc(reply).and_then(|desc| desc.split_once(TEXT)) {
        reply["error"]["desc"] = format!("{TEXT}{text}").into();
    }
}

/// The text of an error.
fn desc(reply: &Value) -> Option<&str> {
    reply.pointer("/error/desc")?.as_str()
}

/// Takes a difference out of a reply of ours, if it is one that is meant.
pub type Forgive = fn(&mut Value, &Value);

/// Asks both the same; tells the difference if there is one.
pub fn differ(ours: &mut Client, theirs: &mut Client, bytes: &[u8]) -> Option<String> {
    differ_but(ours, theirs, bytes, |_, _| {})
}

/// As [`differ`], but for what is forgiven.
pub fn differ_but(
    ours: &mut Client,
    theirs: &mut Client,
    bytes: &[u8],
    forgive: Forgive,
) -> Option<String> {
    // The name of the command, if there is one, says what changes by itself.
    let command = serde_json::from_slice::<Value>(bytes.trim_ascii())
        .ok()
        .and_then(|request| request["execute"].as_str().map(str::to_owned))
        .unwrap_or_default();
    let mut both = [ours, theirs].map(|client| all_replies(client, bytes));
    for replies in &mut both {
        for reply in replies {
            same_numbers(reply);
            if let Some(value) = reply.get_mut("return") {
                settle(&command, value);
            }
        }
    }
    let [mut ours, theirs] = both;
    for (ours, theirs) in ours.iter_mut().zip(&theirs) {
        forgive(ours, theirs);
    }
    if reference().is_older() {
        ours.iter_mut().for_each(make_older);
    }
    if command == "guest-get-fsinfo" || command == "guest-get-disks" {
        for (ours, theirs) in ours.iter_mut().zip(&theirs) {
            if let Some(ours) = ours.get_mut("return") {
                forgive_disks(ours, &theirs["return"]);
            }
        }
    }
    let list = |replies: &[Value]| {
        replies
            .iter()
            .map(|reply| format!("\n      {reply}"))
            .collect::<String>()
    };
    (ours != theirs).then(|| {
        format!(
            "{}\n    gaunt:{}\n    qemu-ga:{}",
            String::from_utf8_lossy(bytes).trim_end(),
            list(&ours),
            list(&theirs)
        )
    })
}

/// Compares many; panics with all differences that are not meant.
pub fn compare(what: &str, requests: &[Vec<u8>]) {
    compare_but(what, requests, |_, _| {});
}

/// As [`compare`], but for what is forgiven.
pub fn compare_but(what: &str, requests: &[Vec<u8>], forgive: Forgive) {
    let (ours, theirs) = (Agent::gaunt(&[]), Agent::reference(&[]));
    let (mut ours, mut theirs) = (ours.client_for_comparison(), theirs.client_for_comparison());
    let mut differences = Vec::new();
    for request in requests {
        let text = String::from_utf8_lossy(request).into_owned();
        let difference = differ_but(&mut ours.1, &mut theirs.1, request, forgive);
        let meant = MEANT.iter().find(|(meant, _)| *meant == text);
        match (difference, meant) {
            (Some(difference), None) => differences.push(difference),
            (None, Some((_, reason))) => {
                differences.push(format!("{text}\n    is equal, though listed: {reason}"));
            }
            _ => {}
        }
    }
    assert!(
        differences.is_empty(),
        "{what}: {} of {} differ\n  {}",
        differences.len(),
        requests.len(),
        differences.join("\n  ")
    );
    eprintln!("{what}: {} requests, equal replies", requests.len());
}

/// An agent and a client of it, together so that the agent lives as long.
pub trait ForComparison {
    /// Connects to the agent and gets in step with it.
    fn client_for_comparison(self) -> (Agent, Client);
}

impl ForComparison for Agent {
    /// Connects to the agent and gets in step with it.
    fn client_for_comparison(self) -> (Agent, Client) {
        let mut client = self.client();
        client.sync(wait::ANSWER).expect("in step");
        (self, client)
    }
}

/// The commands that both list.
pub fn common_commands() -> Vec<String> {
    let names = |agent: Agent| -> Vec<String> {
        let info = agent.client().get("guest-info");
        let rows = info["supported_commands"]
            .as_array()
            .expect("a list")
            .clone();
        rows.iter()
            .map(|row| row["name"].as_str().expect("a name").to_owned())
            .collect()
    };
    let (ours, theirs) = (names(Agent::gaunt(&[])), names(Agent::reference(&[])));
    // Their order counts as well, for clients that print it.
    assert_eq!(ours, theirs, "the commands of guest-info");
    ours
}

/// Requests from rows of text, as they go over the wire.
pub fn lines(rows: &[&str]) -> Vec<Vec<u8>> {
    rows.iter().map(|row| row.as_bytes().to_vec()).collect()
}
