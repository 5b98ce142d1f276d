//! Arguments, checked against the parameters of a command before its handler runs.
//!
//! The checks, their order and their words are QAPI's: members in the order of the schema, each for
//! presence, type and what is inside it; then members that nobody expects. Names inside messages are
//! full paths, `mem-blks[0].phys-index`, but for enumerations, which go by their last part.

use super::json::{Json, Kind, Str};
use super::reply::{Failed, Failure, Reply};
use crate::base::limits::PARAMETERS;

/// What a parameter takes.
#[derive(Debug)]
pub enum Type {
    /// An integer within 64 bits with a sign.
    Int,
    /// An integer within 64 bits without a sign; a negative one wraps.
    Uint64,
    /// true or false.
    Bool,
    /// A string.
    Str,
    /// An array.
    List(&'static Type),
    /// An object with these members.
    Object(&'static [Param]),
    /// A number or one of these words, together called by this name.
    NumberOr(&'static [&'static str], &'static str),
    /// A boolean or one of these words, together called by this name.
    BoolOr(&'static [&'static str], &'static str),
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
            Some(value) => check_value(*value, &param.kind, &place, reply)?,
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
    kind: &'static Type,
    place: &Place<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    let found = value.kind();
    let numeric = matches!(found, Kind::Integer | Kind::Unsigned | Kind::Double);
    let expected = match kind {
        Type::Int if found != Kind::Integer => "integer",
        Type::Bool if found != Kind::Bool => "boolean",
        Type::Str if found != Kind::String => "string",
        Type::List(_) if found != Kind::Array => "array",
        Type::Object(_) if found != Kind::Object => "object",
        Type::NumberOr(..) if numeric && found != Kind::Integer => {
            return wrong_type(place.last_name(), "integer", reply);
        }
        Type::NumberOr(_, name) if !numeric && found != Kind::String => {
            return wrong_type(place.last_name(), name, reply);
        }
        Type::BoolOr(_, name) if !matches!(found, Kind::Bool | Kind::String) => {
            return wrong_type(place.last_name(), name, reply);
        }
        Type::Uint64 if !matches!(found, Kind::Integer | Kind::Unsigned) => {
            let error = place.write(reply.fail().text("Parameter '"));
            return Err(error.text("' expects uint64").end());
        }
        _ => return check_inside(value, kind, place, reply),
    };
    let error = place.write(reply.fail().text("Invalid parameter type for '"));
    Err(error.text("', expected: ").text(expected).end())
}

fn wrong_type(name: &str, expected: &str, reply: &mut Reply<'_>) -> Result<(), Failed> {
    let error = reply.fail().text("Invalid parameter type for '").text(name);
    Err(error.text("', expected: ").text(expected).end())
}

/// Checks what is inside a value whose own type is right.
fn check_inside(
    value: Json<'_>,
    kind: &'static Type,
    place: &Place<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Failed> {
    match kind {
        Type::List(item_kind) => {
            for (index, item) in value.items().enumerate() {
                let place = Place {
                    outer: Some(place),
                    step: Step::Item(index),
                };
                check_value(item, item_kind, &place, reply)?;
            }
            Ok(())
        }
        Type::Object(params) => {
            let mut values = Values::default();
            let unexpected = gather(value, params, &mut values);
            check_members(params, &values, unexpected, Some(place), reply)
        }
        Type::NumberOr(words, _) | Type::BoolOr(words, _) => {
            let Some(word) = value.string() else {
                return Ok(());
            };
            if words.iter().any(|known| word.is(known)) {
                return Ok(());
            }
            let error = reply.fail().text("Parameter '").text(place.last_name());
            Err(error
                .text("' does not accept value '")
                .string(word)
                .text("'")
                .end())
        }
        Type::Int | Type::Uint64 | Type::Bool | Type::Str => Ok(()),
    }
}
