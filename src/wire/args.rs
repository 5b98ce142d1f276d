//! Arguments, checked against the parameters of a command before its handler runs.
//!
//! The checks, their order and their words are QAPI's: members in the order of the schema, each for
//! presence, type and what is inside it; then members that nobody expects. Names inside messages are
//! full paths, `mem-blks[0].phys-index`, but for enumerations, which go by their last part.

use super::json::{Json, Kind, Str};
use super::lex::between;
use super::reply::{Failed, Failure, Reply};
use crate::base::limits::PARAMETERS;
use crate::base::text::cut;
use crate::base::texts::{self, Phrase};

/// What a parameter takes. How parameters are written down; [`Params`] are what the program has.
#[derive(Clone, Copy, Debug)]
pub enum Type {
    /// An integer within 64 bits with a sign.
    Int,
    /// An integer within 64 bits without a sign; a negative one wraps.
    Uint64,
    /// true or false.
    Bool,
    /// A string.
    Str,
    /// An array of strings.
    Strings,
    /// An object.
    Object(&'static Members),
    /// An array of objects.
    Objects(&'static Members),
    /// Either of two types.
    Either(&'static Alternate),
}

/// The members of an object.
#[derive(Debug)]
pub struct Members(pub &'static [Param]);

/// A word, or a value of another type.
#[derive(Debug)]
pub struct Alternate {
    /// What the two are called together.
    pub name: &'static str,
    /// The words, with a blank between two.
    pub words: &'static str,
    /// How many.
    pub count: usize,
    /// The other type.
    pub other: Other,
}

impl Alternate {
    /// The place of a word among those known; past all of them if it is none.
    #[inline(always)]
    pub fn place(&self, word: Str<'_>) -> usize {
        word.place_in(self.words.as_bytes()).unwrap_or(self.count)
    }
}

/// What there may be instead of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// An integer within 64 bits with a sign.
    Int,
    /// true or false.
    Bool,
}

/// A parameter of a command, or a member of an object that is one.
#[derive(Debug)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Type,
    /// Whether it must be there.
    pub mandatory: bool,
}

/// A parameter that must be there.
pub const fn must(name: &'static str, kind: Type) -> Param {
    Param {
        name,
        kind,
        mandatory: true,
    }
}

/// The place of the parameter of this name. Where there is none, the program does not compile.
pub const fn place(params: &[Param], name: &str) -> usize {
    let (mut at, mut rest) = (0usize, params);
    while let [param, others @ ..] = rest {
        if equal(param.name.as_bytes(), name.as_bytes()) {
            return at;
        }
        (at, rest) = (at.wrapping_add(1), others);
    }
    unknown()
}

#[allow(clippy::panic, reason = "at compile time")]
const fn unknown() -> usize {
    panic!("there is no parameter of this name")
}

const fn equal(one: &[u8], other: &[u8]) -> bool {
    match (one, other) {
        ([], []) => true,
        ([a, one @ ..], [b, other @ ..]) => *a == *b && equal(one, other),
        _ => false,
    }
}

/// A parameter that may be left out.
pub const fn may(name: &'static str, kind: Type) -> Param {
    Param {
        name,
        kind,
        mandatory: false,
    }
}

/// What a [`Type`] is in a packed tag: the [`Kind`] it takes, and how.
const KIND: u8 = 7;
const MANDATORY: u8 = 8;
const EITHER: u8 = 16;

/// What the kinds are called, in their order.
const KINDS: &[u8] = b"object array string integer uint64 - boolean";

/// Parameters, packed: of each a tag, the length of its name and that of what is inside (members, or
/// what an alternative is called and its words), then the name and what is inside.
///
/// An eighth of what references, lengths and alignment would take.
#[derive(Clone, Copy, Debug, Default)]
pub struct Params(pub &'static [u8]);

/// One packed record, with all that follow it.
#[derive(Clone, Copy)]
pub struct Item(&'static [u8]);

/// Bytes before the name.
const HEAD: usize = 3;

impl Item {
    /// What the list makes of it.
    #[inline(always)]
    pub fn tag(self) -> u8 {
        self.0.first().copied().unwrap_or_default()
    }

    /// Its name.
    #[inline(never)]
    pub fn name(self) -> &'static [u8] {
        between(self.0, HEAD, self.name_end())
    }

    /// What is inside.
    #[inline(never)]
    pub fn body(self) -> &'static [u8] {
        between(self.0, self.name_end(), self.end())
    }

    #[inline(always)]
    fn name_end(self) -> usize {
        HEAD.wrapping_add(self.0.get(1).copied().unwrap_or_default().into())
    }

    #[inline(always)]
    fn end(self) -> usize {
        let body = self.0.get(2).copied().unwrap_or_default();
        self.name_end().wrapping_add(body.into())
    }
}

impl Params {
    /// The place of the one of this name, if there is one.
    #[inline(never)]
    pub fn place(mut self, name: Str<'_>) -> Option<usize> {
        self.position(|item| name.is_named(item.name()))
    }
}

impl Iterator for Params {
    type Item = Item;

    #[inline(never)]
    fn next(&mut self) -> Option<Item> {
        let item = Item(self.0);
        self.0 = self.0.get(item.end()..)?;
        Some(item)
    }
}

/// Packs lists while the program is compiled.
pub struct Packer<const N: usize> {
    /// The bytes; what is beyond `len` means nothing.
    pub bytes: [u8; N],
    /// How many they are.
    pub len: usize,
}

#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "at compile time"
)]
impl<const N: usize> Packer<N> {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self {
            bytes: [0; N],
            len: 0,
        }
    }

    /// Appends a byte.
    pub const fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    const fn text(&mut self, text: &[u8]) {
        let mut at = 0;
        while at < text.len() {
            self.push(text[at]);
            at += 1;
        }
    }

    /// Begins an item; gives where the length of what is inside goes, for [`Packer::end`].
    pub const fn begin(&mut self, tag: u8, name: &[u8]) -> usize {
        self.push(tag);
        self.push(name.len() as u8);
        self.push(0);
        self.text(name);
        self.len - name.len() - 1
    }

    /// Ends what [`Packer::begin`] began.
    pub const fn end(&mut self, begun: usize) {
        let name = self.bytes[begun - 1] as usize;
        let len = self.len - begun - 1 - name;
        assert!(len < 256);
        self.bytes[begun] = len as u8;
    }

    /// Appends parameters.
    pub const fn params(&mut self, params: &[Param]) {
        let mut at = 0;
        while at < params.len() {
            let Param {
                name,
                kind,
                mandatory,
            } = &params[at];
            let must = if *mandatory { MANDATORY } else { 0 };
            let name = name.as_bytes();
            let (kind, members): (Kind, &[Param]) = match kind {
                Type::Int => (Kind::Integer, &[]),
                Type::Uint64 => (Kind::Unsigned, &[]),
                Type::Bool => (Kind::Bool, &[]),
                Type::Str => (Kind::String, &[]),
                Type::Strings => (Kind::Array, &[]),
                Type::Object(members) => (Kind::Object, members.0),
                Type::Objects(members) => (Kind::Array, members.0),
                Type::Either(alternate) => {
                    let other = match alternate.other {
                        Other::Int => Kind::Integer,
                        Other::Bool => Kind::Bool,
                    };
                    let begun = self.begin(other as u8 | must | EITHER, name);
                    self.text(alternate.name.as_bytes());
                    self.push(b' ');
                    self.text(alternate.words.as_bytes());
                    self.end(begun);
                    at += 1;
                    continue;
                }
            };
            let begun = self.begin(kind as u8 | must, name);
            self.params(members);
            self.end(begun);
            at += 1;
        }
    }
}

