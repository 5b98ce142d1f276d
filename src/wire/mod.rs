//! The bytes of the protocol: messages in, replies out. No I/O, no command names.
//!
//! `frame` cuts the input into messages, with `lex` and `check`; `message` has what they find. `json`
//! reads values out of a message, `request` its outer object, `args` the arguments of its command.
//! `emit` writes values, `reply` whole replies.
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
pub mod message;
pub mod reply;
pub mod request;
pub mod texts;

/// For tests: parses text as if a client had sent it.
#[cfg(test)]
pub(crate) mod receive {
    use super::check::Open;
    use super::frame::{Error, Event, Framer, Position};
    use super::json::Json;
    use super::message::Message;
    use super::texts::Phrase;
    use crate::base::packed::Text;
    use crate::base::sink::ByteSink;
    use crate::base::sink::testing::Heap;

    /// The position and the text of an error, without `JSON parse error, `.
    pub(crate) fn words(error: &Error, text: &[u8]) -> String {
        let words = String::from_utf8(Text::from(error.phrase).unpack().to_vec()).unwrap();
        if let Phrase::TokenSizeLimit | Phrase::TokenLimit | Phrase::NestingLimit = error.phrase {
            return words;
        }
        let shown = &text[error.from..error.to];
        assert!(shown.is_empty() || words.contains('@'));
        let words = words.replacen('@', &String::from_utf8_lossy(shown), 1);
        let Position { line, column } = error.position;
        format!("{line}:{column} {words}")
    }

    /// Returns the first value in `text`, or the text of the error.
    pub(crate) fn receive(text: &[u8]) -> Result<Json<'static>, String> {
        receive_message(text).map(|message| Json(message.text))
    }

    /// Returns the first message in `text`, or the text of the error.
    pub(crate) fn receive_message(text: &[u8]) -> Result<Message<'static>, String> {
        let mut open = Open::new();
        let mut framer = Framer::new(&mut open);
        let mut sink = Heap::default();
        let mut event = framer.feed(text, &mut sink).1;
        if event == Event::NeedMore {
            // A number or keyword ends with the next byte.
            event = framer.feed(b" ", &mut sink).1;
        }
        match event {
            Event::NeedMore => Err("too short".into()),
            Event::Message => {
                let members = *framer.message(b"").members;
                Ok(Message {
                    text: sink.0.leak(),
                    members: Box::leak(Box::new(members)),
                })
            }
            Event::Error => Err(words(framer.error(), sink.bytes())),
        }
    }
}
