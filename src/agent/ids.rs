//! The names by which channels, clients, children and descriptors refer to each other.

use crate::base::limits::{CHANNELS, CHILDREN, CLIENTS};
use crate::state::programs::TOKENS;
use static_assertions::const_assert;

/// A channel: its index among the channels, which stay as long as the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChannelId(pub(super) usize);

/// A client: the index of its slot, and which of the clients of this slot it is. A reply to a
/// client that is gone is thus never sent to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl ClientId {
    /// The agent itself, whose own tasks have no client.
    pub(super) const AGENT: Self = Self {
        index: u32::MAX,
        generation: 0,
    };
}

/// The owner of a descriptor in the poll set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// The signals of this process.
    Signals,
    /// The kernel's device events.
    Uevents,
    /// The socket of the ready signal.
    Ready,
    /// A listener: a channel that accepts clients.
    Channel(ChannelId),
    /// The client with this index.
    Client(usize),
    /// The socket of the child with this index.
    Child(usize),
    /// A pipe of a program; `state::programs` gives out the numbers.
    Program(u64),
}

/// The number of the first channel; the others follow.
const CHANNEL: u64 = 0x10;
/// The number of the first client; the others follow.
const CLIENT: u64 = 0x100;
/// The number of the first child; the others follow.
const CHILD: u64 = 0x200;

const_assert!(CHANNEL + CHANNELS as u64 <= CLIENT);
const_assert!(CLIENT + CLIENTS as u64 <= CHILD);
const_assert!(CHILD + CHILDREN as u64 <= TOKENS);

impl Token {
    /// The number that stands for this token in the poll set.
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Signals => 0,
            Self::Uevents => 1,
            Self::Ready => 2,
            Self::Channel(ChannelId(index)) => CHANNEL + index as u64,
            Self::Client(index) => CLIENT + index as u64,
            Self::Child(index) => CHILD + index as u64,
            Self::Program(number) => number,
        }
    }

    /// The token with this number.
    pub(super) fn of(number: u64) -> Self {
        match number {
            0 => Self::Signals,
            1 => Self::Uevents,
            2 => Self::Ready,
            TOKENS.. => Self::Program(number),
            CHILD.. => Self::Child((number - CHILD) as usize),
            CLIENT.. => Self::Client((number - CLIENT) as usize),
            _ => Self::Channel(ChannelId(number.saturating_sub(CHANNEL) as usize)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_of_a_token_leads_back_to_it() {
        for token in [
            Token::Signals,
            Token::Uevents,
            Token::Ready,
            Token::Channel(ChannelId(0)),
            Token::Channel(ChannelId(CHANNELS - 1)),
            Token::Client(0),
            Token::Client(CLIENTS - 1),
            Token::Child(0),
            Token::Child(CHILDREN - 1),
            Token::Program(TOKENS),
            Token::Program(TOKENS + 77),
        ] {
            assert_eq!(Token::of(token.number()), token);
        }
    }
}
