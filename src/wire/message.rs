//! A message: its text, and where the members of its outer object are. The framer finds those while it
//! checks the text, which saves a second pass over it.
//!
//! A name is known by its hash alone: see `wire::check`.

use super::json::{Json, Str};
use crate::base::limits::REQUEST_BYTES;
use static_assertions::const_assert;

/// The members that the outer object of a request may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    /// The name of the command.
    Execute,
    /// The arguments of the command.
    Arguments,
    /// A value that the reply echoes.
    Id,
}

/// The index of the name of a member that a request may not have, behind those of [`Member`].
const UNEXPECTED: usize = 3;
/// The number of spans.
const SPANS: usize = UNEXPECTED + 1;

const_assert!(REQUEST_BYTES < u32::MAX as usize);

/// Spans of the text of a message: the value of each [`Member`], and the name of the first unexpected
/// member. The span of one that is not there is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Members([[u32; 2]; SPANS]);

impl Members {
    /// No members.
    pub const NONE: Self = Self([[0; 2]; SPANS]);

    /// The members of `text`, which a framer has checked and stored. For another process than that of
    /// the framer.
    pub fn of(text: &[u8]) -> Self {
        let mut finder = Finder::new();
        // Behind the brace.
        let mut at = 1usize;
        for (name, value) in Json(text).members() {
            let end = at.wrapping_add(name.raw().len()).wrapping_add(2);
            finder.name(NameHash::of_str(name), at, end);
            // Behind the colon, the value, and the comma.
            at = end.wrapping_add(value.text().len()).wrapping_add(2);
        }
        finder.finish(text.len())
    }
}

/// A message that the framer has stored.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// Its text.
    pub text: &'a [u8],
    /// Where its members are in the text.
    pub members: &'a Members,
}

impl<'a> Message<'a> {
    /// The arguments of the command. `None` means the empty object.
    pub fn arguments(self) -> Option<Json<'a>> {
        self.value(Member::Arguments)
    }

    /// The value of a member.
    pub(super) fn value(self, member: Member) -> Option<Json<'a>> {
        self.get(member as usize).map(Json)
    }

    /// The name of the first unexpected member.
    pub(super) fn unexpected(self) -> Option<Str<'a>> {
        self.get(UNEXPECTED).map(Str::inside)
    }

    fn get(self, index: usize) -> Option<&'a [u8]> {
        let [from, to] = *self.members.0.get(index)?;
        let text = self.text.get(from as usize..to as usize);
        text.filter(|text| !text.is_empty())
    }
}

/// Finds the members of a message, name by name.
pub(super) struct Finder {
    found: Members,
    /// The index of the member whose value is being read; [`SPANS`] without one.
    latest: usize,
}

impl Finder {
    /// A finder before the first name.
    pub(super) const fn new() -> Self {
        Self {
            found: Members::NONE,
            latest: SPANS,
        }
    }

    /// Takes the next name: its hash, and the offsets of its quotes.
    pub(super) fn name(&mut self, hash: u64, from: usize, to: usize) {
        const EXECUTE: u64 = NameHash::of(b"execute");
        const ARGUMENTS: u64 = NameHash::of(b"arguments");
        const ID: u64 = NameHash::of(b"id");
        // Before the name is a comma, behind it a colon.
        self.end_value(from.wrapping_sub(1));
        let member = match hash {
            EXECUTE => Member::Execute,
            ARGUMENTS => Member::Arguments,
            ID => Member::Id,
            _ => {
                self.latest = SPANS;
                if let [_, _, _, unexpected @ [_, 0]] = &mut self.found.0 {
                    *unexpected = [from as u32, to as u32];
                }
                return;
            }
        };
        self.latest = member as usize;
        if let Some([start, _]) = self.found.0.get_mut(self.latest) {
            *start = to.wrapping_add(1) as u32;
        }
    }

    /// Returns the members of a message that ends at `end`, with its brace.
    pub(super) fn finish(&mut self, end: usize) -> Members {
        self.end_value(end.wrapping_sub(1));
        self.found
    }

