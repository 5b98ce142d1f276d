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
pub mod emit;
pub mod frame;
pub mod json;
pub mod reply;
pub mod request;
