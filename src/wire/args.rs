//! Arguments, checked against the parameters of a command before its handler runs.
//!
//! The checks, their order and their words are QAPI's: members in the order of the schema, each for
//! presence, type and what is inside it; then members that nobody expects. Names inside messages are
//! full paths, `mem-blks[0].phys-index`, but for enumerations, which go by their last part.

use super::json::{Json, Kind, Str};
use super::reply::{Failed, Failure, Reply};
use crate::base::limits::PARAMETERS;

/// What a parameter takes.
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
    /// The other type.
    pub other: Other,
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

/// A parameter that may be left out.
pub const fn may(name: &'static str, kind: Type) -> Param {
    Param {
        name,
        kind,
        mandatory: false,
    }
}

/// The arguments of a request, proven to be what the command's parameters say.
pub struct Args<'a> {
    params: &'static [Param],
    values: Values<'a>,
}

type Values<'a> = [Option<Json<'a>>; PARAMETERS];

impl<'a> Args<'a> {
    /// No arguments.
    pub fn none() -> Self {
        Self {
            params: &[],
            values: Values::default(),
        }
    }

    /// The integer given for `name`.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.value(name)?.int()
    }

    /// The boolean given for `name`.
    pub fn bool(&self, name: &str) -> Option<bool> {
        self.value(name)?.bool()
    }

    /// The string given for `name`.
    pub fn string(&self, name: &str) -> Option<Str<'a>> {
        self.value(name)?.string()
    }

    /// The value given for `name`, of the type its parameter has.
    pub fn value(&self, name: &str) -> Option<Json<'a>> {
        let place = self.params.iter().position(|param| param.name == name)?;
        *self.values.get(place)?
    }
}

/// Checks `arguments` against `params`.
pub fn check<'a>(
    arguments: Option<Json<'a>>,
    params: &'static [Param],
    reply: &mut Reply<'_>,
) -> Result<Args<'a>, Failed> {
    let mut values = Values::default();
    if let Some(object) = arguments {
        let unexpected = gather(object, params, &mut values);
        check_members(params, &values, unexpected, None, reply)?;
    } else {
        check_members(params, &values, None, None, reply)?;
    }
    Ok(Args { params, values })
}

/// Where in the arguments a value stands, as a chain of names and positions up to the outermost.
struct Place<'p> {
    outer: Option<&'p Place<'p>>,
    step: Step<'p>,
}

enum Step<'p> {
    Member(&'p str),
    Stranger(Str<'p>),
    Item(usize),
}

impl Place<'_> {
    fn write<'f>(&self, failure: Failure<'f>) -> Failure<'f> {
        let failure = match self.outer {
            Some(outer) => outer.write(failure),
            None => failure,
        };
        let dot = if self.outer.is_some() { "." } else { "" };
        match self.step {
            Step::Member(name) => failure.text(dot).text(name),
            Step::Stranger(name) => failure.text(dot).string(name),
            Step::Item(index) => {
                let index = i64::try_from(index).unwrap_or(i64::MAX);
                failure.text("[").number(index).text("]")
            }
        }
    }

    /// The last name, which is all that errors of enumerations tell.
    fn last_name(&self) -> &str {
        match (&self.step, self.outer) {
            (Step::Member(name), _) => name,
            (_, Some(outer)) => outer.last_name(),
            (_, None) => "",
        }
    }
}

/// Sorts the members of an object by parameter; gives the first that fits none.
fn gather<'a>(object: Json<'a>, params: &[Param], values: &mut Values<'a>) -> Option<Str<'a>> {
    let mut unexpected = None;
    for (name, value) in object.members() {
        let place = params.iter().position(|param| name.is(param.name));
        match place.and_then(|place| values.get_mut(place)) {
            Some(slot) => *slot = Some(value),
            None => unexpected = unexpected.or(Some(name)),
        }
    }
    unexpected
}