    fn end_value(&mut self, at: usize) {
        if let Some([_, end]) = self.found.0.get_mut(self.latest) {
            *end = at as u32;
        }
    }
}

/// The hash of the first bytes of a name: FNV-1a.
#[derive(Clone, Copy)]
pub(super) struct NameHash(u64);

impl NameHash {
    const FIRST: Self = Self(0xcbf2_9ce4_8422_2325);

    const fn add(self, byte: u8) -> Self {
        Self((self.0 ^ byte as u64).wrapping_mul(0x100_0000_01b3))
    }

    /// The hash of the name. The high bits, which are better mixed, are folded into the low ones. The
    /// lowest bit is clear.
    const fn end(self) -> u64 {
        (self.0 ^ self.0 >> 32) & !1
    }

    /// The hash of a name.
    // Called in two places: keeps one copy of the code.
    #[inline(never)]
    pub(super) fn of_str(name: Str<'_>) -> u64 {
        name.bytes().fold(Self::FIRST, Self::add).end()
    }

    /// The hash of a name without escapes.
    pub(super) const fn of(mut name: &[u8]) -> u64 {
        let mut hash = Self::FIRST;
        while let [byte, rest @ ..] = name {
            hash = hash.add(*byte);
            name = rest;
        }
        hash.end()
    }
}

#[cfg(test)]
mod tests {
    use super::super::receive::receive_message;
    use super::*;

    /// The values of the members, and the name of the first unexpected one.
    type Found<'a> = ([Option<&'a [u8]>; 3], Option<&'a [u8]>);

    fn found(message: Message<'_>) -> Found<'_> {
        let members = [Member::Execute, Member::Arguments, Member::Id];
        let values = members.map(|member| message.value(member).map(Json::text));
        (values, message.unexpected().map(Str::raw))
    }

    /// The same, by reading the text.
    fn read(text: &[u8]) -> Found<'_> {
        let (mut values, mut unexpected) = ([None; 3], None);
        for (name, value) in Json(text).members() {
            let index = ["execute", "arguments", "id"].map(|other| name.is(other));
            match index.iter().position(|is_name| *is_name) {
                Some(index) => values[index] = Some(value.text()),
                None => unexpected = unexpected.or(Some(name.raw())),
            }
        }
        (values, unexpected)
    }

    #[test]
    fn members_are_found_whatever_their_order_and_spelling() {
        let parts = [
            "\"execute\":\"guest-ping\"",
            "'e\\u0078ecute' : {'id': [ 1 , {'arguments':2} ]}",
            "\"arguments\"\t:\t{\"execute\" : \"a,b\", \"other\": [] }",
            "'arguments': -1.5e7 ",
            "'id' :\n 'a\\'}\u{e9}'",
            "\"i\\u0064\":null",
            "\"other\" : true",
            "'': {}",
            "'Execute':[]",
        ];
        let mut random = 1_u32;
        let mut next = |count: usize| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 16) as usize % count
        };
        let mut counts = [0; 5];
        for _ in 0..2000 {
            let chosen: Vec<&str> = (0..next(5)).map(|_| parts[next(parts.len())]).collect();
            let text = format!(" {{ {} }} ", chosen.join(" , "));
            let Ok(message) = receive_message(text.as_bytes()) else {
                // A name twice.
                continue;
            };
            assert_eq!(found(message), read(message.text), "{text}");
            assert_eq!(Members::of(message.text), *message.members, "{text}");
            counts[chosen.len()] += 1;
        }
        assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
    }

    #[test]
    fn only_an_object_has_members() {
        for text in ["1 ", "'execute'", "[{'execute':1}]", "['id',2]", "{}"] {
            let message = receive_message(text.as_bytes()).unwrap();
            assert_eq!(*message.members, Members::NONE, "{text}");
            assert_eq!(Members::of(message.text), Members::NONE, "{text}");
        }
    }
}
