//! What clients, jobs and descriptors are called among each other.

use crate::base::limits::{CHILDREN, CLIENTS};
use crate::state::programs::TOKENS;
use static_assertions::const_assert;

/// A client: its place in the list of clients, and which of the clients it is that had this place. A
/// reply that comes late is for nobody then, and not for the next client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientId {
    pub(super) place: u32,
    pub(super) generation: u32,
}

impl ClientId {
    /// The agent itself, which has no place among its clients.
    pub(super) const AGENT: Self = Self {
        place: u32::MAX,
        generation: 0,
    };
}

/// What a descriptor in the poll set belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// The signals of this process.
    Signals,
    /// The kernel's device events.
    Uevents,
    /// The socket that clients come from.
    Listener,
    /// The client at this place.
    Client(usize),
    /// The socket of the child at this place.
    Job(usize),
    /// A program's; the number is known to `state::programs`.
    Program(u64),
}

/// The first client's number; the others follow.
const CLIENT: u64 = 0x100;
/// The first job's number; the others follow.
const JOB: u64 = 0x200;

const_assert!(CLIENT + CLIENTS as u64 <= JOB);
const_assert!(JOB + CHILDREN as u64 <= TOKENS);

impl Token {
    /// Its number in the poll set.
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Signals => 0,
            Self::Uevents => 1,
            Self::Listener => 2,
            Self::Client(place) => CLIENT + place as u64,
            Self::Job(place) => JOB + place as u64,
            Self::Program(number) => number,
        }
    }

    /// The token with this number.
    pub(super) fn of(number: u64) -> Self {
        match number {
            0 => Self::Signals,
            1 => Self::Uevents,
            2 => Self::Listener,
            TOKENS.. => Self::Program(number),
            JOB.. => Self::Job((number - JOB) as usize),
            _ => Self::Client(number.saturating_sub(CLIENT) as usize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_by_its_number() {
        for token in [
            Token::Signals,
            Token::Uevents,
            Token::Listener,
            Token::Client(0),
            Token::Client(CLIENTS - 1),
            Token::Job(0),
            Token::Job(CHILDREN - 1),
            Token::Program(TOKENS),
            Token::Program(TOKENS + 77),
        ] {
            assert_eq!(Token::of(token.number()), token);
        }
    }
}
