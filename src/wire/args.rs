//! Checks the arguments of a request against the parameters of its command, before the handler
//! runs.
//!
//! The checks, their order and their texts are those of QEMU's QAPI visitors: each parameter in the
//! order of the schema, for presence, then type, then content; unexpected members last. Error texts
//! name a value by its full path, `mem-blks[0].phys-index`, but the value of an alternate by its
//! last part only.
//!
//! A command declares its parameters as a list of [`Param`]. The compiler packs all lists into
//! bytes ([`Packer`]); the agent reads only those ([`PackedList`]).

use super::json::{Json, JsonType, Str};
use super::reply::{ErrorWriter, Failed, Reply};
use super::texts::Phrase;
use crate::base::limits::PARAMETERS;
use crate::base::packed::Text;
use crate::base::text::cut;

/// The type of a parameter.
#[derive(Clone, Copy, Debug)]
pub enum Type {
    /// A signed integer of 64 bits.
    Int,
    /// An unsigned integer of 64 bits. A negative number wraps, as in QAPI.
    Uint64,
    /// `true` or `false`.
    Bool,
    /// A string.
    Str,
    /// An array of strings.
    Strings,
    /// An object.
    Object(&'static MemberParams),
    /// An array of objects.
    Objects(&'static MemberParams),
    /// An enumeration, or a value of one other type.
    Either(&'static Alternate),
}

/// The members of an object.
#[derive(Debug)]
pub struct MemberParams(pub &'static [Param]);

/// A QAPI alternate: a word of an enumeration, or a value of one other type.
#[derive(Debug)]
pub struct Alternate {
    /// The name of the alternate in the schema.
    pub name: &'static str,
    /// The words, with a blank between two.
    pub words: &'static str,
    /// The number of words.
    pub count: usize,
    /// The other type.
    pub other: Other,
}

impl Alternate {
    /// The index of a word; [`Alternate::count`] if the word is unknown.
    // Inlined, because it is shorter than a call.
    #[inline(always)]
    pub fn index(&self, word: Str<'_>) -> usize {
        word.word_index(self.words.as_bytes()).unwrap_or(self.count)
    }
}

/// The type of a value that is no word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// A signed integer of 64 bits.
    Int,
    /// `true` or `false`.
    Bool,
}

/// A parameter of a command, or a member of an object parameter.
#[derive(Debug)]
pub struct Param {
    /// The name in the schema.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Type,
    /// Whether a request without it is an error.
    pub mandatory: bool,
}

/// A mandatory parameter.
pub const fn must(name: &'static str, kind: Type) -> Param {
    Param {
        name,
        kind,
        mandatory: true,
    }
}

/// The index of the parameter `name`. Called at compile time: an unknown name does not compile.
pub const fn index_of(params: &[Param], name: &str) -> usize {
    let (mut index, mut rest) = (0usize, params);
    while let [param, others @ ..] = rest {
        if equal(param.name.as_bytes(), name.as_bytes()) {
            return index;
        }
        (index, rest) = (index.wrapping_add(1), others);
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

/// An optional parameter.
pub const fn may(name: &'static str, kind: Type) -> Param {
    Param {
        name,
        kind,
        mandatory: false,
    }
}

// The tag of a packed parameter: a [`JsonType`] in the low bits, and two flags.
const KIND: u8 = 7;
const MANDATORY: u8 = 8;
const EITHER: u8 = 16;

/// The names of the types in error texts, in the order of [`JsonType`].
const KINDS: &[u8] = b"object array string integer uint64 - boolean";

/// A packed list of parameters. The table of commands has the same format.
///
/// An item is a tag, the length of its name, the length of its body, the name, and the body. The
/// body of an object, or of an array of objects, is the list of its members; the body of an
/// alternate is its name and its words.
///
/// This takes an eighth of the memory of references, with their lengths and alignment.
#[derive(Clone, Copy, Debug, Default)]
pub struct PackedList(pub &'static [u8]);

/// An item of a packed list.
#[derive(Clone, Copy)]
pub struct PackedItem {
    /// The tag. Its meaning depends on the list.
    pub tag: u8,
    /// The name.
    pub name: &'static [u8],
    /// The body.
    pub body: &'static [u8],
}

// Called in many places: `#[inline(never)]` keeps one copy of the code.
impl PackedList {
    /// The item of this name, and its index.
    #[inline(never)]
    pub fn find(self, name: Str<'_>) -> Option<(usize, PackedItem)> {
        // Most names of the list of commands are told apart by their lengths.
        let fits = |item: &PackedItem| item.name.len() <= name.raw().len();
        let mut items = self.enumerate();
        items.find(|(_, item)| fits(item) && name.is_named(item.name))
    }
}

impl Iterator for PackedList {
    type Item = PackedItem;

    #[inline]
    fn next(&mut self) -> Option<PackedItem> {
        let [tag, name_len, body_len, rest @ ..] = self.0 else {
            return None;
        };
        let (name, rest) = rest.split_at_checked((*name_len).into())?;
        let (body, rest) = rest.split_at_checked((*body_len).into())?;
        self.0 = rest;
        let tag = *tag;
        Some(PackedItem { tag, name, body })
    }
}

/// Packs lists at compile time.
pub struct Packer<const N: usize> {
    /// The packed bytes are `bytes[..len]`.
    pub bytes: [u8; N],
    /// See `bytes`.
    pub len: usize,
}

#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "at compile time"
)]
impl<const N: usize> Packer<N> {
    /// An empty list.
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

    /// Begins an item. Returns the offset of the length of its body, for [`Packer::end`].
    pub const fn begin(&mut self, tag: u8, name: &[u8]) -> usize {
        self.push(tag);
        self.push(name.len() as u8);
        self.push(0);
        self.text(name);
        self.len - name.len() - 1
    }

    /// Ends an item that [`Packer::begin`] began.
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
            let (kind, members): (JsonType, &[Param]) = match kind {
                Type::Int => (JsonType::Integer, &[]),
                Type::Uint64 => (JsonType::Unsigned, &[]),
                Type::Bool => (JsonType::Bool, &[]),
                Type::Str => (JsonType::String, &[]),
                Type::Strings => (JsonType::Array, &[]),
                Type::Object(members) => (JsonType::Object, members.0),
                Type::Objects(members) => (JsonType::Array, members.0),
                Type::Either(alternate) => {
                    let other = match alternate.other {
                        Other::Int => JsonType::Integer,
                        Other::Bool => JsonType::Bool,
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
impl PackedList {
    /// Packs `params`.
    pub(crate) fn of(params: &[Param]) -> Self {
        let mut packer = Packer::<256>::new();
        packer.params(params);
        Self(packer.bytes[..packer.len].to_vec().leak())
    }
}

/// The arguments of a request, checked against the parameters of its command.
///
/// An argument is found by the index of its parameter, which [`index_of`] computes at compile time.
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

    /// Stores the arguments if they match `params`; otherwise writes the error.
    pub fn check(
        &mut self,
        arguments: Option<Json<'a>>,
        params: PackedList,
        reply: &mut Reply<'_>,
    ) -> Result<(), Failed> {
        // Most commands have no parameters, and most requests for them no arguments.
        if arguments.is_some() || !params.0.is_empty() {
            let object = arguments.unwrap_or_default();
            check_members(object, params, None, &mut self.values, reply)?;
        }
        Ok(())
    }

    // Handlers call these in many places; `#[inline(never)]` keeps one copy of each.

    /// The integer argument of a parameter.
    #[inline(never)]
    pub fn int(&self, index: usize) -> Option<i64> {
        self.value(index)?.int()
    }

    /// The boolean argument of a parameter.
    #[inline(never)]
    pub fn bool(&self, index: usize) -> Option<bool> {
        self.value(index)?.bool()
    }

    /// The string argument of a parameter.
    #[inline(never)]
    pub fn string(&self, index: usize) -> Option<Str<'a>> {
        self.value(index)?.string()
    }

    /// The argument of a parameter, of the type of the parameter.
    #[inline(never)]
    pub fn value(&self, index: usize) -> Option<Json<'a>> {
        *self.values.get(index)?
    }
}

/// The path of a value within the arguments, such as `mem-blks[0].phys-index`: a chain of names,
/// from the innermost to the outermost.
struct ValuePath<'p> {
    outer: Option<&'p ValuePath<'p>>,
    name: Str<'p>,
    /// The index of the value if `name` is an array, else -1.
    index: i64,
}

impl ValuePath<'_> {
    fn write<'o, 's>(&self, mut error: ErrorWriter<'o, 's>) -> ErrorWriter<'o, 's> {
        if let Some(outer) = self.outer {
            error = outer.write(error).text(".");
        }
        error = error.string(self.name);
        if self.index >= 0 {
            error = error.text("[").number(self.index).text("]");
        }
        error
    }

    /// Fails with a phrase: this path in place of its first `@`, and `other` in place of its
    /// second.
    fn fail(&self, reply: &mut Reply<'_>, phrase: Phrase, other: Str<'_>) -> Failed {
        let text = Text::from(phrase).unpack();
        let mut rest = &*text;
        let error = reply.error().bytes(cut(&mut rest, b'@'));
        let error = self.write(error).bytes(cut(&mut rest, b'@'));
        error.string(other).bytes(rest).end()
    }
}

/// Sorts the members of an object into `values`, in the order of `params`, and checks them.
fn check_members<'a>(
    object: Json<'a>,
    params: PackedList,
    outer: Option<&ValuePath<'_>>,
    values: &mut Values<'a>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    let mut unexpected = None;
    for (name, value) in object.members() {
        match params
            .find(name)
            .and_then(|(index, _)| values.get_mut(index))
        {
            Some(slot) => *slot = Some(value),
            None => unexpected = unexpected.or(Some(name)),
        }
    }
    let mut path = ValuePath {
        outer,
        name: Str::default(),
        index: -1,
    };
    for (param, value) in params.zip(&*values) {
        path.name = Str::ascii(param.name);
        if let Some(value) = value {
            check_value(*value, param.tag, param.body, &path, reply)?;
        } else if param.tag & MANDATORY != 0 {
            return Err(path.fail(reply, Phrase::MissingParameter, Str::default()));
        }
    }
    match unexpected {
        None => Ok(()),
        Some(name) => {
            path.name = name;
            Err(path.fail(reply, Phrase::UnexpectedParameter, Str::default()))
        }
    }
}

fn check_value(
    value: Json<'_>,
    tag: u8,
    body: &'static [u8],
    path: &ValuePath<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    let wanted = tag & KIND;
    let found = value.kind() as u8;
    // The errors of an alternate name the last part of the path only.
    let last = ValuePath {
        outer: None,
        ..*path
    };
    let is_either = tag & EITHER != 0;
    let path = if is_either { &last } else { path };
    if found != wanted {
        let mut expected = (KINDS, wanted);
        if is_either {
            if let Some(word) = value.string() {
                let mut words = body;
                cut(&mut words, b' ');
                if word.word_index(words).is_some() {
                    return Ok(());
                }
                return Err(path.fail(reply, Phrase::UnknownWord, word));
            }
            let is_number = found == JsonType::Unsigned as u8 || found == JsonType::Double as u8;
            if !is_number || wanted != JsonType::Integer as u8 {
                expected = (body, 0);
            }
        } else if wanted == JsonType::Unsigned as u8 {
            if found == JsonType::Integer as u8 {
                return Ok(());
            }
            return Err(path.fail(reply, Phrase::ExpectsUint64, Str::default()));
        }
        let expected = Str::ascii(word_at(expected.0, expected.1));
        return Err(path.fail(reply, Phrase::WrongType, expected));
    }
    if found == JsonType::Object as u8 {
        let mut values = Values::default();
        return check_members(value, PackedList(body), Some(path), &mut values, reply);
    }
    // An array: of strings if its items have no members.
    let kind = match body {
        [] => JsonType::String,
        _ => JsonType::Object,
    };
    for (index, value) in (0..).zip(value.items()) {
        check_value(
            value,
            kind as u8,
            body,
            &ValuePath { index, ..*path },
            reply,
        )?;
    }
    Ok(())
}

/// The word at an index of `words`, which have a blank between two.
fn word_at(words: &[u8], index: u8) -> &[u8] {
    let mut rest = words;
    for _ in 0..index {
        cut(&mut rest, b' ');
    }
    cut(&mut rest, b' ')
}

#[cfg(test)]
mod tests {
    use super::super::receive::receive;
    use super::*;

    static BLOCK: MemberParams = MemberParams(&[
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

    /// The error text for these arguments; empty without an error.
    fn error_of(arguments: &str) -> String {
        let arguments = receive(arguments.as_bytes()).unwrap();
        let mut out = heapless::Vec::<u8, 512>::new();
        let mut reply = Reply::new(&mut out);
        let outcome = Args::none().check(Some(arguments), PackedList::of(PARAMS), &mut reply);
        reply.finish(outcome);
        let text = String::from_utf8(out.to_vec()).unwrap();
        let error = text.split("\"desc\": \"").nth(1);
        error.map_or(String::new(), |error| error.replace("\"}}\n", ""))
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow for Miri")]
    fn errors_name_the_path_of_the_value() {
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
            assert_eq!(error_of(arguments), error, "{arguments}");
        }
    }
}
