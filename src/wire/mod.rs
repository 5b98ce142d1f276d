//! The protocol's bytes: messages in, replies out. No I/O, and no command names.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

pub mod args;
pub mod check;
pub mod emit;
pub mod frame;
pub mod json;
mod lex;
pub mod reply;
pub mod request;

/// For tests: what a client sends, received as the agent receives it.
#[cfg(test)]
pub(crate) mod receive {
    use super::check::Open;
    use super::frame::{Error, Event, Framer, Position};
    use super::json::Json;
    use crate::base::store::Store;
    use crate::base::store::testing::Heap;
    use crate::base::texts::{Phrase, phrase};

    /// What the client is told of an error.
    pub(crate) fn words(error: &Error, text: &[u8]) -> String {
        let words = String::from_utf8(phrase(error.what).to_vec()).unwrap();
        if let Phrase::TokenSizeLimit | Phrase::TokenLimit | Phrase::NestingLimit = error.what {
            return words;
        }
        let shown = &text[error.from..error.to];
        assert!(shown.is_empty() || words.contains('@'));
        let words = words.replacen('@', &String::from_utf8_lossy(shown), 1);
        let Position { line, column } = error.position;
        format!("{line}:{column} {words}")
    }

    /// The first value in `text`, or what is wrong with it.
    pub(crate) fn receive(text: &[u8]) -> Result<Json<'static>, String> {
        let mut keys = Open::new();
        let mut framer = Framer::new(&mut keys);
        let mut store = Heap::default();
        let mut event = framer.feed(text, &mut store).1;
        if event == Event::NeedMore {
            // A number or keyword ends with the next byte.
            event = framer.feed(b" ", &mut store).1;
        }
        match event {
            Event::NeedMore => Err("too short".into()),
            Event::Message => Ok(Json::of_message(store.0.leak())),
            Event::Error => Err(words(framer.error(), store.bytes())),
        }
    }
}
