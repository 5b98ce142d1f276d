//! Sends the same requests to gaunt and to the reference, and compares the replies.
//!
//! Replies are compared as JSON values, so the order of members does not matter. Values that change
//! from call to call are compared by type only. Intended differences are listed with their reason; a
//! listed difference that no longer occurs fails the comparison, so that the list stays true.

use serde_json::{Value, json};

use crate::agent::Agent;
use crate::client::{Client, request};
use crate::reference::reference;
use crate::wait;

/// Requests whose replies differ on purpose, each with the reason.
const INTENDED: [(&str, &str); 1] = [(
    r#"{"execute":"guest-ping","id":1e999}"#,
    "qemu-ga echoes a double that overflows as `inf`, which is not JSON",
)];

/// Values that are compared by type only: command, and path in its reply. `*` stands for any index
/// or member.
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
    // The agent that trims second finds less to trim.
    ("guest-fstrim", "/paths/*/trimmed"),
];

/// Sends `bytes` and then guest-sync. Returns all replies before the reply to guest-sync.
fn all_replies(client: &mut Client, bytes: &[u8]) -> Vec<Value> {
    const MARK: i64 = 0x6D61_726B;
    client.send(bytes);
    // Ends a message that `bytes` may have left open. Both agents answer it with the same error line.
    client.send(b"\n\xff\n");
    client.send(request("guest-sync", &json!({ "id": MARK })));
    let mut replies = Vec::new();
    loop {
        let line = client.line(wait::ANSWER).expect("a reply");
        let line = line.strip_prefix(b"\xff").unwrap_or(&line);
        // qemu-ga can write a line that is not JSON: compare its text.
        let reply = serde_json::from_slice(line)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(line).into_owned()));
        if reply["return"] == MARK {
            // The position of the 0xFF above depends on the earlier use of the connection.
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

/// Replaces values that change from call to call by their types, and sorts lists of no fixed order.
pub fn normalize(command: &str, value: &mut Value) {
    for (_, pointer) in VOLATILE.iter().filter(|(name, _)| *name == command) {
        let parts: Vec<&str> = pointer.split('/').skip(1).collect();
        blank(value, &parts);
    }
    if command == "guest-network-get-interfaces" {
        normalize_interfaces(value);
    }
    // qemu-ga lists disks in directory order, that is by a hash. Sort by name.
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
    // Likewise the disks of one file system.
    if command == "guest-get-fsinfo" {
        for fs in value.as_array_mut().into_iter().flatten() {
            if let Some(disks) = fs.get_mut("disk").and_then(Value::as_array_mut) {
                disks.sort_by_key(|disk| disk["dev"].to_string());
            }
        }
    }
    // The schema promises no order, and the kernel's differs from one walk to another.
    if command == "guest-get-vcpus"
        && let Some(list) = value.as_array_mut()
    {
        list.sort_by_key(|cpu| cpu["logical-id"].as_i64());
    }
}

/// Sorts interfaces by name and their addresses by text, and moves the addresses of an alias such as
/// `eth0:1` to its interface.
///
/// gaunt lists the loopback interface last and link-local addresses after others; qemu-ga does not.
/// qemu-ga lists an alias as an interface; gaunt does not.
fn normalize_interfaces(value: &mut Value) {
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

/// Removes from gaunt's file systems or disks the values that qemu-ga lacks: serial numbers and
/// device-mapper names in a guest without udev, and the SCSI target behind a virtio controller.
fn mask_disks(ours: &mut Value, theirs: &Value) {
    let ours = ours.as_array_mut().into_iter().flatten();
    let theirs = theirs.as_array().into_iter().flatten();
    for (ours, theirs) in ours.zip(theirs) {
        if let (Some(ours), Some(theirs)) = (ours.get_mut("address"), theirs.get("address")) {
            mask_address(ours, theirs);
        }
        let below = ours.get_mut("disk").and_then(Value::as_array_mut);
        let theirs_below = theirs["disk"].as_array().into_iter().flatten();
        for (ours, theirs) in below.into_iter().flatten().zip(theirs_below) {
            mask_address(ours, theirs);
        }
        if let (Some(members), None) = (ours.as_object_mut(), theirs.get("alias")) {
            members.remove("alias");
        }
    }
}

fn mask_address(ours: &mut Value, theirs: &Value) {
    if let Some(members) = ours.as_object_mut() {
        if theirs.get("serial").is_none() {
            members.remove("serial");
        }
        if theirs["bus-type"] == "scsi" && theirs["target"] == 0 {
            members.insert("target".into(), 0.into());
        }
    }
}

/// Turns whole doubles into integers: qemu-ga writes the double 1E+2 as `100`.
fn normalize_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(double) = number.as_f64().filter(|_| number.is_f64())
                && double.fract() == 0.0
                && double.abs() < 9e18
            {
                *value = Value::from(double as i64);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(normalize_numbers),
        Value::Object(members) => members.values_mut().for_each(normalize_numbers),
        _ => {}
    }
}

/// Replaces the values at a path by their types.
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

/// Rewords an error of gaunt's as qemu-ga before 11.1 words it.
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

/// Removes the position from a JSON parse error.
fn strip_position(reply: &mut Value) {
    const TEXT: &str = "JSON parse error";
    if let Some((_, text)) = desc(reply).and_then(|desc| desc.split_once(TEXT)) {
        reply["error"]["desc"] = format!("{TEXT}{text}").into();
    }
}

/// Returns the text of an error.
fn desc(reply: &Value) -> Option<&str> {
    reply.pointer("/error/desc")?.as_str()
}

/// Edits gaunt's reply to remove an intended difference from the reference's reply.
pub type Mask = fn(&mut Value, &Value);

/// Sends both agents the same request. Panics if their replies differ.
pub fn assert_same_reply(ours: &mut Client, theirs: &mut Client, request: &str) {
    if let Some(difference) = difference(ours, theirs, request.as_bytes(), |_, _| {}) {
        panic!("{difference}");
    }
}

/// Sends both agents the same bytes. Returns a description of the difference between their replies,
/// after `mask` has edited gaunt's.
fn difference(ours: &mut Client, theirs: &mut Client, bytes: &[u8], mask: Mask) -> Option<String> {
    let command = serde_json::from_slice::<Value>(bytes.trim_ascii())
        .ok()
        .and_then(|request| request["execute"].as_str().map(str::to_owned))
        .unwrap_or_default();
    let mut both = [ours, theirs].map(|client| all_replies(client, bytes));
    for replies in &mut both {
        for reply in replies {
            normalize_numbers(reply);
            if let Some(value) = reply.get_mut("return") {
                normalize(&command, value);
            }
        }
    }
    let [mut ours, theirs] = both;
    for (ours, theirs) in ours.iter_mut().zip(&theirs) {
        mask(ours, theirs);
    }
    if reference().is_older() {
        ours.iter_mut().for_each(make_older);
    }
    if command == "guest-get-fsinfo" || command == "guest-get-disks" {
        for (ours, theirs) in ours.iter_mut().zip(&theirs) {
            if let Some(ours) = ours.get_mut("return") {
                mask_disks(ours, &theirs["return"]);
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

/// Compares the replies to many requests. Panics with all differences that are not intended.
pub fn compare(title: &str, requests: &[Vec<u8>]) {
    compare_masked(title, requests, |_, _| {});
}

/// As [`compare`], after `mask` has edited gaunt's replies.
pub fn compare_masked(title: &str, requests: &[Vec<u8>], mask: Mask) {
    let mut ours = synchronized(Agent::gaunt(&[]));
    let mut theirs = synchronized(Agent::reference(&[]));
    let mut differences = Vec::new();
    for request in requests {
        let text = String::from_utf8_lossy(request).into_owned();
        let difference = difference(&mut ours.1, &mut theirs.1, request, mask);
        let intended = INTENDED.iter().find(|(request, _)| *request == text);
        match (difference, intended) {
            (Some(difference), None) => differences.push(difference),
            (None, Some((_, reason))) => {
                differences.push(format!(
                    "{text}\n    equal, but listed as an intended difference: {reason}"
                ));
            }
            _ => {}
        }
    }
    assert!(
        differences.is_empty(),
        "{title}: {} of {} replies differ\n  {}",
        differences.len(),
        requests.len(),
        differences.join("\n  ")
    );
    eprintln!("{title}: {} requests, equal replies", requests.len());
}

/// Connects to an agent and synchronizes. Returns both, so that the agent lives as long as the client.
pub fn synchronized(agent: Agent) -> (Agent, Client) {
    let mut client = agent.client();
    client.sync(wait::ANSWER).expect("an answer to guest-sync");
    (agent, client)
}

/// The commands that QEMU does not have.
const OWN: [&str; 0] = [];

/// Returns the commands of both agents. Panics unless those of gaunt are qemu-ga's and [`OWN`].
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
    let (mut ours, theirs) = (names(Agent::gaunt(&[])), names(Agent::reference(&[])));
    let all = ours.len();
    ours.retain(|name| !OWN.contains(&name.as_str()));
    assert_eq!(
        ours.len() + OWN.len(),
        all,
        "commands that QEMU does not have"
    );
    // In the same order, for clients that print the list.
    assert_eq!(ours, theirs, "the commands of guest-info");
    ours
}

/// Returns the bytes of each row.
pub fn lines(rows: &[&str]) -> Vec<Vec<u8>> {
    rows.iter().map(|row| row.as_bytes().to_vec()).collect()
}