impl<const N: usize> Default for Packer<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
impl Params {
    /// These, packed.
    pub(crate) fn of(params: &[Param]) -> Self {
        let mut packer = Packer::<256>::new();
        packer.params(params);
        Self(packer.bytes[..packer.len].to_vec().leak())
    }
}

/// The arguments of a request, proven to be what the command's parameters say.
///
/// Each is asked for by its place among the parameters of its command, which [`place`] finds while the
/// program is compiled.
pub struct Args<'a> {
    values: Values<'a>,
}

type Values<'a> = [Option<Json<'a>>; PARAMETERS];

impl<'a> Args<'a> {
    /// No arguments.
    pub fn none() -> Self {
        Self {
            values: Values::default(),
        }
    }

    /// Takes `arguments` that are what `params` say.
    pub fn check(
        &mut self,
        arguments: Option<Json<'a>>,
        params: Params,
        reply: &mut Reply<'_>,
    ) -> Result<(), Failed> {
        // Most commands have none.
        if arguments.is_some() || !params.0.is_empty() {
            let object = arguments.unwrap_or_default();
            check_members(object, params, None, &mut self.values, reply)?;
        }
        Ok(())
    }

    /// The integer given for a parameter.
    #[inline(never)]
    pub fn int(&self, place: usize) -> Option<i64> {
        self.value(place)?.int()
    }

