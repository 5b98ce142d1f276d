//! guest-network-get-route.
//!
//! Both tables in their own order, IPv4 first. By a child, because a router has very many.
//!
//! Differences from qemu-ga: a table that is not there, as that of IPv6 where it is switched off, has
//! no routes and is no error; numbers have no sign.

use super::command::Work;
use super::common::cannot;
use crate::base::text::Digits;
use crate::parse::inet::AddressText;
use crate::parse::routes::{self, take_word};
use crate::sys::Errno;
use crate::sys::root::Root;
use crate::wire::emit::{List, Value};
use crate::wire::reply::{Failed, Reply};
use crate::wire::texts::{Name, Phrase};

/// The columns of /proc/net/route, in order: a letter for the type of each, then the name of its member.
///
/// `s`: a string. `a`: an address. `x`: a hexadecimal number. `d`: a decimal number. `p`: a hexadecimal
/// number that the reply has as decimal text.
const V4: &[u8] =
    b"siface adestination agateway xflags drefcnt duse dmetric amask dmtu dwindow dirtt";

/// The columns of /proc/net/ipv6_route.
const V6: &[u8] =
    b"adestination pdesprefixlen asource psrcprefixlen anexthop xmetric xrefcnt xuse xflags siface";

/// Lists all routes.
pub(super) const GET_ROUTE: Work = |guest, _, _, reply| list(&guest.root, reply);

fn list(root: &Root, reply: &mut Reply<'_>) -> Result<u8, Failed> {
    let mut list = reply.list();
    let v4 = put_table(root, b"proc/net/route", V4, 4, &mut list);
    let v6 = put_table(root, b"proc/net/ipv6_route", V6, 6, &mut list);
    drop(list);
    v4.and(v6)
        .map(|()| 0)
        .map_err(|errno| cannot(reply, Phrase::CannotReadRoutes, errno))
}

#[inline(never)]
fn put_table(
    root: &Root,
    path: &[u8],
    columns: &[u8],
    version: u64,
    list: &mut List<'_, '_>,
) -> Result<(), Errno> {
    let read = root.lines_at(&[path], &mut |line| {
        // The heading of one of them.
        if !line.starts_with(b"Iface\t") {
            put_route(line, columns, version, list.item());
        }
        true
    });
    match read {
        Err(Errno::NOENT) => Ok(()),
        read => read,
    }
}

// Out of line, away from the buffer of lines: code beside it takes longer instructions.
#[inline(never)]
fn put_route(mut line: &[u8], mut columns: &[u8], version: u64, value: Value<'_, '_>) {
    let mut route = value.object();
    while let [kind, name @ ..] = take_word(&mut columns) {
        let field = take_word(&mut line);
        let member = route.member_named(name);
        let number = routes::parse_number(field, if *kind == b'd' { 10 } else { 16 });
        match kind {
            b's' => member.text(field),
            b'a' => {
                let mut address = AddressText::default();
                routes::put_address(field, &mut address);
                member.text(address.as_bytes());
            }
            b'p' => member.text(Digits::unsigned(number).as_bytes()),
            _ => member.uint(number),
        }
    }
    route.uint(Name::Version, version);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;
    use std::fs;

    fn replied(root: &Root) -> String {
        let mut out = heapless::Vec::<u8, 4096>::new();
        let mut reply = Reply::new(&mut out);
        let outcome = list(root, &mut reply).map(drop);
        reply.finish(outcome);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn what_there_is_is_listed_and_what_there_is_not_is_no_error() {
        let tree = Tree::new();
        assert_eq!(replied(&tree.root), "{\"return\": []}\n");
        let v6 = "fe800000000000000000000000000000 40 00000000000000000000000000000000 00 \
                  00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0\n";
        tree.file("proc/net/ipv6_route", v6);
        let v6 = "{\"destination\": \"fe80::\", \"desprefixlen\": \"64\", \"source\": \"::\", \
                  \"srcprefixlen\": \"0\", \"nexthop\": \"::\", \"metric\": 256, \"refcnt\": 1, \
                  \"use\": 0, \"flags\": 1, \"iface\": \"eth0\", \"version\": 6}";
        assert_eq!(replied(&tree.root), format!("{{\"return\": [{v6}]}}\n"));
        let head =
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";
        let route = "*\t00000000\t00000000\t0201\t0\t0\t5\t00000000\t0\t0\t0   \n";
        tree.file("proc/net/route", format!("{head}{route}"));
        let v4 = "{\"iface\": \"*\", \"destination\": \"0.0.0.0\", \"gateway\": \"0.0.0.0\", \
                  \"flags\": 513, \"refcnt\": 0, \"use\": 0, \"metric\": 5, \"mask\": \"0.0.0.0\", \
                  \"mtu\": 0, \"window\": 0, \"irtt\": 0, \"version\": 4}";
        assert_eq!(
            replied(&tree.root),
            format!("{{\"return\": [{v4}, {v6}]}}\n")
        );
        fs::remove_file(tree.path.join("proc/net/ipv6_route")).unwrap();
        assert_eq!(replied(&tree.root), format!("{{\"return\": [{v4}]}}\n"));
        tree.directory("proc/net/ipv6_route");
        assert_eq!(
            replied(&tree.root),
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \
             \"open(\\\"/proc/net/route\\\"): Is a directory\"}}\n"
        );
    }
}