fn check_members(
    params: &'static [Param],
    values: &Values<'_>,
    unexpected: Option<Str<'_>>,
    outer: Option<&Place<'_>>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    for (param, value) in params.iter().zip(values) {
        let place = Place {
            outer,
            step: Step::Member(param.name),
        };
        match value {
            Some(value) => check_value(*value, param.kind, &place, reply)?,
            None if param.mandatory => {
                let error = place.write(reply.fail().text("Parameter '"));
                return Err(error.text("' is missing").end());
            }
            None => {}
        }
    }
    let Some(name) = unexpected else {
        return Ok(());
    };
    let place = Place {
        outer,
        step: Step::Stranger(name),
    };
    Err(place
        .write(reply.fail().text("Parameter '"))
        .text("' is unexpected")
        .end())
}

fn check_value(
    value: Json<'_>,
    kind: Type,
    place: &Place<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    let found = value.kind();
    let (wanted, expected) = match kind {
        Type::Int => (Kind::Integer, "integer"),
        Type::Bool => (Kind::Bool, "boolean"),
        Type::Str => (Kind::String, "string"),
        Type::Object(_) => (Kind::Object, "object"),
        Type::Strings | Type::Objects(_) => (Kind::Array, "array"),
        Type::Uint64 if matches!(found, Kind::Integer | Kind::Unsigned) => return Ok(()),
        Type::Uint64 => {
            let error = place.write(reply.fail().text("Parameter '"));
            return Err(error.text("' expects uint64").end());
        }
        Type::Either(alternate) => return check_alternate(value, found, alternate, place, reply),
    };
    if found != wanted {
        let error = place.write(reply.fail().text(WRONG_TYPE));
        return Err(error.text(EXPECTED).text(expected).end());
    }
    let item = match kind {
        Type::Strings => Type::Str,
        Type::Objects(members) => Type::Object(members),
        Type::Object(members) => {
            let mut values = Values::default();
            let unexpected = gather(value, members.0, &mut values);
            return check_members(members.0, &values, unexpected, Some(place), reply);
        }
        _ => return Ok(()),
    };
    for (index, value) in value.items().enumerate() {
        let place = Place {
            outer: Some(place),
            step: Step::Item(index),
        };
        check_value(value, item, &place, reply)?;
    }
    Ok(())
}

const WRONG_TYPE: &str = "Invalid parameter type for '";
const EXPECTED: &str = "', expected: ";

/// Checks a value of either of two types. Errors name it by its last name alone.
fn check_alternate(
    value: Json<'_>,
    found: Kind,
    alternate: &Alternate,
    place: &Place<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    let name = place.last_name();
    let expected = match (found, alternate.other) {
        (Kind::Integer, Other::Int) | (Kind::Bool, Other::Bool) => return Ok(()),
        (Kind::Unsigned | Kind::Double, Other::Int) => "integer",
        (Kind::String, _) => "",
        _ => alternate.name,
    };
    let Some(word) = value.string() else {
        let error = reply.fail().text(WRONG_TYPE).text(name);
        return Err(error.text(EXPECTED).text(expected).end());
    };
    let mut words = alternate.words.split(' ');
    if words.any(|known| word.is(known)) {
        return Ok(());
    }
    let error = reply.fail().text("Parameter '").text(name);
    let error = error.text("' does not accept value '").string(word);
    Err(error.text("'").end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json;

    static BLOCK: Members = Members(&[
        must("phys-index", Type::Uint64),
        must("online", Type::Bool),
        may("can-offline", Type::Bool),
    ]);
    static WHENCE: Alternate = Alternate {
        name: "GuestFileWhence",
        words: "set cur end",
        other: Other::Int,
    };
    static CAPTURE: Alternate = Alternate {
        name: "GuestExecCaptureOutput",
        words: "none stdout",
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
        let arguments = json::check(arguments.as_bytes()).unwrap();
        let mut out = heapless::Vec::<u8, 512>::new();
        let mut reply = Reply::new(&mut out, None);
        let outcome = check(Some(arguments), PARAMS, &mut reply).map(|_| ());
        reply.finish(outcome);
        let text = String::from_utf8(out.to_vec()).unwrap();
        let error = text.split("\"desc\": \"").nth(1);
        error.map_or(String::new(), |error| error.replace("\"}}\n", ""))
    }

    #[test]
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