    /// The boolean given for a parameter.
    #[inline(never)]
    pub fn bool(&self, place: usize) -> Option<bool> {
        self.value(place)?.bool()
    }

    /// The string given for a parameter.
    #[inline(never)]
    pub fn string(&self, place: usize) -> Option<Str<'a>> {
        self.value(place)?.string()
    }

    /// The value given for a parameter, of the type that it has.
    #[inline(never)]
    pub fn value(&self, place: usize) -> Option<Json<'a>> {
        *self.values.get(place)?
    }
}

/// Where in the arguments a value stands, as a chain of names and positions up to the outermost.
struct Place<'p> {
    outer: Option<&'p Place<'p>>,
    name: Str<'p>,
    /// The position in the array of that name, or -1.
    index: i64,
}

impl Place<'_> {
    fn write<'o, 's>(&self, mut failure: Failure<'o, 's>) -> Failure<'o, 's> {
        if let Some(outer) = self.outer {
            failure = outer.write(failure).text(".");
        }
        failure = failure.string(self.name);
        if self.index >= 0 {
            failure = failure.text("[").number(self.index).text("]");
        }
        failure
    }

    /// An error that says where, and what `other` there is to say.
    #[inline(never)]
    fn wrong(&self, reply: &mut Reply<'_>, phrase: Phrase, other: Str<'_>) -> Failed {
        let text = texts::phrase(phrase);
        let mut rest = &*text;
        let error = reply.fail().bytes(cut(&mut rest, b'@'));
        let error = self.write(error).bytes(cut(&mut rest, b'@'));
        error.string(other).bytes(rest).end()
    }
}

/// Sorts the members of an object by parameter and checks them.
fn check_members<'a>(
    object: Json<'a>,
    params: Params,
    outer: Option<&Place<'_>>,
    values: &mut Values<'a>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    let mut unexpected = None;
    for (name, value) in object.members() {
        match params.place(name).and_then(|place| values.get_mut(place)) {
            Some(slot) => *slot = Some(value),
            None => unexpected = unexpected.or(Some(name)),
        }
    }
    let mut place = Place {
        outer,
        name: Str::default(),
        index: -1,
    };
    for (param, value) in params.zip(&*values) {
        place.name = Str::ascii(param.name());
        if let Some(value) = value {
            check_value(*value, param.tag(), param.body(), &place, reply)?;
        } else if param.tag() & MANDATORY != 0 {
            return Err(place.wrong(reply, Phrase::MissingParameter, Str::default()));
        }
    }
    match unexpected {
        None => Ok(()),
        Some(name) => {
            place.name = name;
            Err(place.wrong(reply, Phrase::UnexpectedParameter, Str::default()))
        }
    }
}

fn check_value(
    value: Json<'_>,
    tag: u8,
    body: &'static [u8],
    place: &Place<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    let wanted = tag & KIND;
    let found = value.kind() as u8;
    // A word, or a value of another type. Errors name it by its last name alone.
    let last = Place {
        outer: None,
        ..*place
    };
    let is_either = tag & EITHER != 0;
    let place = if is_either { &last } else { place };
    if found != wanted {
        let mut expected = (KINDS, wanted);
        if is_either {
            if let Some(word) = value.string() {
                let mut words = body;
                cut(&mut words, b' ');
                if word.place_in(words).is_some() {
                    return Ok(());
                }
                return Err(place.wrong(reply, Phrase::UnknownWord, word));
            }
            let is_number = found == Kind::Unsigned as u8 || found == Kind::Double as u8;
            if !is_number || wanted != Kind::Integer as u8 {
                expected = (body, 0);
            }
        } else if wanted == Kind::Unsigned as u8 {
            if found == Kind::Integer as u8 {
                return Ok(());
            }
            return Err(place.wrong(reply, Phrase::ExpectsUint64, Str::default()));
        }
        let expected = Str::ascii(name_of(expected.0, expected.1));
        return Err(place.wrong(reply, Phrase::WrongType, expected));
    }
    if found == Kind::Object as u8 {
        let mut values = Values::default();
        return check_members(value, Params(body), Some(place), &mut values, reply);
    }
    // A list of objects, or of strings.
    let kind = match body {
        [] => Kind::String,
        _ => Kind::Object,
    };
    for (index, value) in (0..).zip(value.items()) {
        check_value(value, kind as u8, body, &Place { index, ..*place }, reply)?;
    }
    Ok(())
}

/// The one of `names`, parted by blanks, that is at this place.
#[inline(never)]
fn name_of(names: &[u8], place: u8) -> &[u8] {
    let mut rest = names;
    for _ in 0..place {
        cut(&mut rest, b' ');
    }
    cut(&mut rest, b' ')
}

#[cfg(test)]
mod tests {
    use super::super::receive::receive;
    use super::*;

    static BLOCK: Members = Members(&[
        must("phys-index", Type::Uint64),
        must("online", Type::Bool),
        may("can-offline", Type::Bool),
    ]);
    static WHENCE: Alternate = Alternate {
        name: "GuestFileWhence",
        words: "set cur end",
        count: 3,
        other: Other::Int,
    };
    static CAPTURE: Alternate = Alternate {
        name: "GuestExecCaptureOutput",
        words: "none stdout",
        count: 2,
        other: Other::Bool,
    };
    const PARAMS: &[Param] = &[
        may("blocks", Type::Objects(&BLOCK)),
        may("whence", Type::Either(&WHENCE)),
        may("capture", Type::Either(&CAPTURE)),
        may("arg", Type::Strings),
    ];

    /// The error for these arguments; empty if there is none.
    fn told(arguments: &str) -> String {
        let arguments = receive(arguments.as_bytes()).unwrap();
        let mut out = heapless::Vec::<u8, 512>::new();
        let mut reply = Reply::new(&mut out);
        let outcome = Args::none().check(Some(arguments), Params::of(PARAMS), &mut reply);
        reply.finish(outcome);
        let text = String::from_utf8(out.to_vec()).unwrap();
        let error = text.split("\"desc\": \"").nth(1);
        error.map_or(String::new(), |error| error.replace("\"}}\n", ""))
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow for Miri")]
    fn errors_name_the_place() {
        for (arguments, error) in [
            (r#"{}"#, ""),
            (
                r#"{"blocks":[{"phys-index":-1,"online":true}],"arg":["x",""]}"#,
                "",
            ),
            (
                r#"{"blocks":[{"online":true}]}"#,
                "Parameter 'blocks[0].phys-index' is missing",
            ),
            (
                r#"{"blocks":[{"phys-index":1.5,"online":true}]}"#,
                "Parameter 'blocks[0].phys-index' expects uint64",
            ),
            (
                r#"{"blocks":[{"phys-index":1,"online":0}]}"#,
                "Invalid parameter type for 'blocks[0].online', expected: boolean",
            ),
            (
                r#"{"blocks":[{"phys-index":1,"online":true},7]}"#,
                "Invalid parameter type for 'blocks[1]', expected: object",
            ),
            (
                r#"{"blocks":[{"phys-index":1,"online":true,"x":1},7]}"#,
                "Parameter 'blocks[0].x' is unexpected",
            ),
            (
                r#"{"blocks":{}}"#,
                "Invalid parameter type for 'blocks', expected: array",
            ),
            (
                r#"{"arg":["x",1]}"#,
                "Invalid parameter type for 'arg[1]', expected: string",
            ),
            (r#"{"whence":2}"#, ""),
            (r#"{"whence":"cur"}"#, ""),
            (
                r#"{"whence":1.5}"#,
                "Invalid parameter type for 'whence', expected: integer",
            ),
            (
                r#"{"whence":18446744073709551615}"#,
                "Invalid parameter type for 'whence', expected: integer",
            ),
            (
                r#"{"whence":"x"}"#,
                "Parameter 'whence' does not accept value 'x'",
            ),
            (
                r#"{"whence":""}"#,
                "Parameter 'whence' does not accept value ''",
            ),
            (
                r#"{"whence":null}"#,
                "Invalid parameter type for 'whence', expected: GuestFileWhence",
            ),
            (r#"{"capture":true}"#, ""),
            (r#"{"capture":"none"}"#, ""),
            (
                r#"{"capture":"None"}"#,
                "Parameter 'capture' does not accept value 'None'",
            ),
            (
                r#"{"capture":1}"#,
                "Invalid parameter type for 'capture', expected: GuestExecCaptureOutput",
            ),
        ] {
            assert_eq!(told(arguments), error, "{arguments}");
        }
    }
}
